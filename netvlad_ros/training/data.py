# SPDX-License-Identifier: MIT
"""From the words of a configuration to what is learned from and what is validated with."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.cache import cache_folder
from netvlad_ros.data.places import PlaceDataset
from netvlad_ros.data.read_places import read_places
from netvlad_ros.errors import WorldError
from netvlad_ros.training.augmentation import augmented
from netvlad_ros.training.batches import BatchSource, TrainingBatch
from netvlad_ros.training.config import WORLDS, DataConfig, TrainingConfig
from netvlad_ros.training.image_samples import Skipped, place_images, rendered_images
from netvlad_ros.training.prefetch import PreparedBatches
from netvlad_ros.training.rendered import RenderedTuples
from netvlad_ros.training.shards import Rendering, Shard, render_missing, shards
from netvlad_ros.training.validation import PlaceValidation, RenderedValidation, Validation
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.groups import GroupConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """What a run takes.

    source:     of batches, augmented, read ahead.
    validation: None if there is none.
    images:     with a seed, single images in a random order, uint8 RGB (H, W, 3), that clusters and the
                whitening are fitted to.
    """

    source: PreparedBatches
    validation: Validation | None
    images: Callable[[int], Iterator[np.ndarray]]


def open_data(config: TrainingConfig, folder: Path) -> TrainingData:
    """Reads or renders.

    folder: of the run, where descriptors are kept that are mined from.
    Raises NetVLADError.
    """
    if config.data.source == WORLDS:
        return _of_worlds(config, _validation(config))
    # First of all, as worlds to validate with may have to be rendered.
    dataset = _places(config.data, config.data.source)
    return _of_places(dataset, config, _validation(config), folder)


def rendering(config: DataConfig, worlds: int, first_seed: int) -> Rendering:
    """So many worlds as the configuration wants them."""
    return Rendering(
        worlds,
        config.groups_per_world,
        config.kinds,
        first_seed,
        Camera(config.image_width_px, config.image_height_px),
        GroupConfig(config.world_positives, config.world_negatives),
    )


def _of_worlds(config: TrainingConfig, validation: Validation | None) -> TrainingData:
    rendered = _rendered(config.data, config.data.worlds, config.data.first_seed)
    source = RenderedTuples(
        rendered,
        config.tuples.tuples_per_batch,
        config.tuples.positives,
        config.tuples.negatives,
        config.run.seed,
    )
    return TrainingData(
        _prepared(source, config), validation, lambda seed: rendered_images(rendered, seed)
    )


def _of_places(
    dataset: PlaceDataset, config: TrainingConfig, validation: Validation | None, folder: Path
) -> TrainingData:
    from netvlad_ros.training.mining import mined_tuples

    size_px = (config.data.image_width_px, config.data.image_height_px)
    return TrainingData(
        _prepared(mined_tuples(dataset, config, folder), config),
        validation,
        lambda seed: place_images(dataset.database, size_px, seed, Skipped()),
    )


def _prepared(source: BatchSource, config: TrainingConfig) -> PreparedBatches:
    """With its images changed, made in the background."""
    level, seed = config.augmentation.level, config.run.seed

    def prepare(batch: TrainingBatch, step: int) -> TrainingBatch:
        return augmented(batch, level, seed, step)

    return PreparedBatches(source, prepare, config.data.read_ahead, config.data.read_threads)


def _validation(config: TrainingConfig) -> Validation | None:
    data = config.data
    if not data.validation:
        return None
    if data.validation == WORLDS:
        return RenderedValidation(
            _rendered(data, data.validation_worlds, data.validation_first_seed)
        )
    size_px = (data.image_width_px, data.image_height_px)
    return PlaceValidation(_places(data, data.validation), size_px)


def _places(config: DataConfig, path: str) -> PlaceDataset:
    dataset = read_places(path)
    for note in dataset.notes:
        _log.info("%s: %s", dataset.name, note)
    return dataset.with_radius(config.positive_radius_m) if config.positive_radius_m else dataset


def _rendered(config: DataConfig, worlds: int, first_seed: int) -> list[Shard]:
    wanted = rendering(config, worlds, first_seed)
    folder = Path(config.cache_folder) if config.cache_folder else cache_folder()
    for number, done in enumerate(render_missing(wanted, folder, config.workers), start=1):
        _log.info("rendered %s, %d of at most %d", done.world, number, worlds)
    found = shards(wanted, folder)
    if not found:
        raise WorldError(f"{folder}: none of {worlds} worlds could be rendered.")
    return found
