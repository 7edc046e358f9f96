# SPDX-License-Identifier: MIT
"""A map described anew by another model, from its thumbnails or from the bags that it was made of."""

import contextlib
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from netvlad_ros.config import DEFAULT_CAMERA, Config, VerificationConfig
from netvlad_ros.data.bags import Bag
from netvlad_ros.data.image_decoding import decode_image
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import CameraError, DatabaseError, DescriptorError, ImageError
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.image_data import ImageData, LocalFeatures
from netvlad_ros.keyframe import Keyframe
from netvlad_ros.maps.files import (
    Progress,
    known_of,
    no_progress,
    open_map,
    refuse_existing,
    rename,
)
from netvlad_ros.sensors.recording import RecordedImages, sensor_topics
from netvlad_ros.store.keyframe_store import Changes, StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.sensors import NO_SENSORS, Sensors

Name = tuple[str, int]
# What is done so far is saved after so many keyframes.
SAVED_EVERY = 100
_IDS = uuid.UUID("6e766c6b-0003-4000-8000-000000000000")


@dataclass(frozen=True, eq=False)
class Picture:
    """An image of a stored keyframe.

    known:   what the map knows of it.
    image:   uint8, RGB (H, W, 3) or grey (H, W).
    sensors: gives what was recorded beside it.
    """

    keyframe: Keyframe
    known: ImageData
    image: np.ndarray
    sensors: Callable[[], Sensors] = lambda: NO_SENSORS


# From names that are not wanted to the others' pictures, in any order that has those of a session in theirs.
Source = Callable[[set[Name]], Iterator[Picture]]


@dataclass(frozen=True)
class ReExtracted:
    """How many keyframes were described, now or before an interruption, and how many have no usable image."""

    described: int
    before: int
    without: int


def re_extract(
    path: Path,
    out: Path,
    extractor: Extractor,
    source: Source,
    features: VerificationConfig | None = None,
    progress: Progress = no_progress,
) -> ReExtracted:
    """Writes a map with the descriptors of another model; poses, and what else is known, stay.

    What is done is kept in OUT.partial, from which the next call goes on; complete, it takes its name.
    features: how local features are made anew too; without, they stay as they are.
    Raises DatabaseError, also if no keyframe has an image.
    """
    refuse_existing(out)
    store = SqliteStore(out.with_name(f"{out.name}.partial"))
    old = SqliteStore(path, read_only=True)
    name = f"{old.header().database_id} {extractor.fingerprint} {features}"
    header = StoreHeader(uuid.uuid5(_IDS, name).hex, extractor.fingerprint, extractor.dims)
    done = _done(store, header)
    makers: dict[
        str, ImageDataMaker
    ] = {}  # of each session, as one makes points of several keyframes
    block: list[tuple[Keyframe, np.ndarray, ImageData]] = []
    described = 0
    for picture in source(done):
        try:
            descriptor = extractor.extract(picture.image)
            data = picture.known
            if features is not None:
                session = picture.keyframe.session.uuid
                data = _made(picture, makers.setdefault(session, ImageDataMaker(features)))
            block.append((picture.keyframe, descriptor, data))
        except (CameraError, DescriptorError, ImageError):
            continue
        described += 1
        progress(1)
        if len(block) == SAVED_EVERY:
            _save(store, header, block)
            block = []
    if not described + len(done):
        raise DatabaseError(f"{path}: no keyframe has an image that can be used.")
    _save(store, header, block)
    rename(store.path, out)
    return ReExtracted(described, len(done), old.count() - described - len(done))


def of_thumbnails(path: Path) -> Source:
    """The small pictures that a map keeps."""

    def pictures(done: set[Name]) -> Iterator[Picture]:
        for keyframe, known in _missing(path, done):
            if known.thumbnail is None:
                continue
            with contextlib.suppress(ImageError):
                image = decode_image(known.thumbnail, DEFAULT_CAMERA.max_pixels)
                rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image
                yield Picture(keyframe, known, rgb)

    return pictures


