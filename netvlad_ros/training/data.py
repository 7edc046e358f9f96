# SPDX-License-Identifier: MIT
"""From the words of a configuration to what is learned from and what is validated with."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netvlad_ros.data.places import PlaceDataset
from netvlad_ros.data.read_places import read_places
from netvlad_ros.data.shards import Shard, is_shard_folder, read_shards
from netvlad_ros.training.augmentation import augmented
from netvlad_ros.training.batches import BatchSource, TrainingBatch
from netvlad_ros.training.config import WORLDS, DataConfig, TrainingConfig
from netvlad_ros.training.image_samples import SkippedImages, place_images, rendered_images
from netvlad_ros.training.mining import mined_tuples
from netvlad_ros.training.prefetch import PreparedBatches
from netvlad_ros.training.rendered import RenderedTuples
from netvlad_ros.training.validation import PlaceValidation, RenderedValidation, Validation

_log = logging.getLogger(__name__)

# From the configuration, a number of worlds and the seed of the first to their shards. Given by who trains,
# such as the command, because training does not know the renderer.
RenderWorlds = Callable[[DataConfig, int, int], list[Shard]]


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


def open_data(config: TrainingConfig, folder: Path, render: RenderWorlds) -> TrainingData:
    """Reads, or has rendered.

    folder: of the run, where descriptors are kept that are mined from.
    Raises NetVLADError.
    """
    data = config.data
    if data.source == WORLDS:
        validation = _validation(config, render)
        return _of_shards(config, render(data, data.worlds, data.first_seed), validation)
    if is_shard_folder(Path(data.source)):
        return _of_shards(config, read_shards(Path(data.source)), _validation(config, render))
    # First of all, as worlds to validate with may have to be rendered.
    dataset = _places(data, data.source)
    return _of_places(dataset, config, _validation(config, render), folder)


def _of_shards(
    config: TrainingConfig, shards: list[Shard], validation: Validation | None
) -> TrainingData:
    source = RenderedTuples(
        shards,
        config.tuples.tuples_per_batch,
        config.tuples.positives,
        config.tuples.negatives,
        config.run.seed,
    )
    return TrainingData(
        _prepared(source, config), validation, lambda seed: rendered_images(shards, seed)
    )


def _of_places(
    dataset: PlaceDataset, config: TrainingConfig, validation: Validation | None, folder: Path
) -> TrainingData:
    size_px = (config.data.image_width_px, config.data.image_height_px)
    return TrainingData(
        _prepared(mined_tuples(dataset, config, folder), config),
        validation,
        lambda seed: place_images(dataset.database, size_px, seed, SkippedImages()),
    )


def _prepared(source: BatchSource, config: TrainingConfig) -> PreparedBatches:
    """With its images changed, made in the background."""
    level, seed = config.augmentation.level, config.run.seed

    def prepare(batch: TrainingBatch, step: int) -> TrainingBatch:
        return augmented(batch, level, seed, step)

    return PreparedBatches(source, prepare, config.data.read_ahead, config.data.read_threads)


def _validation(config: TrainingConfig, render: RenderWorlds) -> Validation | None:
    data = config.data
    if not data.validation:
        return None
    if data.validation == WORLDS:
        return RenderedValidation(render(data, data.validation_worlds, data.validation_first_seed))
    if is_shard_folder(Path(data.validation)):
        return RenderedValidation(read_shards(Path(data.validation)))
    size_px = (data.image_width_px, data.image_height_px)
    return PlaceValidation(_places(data, data.validation), size_px)


def _places(config: DataConfig, path: str) -> PlaceDataset:
    dataset = read_places(path)
    for note in dataset.notes:
        _log.info("%s: %s", dataset.name, note)
    return dataset.with_radius(config.positive_radius_m) if config.positive_radius_m else dataset
