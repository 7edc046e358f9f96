# SPDX-License-Identifier: MIT
"""Networks as training begins them, before the first step; each is made once and kept in a folder."""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from netvlad_ros.commands.train import render_worlds
from netvlad_ros.evaluation.baselines.rootsift_vlad import RootSiftVlad
from netvlad_ros.evaluation.baselines.vocabulary import MAX_IMAGES
from netvlad_ros.model.editing import with_whitening
from netvlad_ros.model.network import NetVLADNetwork, load_model, save_model
from netvlad_ros.model.whitening import Whitening, fit_place_whitening, fit_whitening
from netvlad_ros.training.config import TrainingConfig, load_training_config
from netvlad_ros.training.data import open_data
from netvlad_ros.training.initial import begin_clusters, described_places, initial_network
from netvlad_ros.training.trainer import Listener, train

# What has no part in a beginning.
_LATER = {name: getattr(TrainingConfig(), name) for name in ("loss", "optimiser", "mining", "run")}
# Nor in clusters, which are of images as they are.
_OF_PAIRS = {
    name: getattr(TrainingConfig(), name) for name in ("tuples", "augmentation", "initial")
}


@dataclasses.dataclass(frozen=True)
class Beginnings:
    """What is fitted to rendered worlds.

    recipe, settings: of all that is made.
    """

    folder: Path
    recipe: Path
    settings: tuple[str, ...]

    def config(self, *settings: str) -> TrainingConfig:
        """The recipe with some values changed. Raises ConfigError."""
        return load_training_config(self.recipe, [*self.settings, *settings])

    def of_worlds(self, worlds: int) -> TrainingConfig:
        """The recipe with so many worlds, but as many images and local descriptors to fit to for each number.

        Augmentation makes more than one image of each picture; clusters take more from each instead.
        """
        config = self.config(f"data.worlds={worlds}")
        data, tuples = config.data, config.tuples
        pictures = (
            worlds * data.groups_per_world * (1 + data.world_positives + data.world_negatives)
        )
        enough = math.ceil(config.clusters.descriptors / pictures)
        return self.config(
            f"data.worlds={worlds}",
            f"clusters.per_image={max(config.clusters.per_image, enough)}",
            f"tuples.tuples_per_batch={min(tuples.tuples_per_batch, worlds - 1)}",
        )

    def rootsift_vlad(self) -> RootSiftVlad:
        """OpenCV's, with a vocabulary of the same worlds."""
        config = self.config()
        images = open_data(config, self.folder, render_worlds).images(config.run.seed)
        return RootSiftVlad(itertools.islice(images, MAX_IMAGES))

    def clusters_only(self, config: TrainingConfig) -> Path:
        """Its descriptors are as long as the clusters give them."""
        bare = dataclasses.replace(
            config,
            network=dataclasses.replace(config.network, whitening_dims=0),
            **_LATER,
            **_OF_PAIRS,
        )
        return self._kept(bare, "clusters", lambda: self._clustered(bare))

    def with_pca(self, config: TrainingConfig) -> Path:
        """Also a whitening by principal components."""
        dims = config.network.whitening_dims
        return self._whitened(config, "pca", lambda found, _: fit_whitening(found, dims))

    def with_places(self, config: TrainingConfig) -> Path:
        """Also a whitening that makes images of one place alike, as training begins."""
        dims = config.network.whitening_dims
        return self._whitened(
            config, "places", lambda found, places: fit_place_whitening(found, places, dims)
        )

    def trained(self, config: TrainingConfig, listener: Listener) -> Path:
        """The folder of a run; one that was interrupted goes on."""
        run = self.folder / f"run-{_digest(config)}"
        if not (run / "finished").is_file():
            train(config, run, listener, render_worlds, resume=True)
            (run / "finished").touch()
        return run

    def _clustered(self, config: TrainingConfig) -> NetVLADNetwork:
        network = initial_network(config)
        data = open_data(config, self.folder, render_worlds)
        begin_clusters(network, data, config)
        data.source.close()
        return network

    def _whitened(
        self,
        config: TrainingConfig,
        kind: str,
        fit: Callable[[np.ndarray, np.ndarray], Whitening],
    ) -> Path:
        begun = dataclasses.replace(config, **_LATER)
        bare = self.clusters_only(config)

        def make() -> NetVLADNetwork:
            return with_whitening(load_model(bare), fit(*self._described(begun, bare)))

        return self._kept(begun, kind, make)

    def _described(self, config: TrainingConfig, bare: Path) -> tuple[np.ndarray, np.ndarray]:
        path = self.folder / f"descriptors-{_digest(config)}.npz"
        if not path.is_file():
            data = open_data(config, self.folder, render_worlds)
            found = described_places(load_model(bare), data.source, config.initial.whitening_images)
            data.source.close()
            np.savez(path, descriptors=found[0], places=found[1])
        with np.load(path) as file:
            return file["descriptors"], file["places"]

    def _kept(self, config: TrainingConfig, kind: str, make: Callable[[], NetVLADNetwork]) -> Path:
        path = self.folder / f"{kind}-{_digest(config)}.keras"
        if not path.is_file():
            save_model(make(), path)
        return path


def _digest(config: TrainingConfig) -> str:
    """Of the values that differ from the defaults; delete the folder after a change of the code."""
    values, usual = dataclasses.asdict(config), dataclasses.asdict(TrainingConfig())
    chosen = {
        f"{part}.{name}": value
        for part, section in values.items()
        for name, value in section.items()
        if value != usual[part][name]
    }
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:8]