def of_bags(path: Path, bags: Sequence[Path], topic: str, config: Config) -> Source:
    """The images of bags with the stamps of keyframes, and what was recorded beside them."""

    def pictures(done: set[Name]) -> Iterator[Picture]:
        store = SqliteStore(path, read_only=True)
        by_stamp: defaultdict[int, list[Keyframe]] = defaultdict(list)
        for block in store.load()[1]:
            for keyframe in block.keyframes:
                if keyframe.name not in done:
                    by_stamp[keyframe.stamp_ns].append(keyframe)
        for bag in bags:
            yield from _of_bag(bag, topic, config, by_stamp, store)

    return pictures


def _of_bag(
    path: Path,
    topic: str,
    config: Config,
    by_stamp: dict[int, list[Keyframe]],
    store: SqliteStore,
) -> Iterator[Picture]:
    """Each keyframe once."""
    with Bag(path) as bag:
        chosen = bag.image_topic(topic)
        topics = sensor_topics(bag, chosen, config.sensors.points_from)
        recorded = RecordedImages(bag, chosen, topics, config)
        for stamped in recorded:
            stamp_ns, message = stamped.stamp_ns, stamped.message
            keyframe = _of_camera(by_stamp.get(stamp_ns, []), message.header.frame_id)
            if keyframe is None:
                continue
            by_stamp[stamp_ns].remove(keyframe)
            with contextlib.suppress(ImageError):
                image = to_image(message, config.camera)
                known = store.read_data(keyframe.name)
                yield Picture(keyframe, known, image, partial(recorded.sensors, image, stamp_ns))


def _of_camera(keyframes: Iterable[Keyframe], frame_id: str) -> Keyframe | None:
    """Of several with one stamp the one whose camera is called so."""
    found = list(keyframes)
    named = [each for each in found if each.session.stream.camera == frame_id]
    return named[0] if named else found[0] if len(found) == 1 else None


def _missing(path: Path, done: set[Name]) -> Iterator[tuple[Keyframe, ImageData]]:
    for block in open_map(path)[1]:
        known = known_of(block)
        yield from ((each, known[each.name]) for each in block.keyframes if each.name not in done)


def _made(picture: Picture, maker: ImageDataMaker) -> ImageData:
    known = picture.known
    made = maker.make(picture.image, picture.sensors())
    if made.camera is None and known.camera is not None and made.features is not None:
        scale = known.camera.width_px / picture.image.shape[1]
        made = replace(made, features=_scaled(made.features, scale))
    return replace(
        known,
        features=made.features,
        camera=made.camera or known.camera,
        thumbnail=known.thumbnail or made.thumbnail,
    )


def _scaled(features: LocalFeatures, scale: float) -> LocalFeatures:
    """Of a picture that was made smaller, in pixels of the whole one; the middle of a pixel is whole."""
    keypoints_px = ((features.keypoints_px + 0.5) * scale - 0.5).astype(np.float32)
    return replace(features, keypoints_px=keypoints_px)


def _done(store: SqliteStore, header: StoreHeader) -> set[Name]:
    """Names of what was described before an interruption."""
    if not store.holds_anything():
        return set()
    found, blocks = store.load()
    if found != header:
        raise DatabaseError(
            f"{store.path}: is of another map, model or kind of features; remove it to begin anew."
        )
    return {each.name for block in blocks for each in block.keyframes}


def _save(
    store: SqliteStore,
    header: StoreHeader,
    block: Sequence[tuple[Keyframe, np.ndarray, ImageData]],
) -> None:
    if not block:
        return
    keyframes, descriptors, data = zip(*block, strict=True)
    known = [(each.name, one) for each, one in zip(keyframes, data, strict=True)]
    store.save(
        header, Changes(False, (), [StoredKeyframes(keyframes, np.stack(descriptors), known)])
    )
