# SPDX-License-Identifier: MIT
"""Training from the first batch to the finished model, in the order in which it happens."""

import itertools
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np

from netvlad_ros.errors import TrainingError
from netvlad_ros.model.editing import with_whitening, without_whitening
from netvlad_ros.model.forward import compile_forward
from netvlad_ros.model.network import NetVLADNetwork, save_model
from netvlad_ros.model.whitening import Whitening, fit_place_whitening, fit_whitening
from netvlad_ros.training.batches import TrainingBatch
from netvlad_ros.training.checkpoints import Progress, read_checkpoint, write_checkpoint
from netvlad_ros.training.config import TrainingConfig, to_yaml
from netvlad_ros.training.data import RenderWorlds, TrainingData, open_data
from netvlad_ros.training.distribution import (
    is_chief,
    of_first_replica,
    open_strategy,
    share_variables,
)
from netvlad_ros.training.freezing import freeze
from netvlad_ros.training.initial import (
    begin_clusters,
    begin_whitening,
    described_places,
    fit_batch_statistics,
    initial_network,
    single,
)
from netvlad_ros.training.monitor import Monitor, Silence
from netvlad_ros.training.optimisers import learning_rate, make_optimiser
from netvlad_ros.training.step import TrainingStep

CONFIG, MODEL = "config.yaml", "model.keras"
LATEST, BEST = Path("checkpoints/latest.npz"), Path("checkpoints/best.npz")
SELECTING_N = 5  # as in pytorch-NetVlad, the best network is that of the best Recall@5
STATISTICS_BATCHES, STATISTICS_IMAGES = 8, 8


class Listener(Protocol):
    """Who is told how it goes; may ask to stop."""

    def said(self, sentence: str) -> None:
        """What has happened."""
        ...

    def stepped(self, step: int, last_step: int, loss: float) -> None:
        """A step was taken."""
        ...

    def wants_to_stop(self) -> bool:
        """Asked after each step; what was learned is kept."""
        ...


def train(
    config: TrainingConfig,
    folder: Path,
    listener: Listener,
    render: RenderWorlds,
    resume: bool = False,
) -> None:
    """Trains a network and leaves it in folder/model.keras, with everything that a resumed run needs.

    render: where rendered worlds come from; not called if the configuration names none.
    resume: goes on from the latest checkpoint, if there is one. Raises NetVLADError.
    """
    run = _Run(config, folder, listener, render, resume)
    if resume and (folder / LATEST).is_file():
        run.resume()
    else:
        run.begin()
    with closing(run):
        while not run.is_over:
            run.refresh_if_due()
            for batch, waited_s in run.batches_until(run.next_event):
                run.learn(batch, waited_s)
                if listener.wants_to_stop():
                    run.keep()
                    return
            run.validate_if_due()
            run.keep_if_due()
        run.finish()


