# SPDX-License-Identifier: MIT
"""What is to be evaluated, from a word of the command line: a model file, or a baseline by its name."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from netvlad_ros.config import ExtractorConfig
from netvlad_ros.data.places import PlaceImages
from netvlad_ros.data.read_places import read_sequence
from netvlad_ros.errors import DatasetError, ImageError
from netvlad_ros.evaluation.baselines.baseline import Baseline
from netvlad_ros.evaluation.baselines.orb_words import OrbWords
from netvlad_ros.evaluation.baselines.rootsift_vlad import RootSiftVlad
from netvlad_ros.evaluation.baselines.thumbnails import Thumbnails
from netvlad_ros.evaluation.baselines.vocabulary import MAX_IMAGES
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.shipped import model_path

PREFIX = "baseline:"
KERAS = ".keras"  # whose fingerprint is made of the weights themselves
# Those that learn a vocabulary.
LEARNING: dict[str, Callable[[Iterator[np.ndarray]], Baseline]] = {
    "rootsift-vlad": RootSiftVlad,
    "orb": OrbWords,
}
NAMES = ("thumbnails", *LEARNING)


class ModelUnderTest(NetVLADExtractor):
    """An extractor whose descriptors are kept apart from those of its model in other files.

    An exported file has the fingerprint of the model it was made of, since their descriptors can be compared.
    An evaluation is to find out how well.
    """

    def __init__(self, model: Path, config: ExtractorConfig) -> None:
        super().__init__(model, config)
        file = self.choice.path
        if file.suffix != KERAS:
            self.fingerprint += f" in {file.name}:{_digest(file)}"
        self.warm_up()


def _digest(model: Path) -> str:
    """Of the content of a model's files: itself, those in it, or beside an .xml file its .bin file."""
    inside = sorted(file for file in model.rglob("*") if file.is_file()) if model.is_dir() else []
    files = inside or [model, *(each for each in [model.with_suffix(".bin")] if each.is_file())]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def open_extractor(
    spec: str, config: ExtractorConfig, evaluated: PlaceImages
) -> tuple[Extractor, str]:
    """An extractor, and what to say of it in a report.

    spec:      a model file of any runtime, empty for the one that comes with this package; or baseline:NAME,
               or baseline:NAME:IMAGES with the images (a folder or a bag) that its vocabulary is learned
               from; left out, those that are evaluated.
    evaluated: the database, or the sequence.
    Raises ModelError, or DatasetError for a baseline.
    """
    if not spec.startswith(PREFIX):
        path = model_path(spec)
        return ModelUnderTest(path, config), path.name
    name, _, images = spec.removeprefix(PREFIX).partition(":")
    if name not in NAMES:
        raise DatasetError(f"{spec}: expected baseline:{', baseline:'.join(NAMES)}.")
    if name not in LEARNING:
        return Thumbnails(), name
    source = read_sequence(images) if images else evaluated
    learned = f"vocabulary from {images}" if images else "vocabulary from the same images"
    return LEARNING[name](some_images(source)), f"{name}, {learned}"


def some_images(places: PlaceImages, count: int = MAX_IMAGES) -> Iterator[np.ndarray]:
    """At most so many, evenly spread, without those that can't be read."""
    for index in np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round()):
        try:
            yield places.read(int(index))
        except ImageError:
            continue