class _Run:
    """What one run consists of.

    progress: how far it is; monitor: its log.
    """

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        listener: Listener,
        render: RenderWorlds,
        resume: bool,
    ) -> None:
        strategy = open_strategy()
        self._config, self._folder, self._listener = config, folder, listener
        self._strategy, self._is_chief = strategy, is_chief(strategy)
        _prepare_folder(folder, config, resume, self._is_chief)
        with strategy.scope():
            self._model = initial_network(config)
            freeze(self._model, config.initial.frozen_up_to)
            self._optimiser = make_optimiser(config.optimiser, config.run.precision)
        self._data: TrainingData = open_data(config, folder, render)  # may render for long
        self._step = TrainingStep(self._model, self._optimiser, config, strategy)
        self._forward = compile_forward(self._model, "auto")
        self._epoch_steps = config.run.steps_per_epoch or self._data.source.steps_per_epoch
        self._last_step = self._epoch_steps * config.run.epochs
        self.progress = Progress()

    def begin(self) -> None:
        """Sets what can be computed, and measures what the network can do before it learns."""
        if not self._config.initial.model:
            fit_batch_statistics(self._model, self._some_batches())
        if self._sets_clusters:
            self._initialise_clusters()
            self._initialise_whitening()
        share_variables(self._strategy, self._model.weights)
        self.monitor = self._monitor(0)
        self._validate()
        self.keep()

    def resume(self) -> None:
        """Goes on as if it had never ended."""
        checkpoint = read_checkpoint(self._folder / LATEST)
        checkpoint.restore(self._model, self._optimiser)
        self._data.source.restore(checkpoint.source)
        self.progress = checkpoint.progress
        self.progress.finished = self.progress.step >= self._last_step
        self.monitor = self._monitor(self.progress.step)
        self._listener.said(f"resumed after step {self.progress.step} of {self._last_step}")

    def close(self) -> None:
        """Ends reading ahead and the log."""
        self._data.source.close()
        self.monitor.close()

    @property
    def is_over(self) -> bool:
        """Whether the last epoch is done, or patience is at its end."""
        patience = self._config.run.patience_epochs
        tired = bool(patience) and self.progress.worse_epochs >= patience
        return tired or self.progress.step >= self._last_step

    @property
    def next_event(self) -> int:
        """The step before which something else than learning is due."""
        run, source = self._config.run, self._data.source
        every = (run.checkpoint_every_steps, self._epoch_steps, source.refresh_every_steps)
        step = self.progress.step
        return min([self._last_step, *(step + n - step % n for n in every if n)])

    def refresh_if_due(self) -> None:
        """Before a step that the source's interval divides."""
        every = self._data.source.refresh_every_steps
        if every and self.progress.step % every == 0:
            self._data.source.refresh(self._model, self.progress.step)

    def batches_until(self, end: int) -> Iterator[tuple[TrainingBatch, float]]:
        """The batches of the steps up to this one, each with how long it was waited for, in seconds."""
        batches = self._data.source.batches(self.progress.step)
        while self.progress.step < end:
            asked_s = time.monotonic()
            batch = next(batches)
            yield batch, time.monotonic() - asked_s

    def learn(self, batch: TrainingBatch, waited_s: float) -> None:
        """One step, and a line in the log."""
        step, started_s = self.progress.step, time.monotonic()
        rate = self._learning_rate()
        figures = self._step(batch, rate)
        worked_s = time.monotonic() - started_s
        self.progress.step += 1
        self.monitor.step(
            step,
            figures
            | {
                "learning_rate": rate,
                "images_per_s": len(batch.flat_images) / (worked_s + waited_s),
                "idle_share": waited_s / (worked_s + waited_s),
            },
        )
        if _is_due(self.progress.step, self._config.run.pictures_every_steps):
            self.monitor.pictures(step, batch, self._model)
        self._listener.stepped(self.progress.step, self._last_step, figures["loss"])

    def validate_if_due(self) -> None:
        """After an epoch."""
        if _is_due(self.progress.step, self._epoch_steps * self._config.run.validate_every_epochs):
            self._validate()

    def keep_if_due(self) -> None:
        """After so many steps, and after an epoch, so that no validation has to be repeated."""
        every = (self._config.run.checkpoint_every_steps, self._epoch_steps, self._last_step)
        if any(_is_due(self.progress.step, n) for n in every):
            self.keep()

    def keep(self) -> None:
        """Writes the latest checkpoint."""
        state = self._data.source.state(self.progress.step)
        if self._is_chief:
            write_checkpoint(
                self._folder / LATEST, self._model, self._optimiser, self.progress, state
            )

    def finish(self) -> None:
        """Writes the best network, with a whitening if one is wanted."""
        if not self._is_chief:
            return
        if self._data.validation is None:
            self._keep_best()
        dims = self._config.run.whitening_dims
        if dims:
            self._whiten(dims)
        self.progress.finished = True
        self._listener.said(f"the best network is that after {self.progress.best_step} steps")
        self._listener.said(str(self._folder / MODEL))

    def _monitor(self, first_step: int) -> Monitor | Silence:
        return Monitor(self._folder, first_step) if self._is_chief else Silence()

    @property
    def _sets_clusters(self) -> bool:
        if self._model.network.pooling != "netvlad":
            return False
        initial, initialise = self._config.initial, self._config.clusters.initialise
        starts_whole = bool(initial.model) and initial.take == "all"
        return initialise == "always" or (initialise == "auto" and not starts_whole)

    def _some_batches(self) -> Iterator[np.ndarray]:
        images = self._data.images(self._config.run.seed)
        for _ in range(STATISTICS_BATCHES):
            batch = list(itertools.islice(images, STATISTICS_IMAGES))
            if len(batch) == STATISTICS_IMAGES:
                yield np.stack(batch)

    def _initialise_clusters(self) -> None:
        clusters, count = begin_clusters(self._model, self._data, self._config)
        self._listener.said(
            f"{len(clusters.centres)} clusters of {count} local descriptors, alpha {clusters.alpha:.3g}"
        )

    def _initialise_whitening(self) -> None:
        begins = self._config.initial.whitening == "places"
        if begins and self._model.network.whitening_dims:
            places = begin_whitening(self._model, self._data, self._config)
            self._listener.said(f"a whitening of {places} places")

    def _learning_rate(self) -> float:
        return learning_rate(
            self._config.optimiser,
            self.progress.step,
            self._epoch_steps,
            self._config.run.epochs,
            self.progress.plateaus,
        )

    def _validate(self) -> None:
        if self._data.validation is None:
            return
        found = self._data.validation.recalls(self._forward)
        recalls = {n: of_first_replica(self._strategy, value) for n, value in found.items()}
        step, progress = self.progress.step, self.progress
        self.monitor.recalls(step, recalls)
        is_best = recalls[SELECTING_N] > progress.best_recall
        note = ", the best so far" if is_best else ""
        self._listener.said(f"step {step}: {_shown(recalls)}{note}")
        if is_best:
            progress.best_recall, progress.best_step = recalls[SELECTING_N], step
            progress.worse_epochs = 0
            self._keep_best()
            return
        progress.worse_epochs += self._config.run.validate_every_epochs
        if _is_due(progress.worse_epochs, self._config.optimiser.lr_step_epochs):
            progress.plateaus += 1

    def _keep_best(self) -> None:
        """The checkpoint, and the model file, so that it's there whenever the run ends."""
        if self._is_chief:
            self.progress.best_step = self.progress.step
            write_checkpoint(self._folder / BEST, self._model, self._optimiser, self.progress)
            save_model(single(self._model), self._folder / MODEL)

    def _whiten(self, dims: int) -> None:
        """Fits it to images of the training, in the best network."""
        best = single(self._model)
        read_checkpoint(self._folder / BEST).restore_network(best)
        bare = without_whitening(best)
        whitened = with_whitening(bare, self._fitted(bare, dims))
        save_model(whitened, self._folder / MODEL)
        self._listener.said(f"a whitening to {dims} dimensions")
        if self._data.validation is not None:
            recalls = self._data.validation.recalls(compile_forward(whitened, "auto"))
            self._listener.said(f"with it: {_shown(recalls)}")

    def _fitted(self, bare: NetVLADNetwork, dims: int) -> Whitening:
        """From images of the training, which the network without a whitening describes."""
        run = self._config.run
        if run.whitening == "places":
            return fit_place_whitening(
                *described_places(bare, self._data.source, run.whitening_images), dims
            )
        forward = compile_forward(bare, "auto")
        images = itertools.islice(self._data.images(run.seed + 1), run.whitening_images)
        return fit_whitening(np.concatenate([forward(image[None]) for image in images]), dims)


def _shown(recalls: Mapping[int, float]) -> str:
    return "Recall " + ", ".join(f"@{n} {value:.3f}" for n, value in recalls.items())


def _is_due(step: int, every: int) -> bool:
    return bool(every) and step > 0 and step % every == 0


def _prepare_folder(folder: Path, config: TrainingConfig, resume: bool, is_chief: bool) -> None:
    """Raises TrainingError for the folder of another run."""
    if (folder / LATEST).exists() and not resume:
        raise TrainingError(
            f"{folder}: holds a training run; go on with it by --resume, or choose another folder."
        )
    if not is_chief:
        return
    try:
        (folder / LATEST).parent.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{CONFIG}.{os.getpid()}"
        partial.write_text(to_yaml(config), encoding="utf-8")
        partial.replace(folder / CONFIG)
    except OSError as error:
        raise TrainingError(f"{folder}: can't write there ({error.strerror or error}).") from None
