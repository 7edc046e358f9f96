# SPDX-License-Identifier: MIT
"""Images by their number, read when they are asked for: files of a folder, or messages of a bag."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from netvlad_ros.config import DEFAULT_CAMERA, CameraConfig
from netvlad_ros.data.bags import Bag, StampedMessage, storage_file
from netvlad_ros.data.image_files import read_image
from netvlad_ros.data.image_messages import to_image
from netvlad_ros.errors import BagError, ImageError


class ImageSource(Protocol):
    """Images with a number each, from 0 on.

    root:  the folder or file that they belong to.
    names: what each is called, unique within the root.
    """

    @property
    def root(self) -> Path: ...

    @property
    def names(self) -> Sequence[str]: ...

    def read(self, index: int) -> np.ndarray:
        """uint8, RGB (H, W, 3) or grey (H, W). Raises ImageError, naming the image."""

    def file(self, index: int) -> Path:
        """The file it is in; where that changes, so does the image."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files in a folder and in its folders.

    names:  relative to the root.
    camera: how many pixels they may have.
    """

    root: Path
    names: Sequence[str]
    camera: CameraConfig = DEFAULT_CAMERA

    def read(self, index: int) -> np.ndarray:
        return read_image(self.file(index), self.camera.max_pixels)

    def file(self, index: int) -> Path:
        return self.root / self.names[index]


@dataclass(frozen=True)
class MissingImages:
    """Images of which everything is known but where they are.

    problem: what to do about it, as a sentence.
    """

    root: Path
    names: Sequence[str]
    problem: str

    def read(self, index: int) -> np.ndarray:
        raise ImageError(f"{self.names[index]}: {self.problem}")

    def file(self, index: int) -> Path:
        return self.root / self.names[index]


@dataclass(frozen=True)
class BagImages:
    """Image messages of a topic; one after the other is quickest.

    numbers:     which messages of the topic, from 0 on, ascending.
    received_ns: when each was recorded, which is where reading starts.
    camera:      what is taken for a picture.
    """

    root: Path
    topic: str
    numbers: np.ndarray
    received_ns: np.ndarray
    camera: CameraConfig = DEFAULT_CAMERA
    _threads: threading.local = field(default_factory=threading.local, repr=False, compare=False)

    @cached_property
    def names(self) -> Sequence[str]:
        return [f"{self.topic}#{number + 1}" for number in self.numbers]

    def read(self, index: int) -> np.ndarray:
        try:
            return to_image(self._reader().message(self, index), self.camera)
        except (BagError, ImageError) as error:
            raise ImageError(f"image {self.numbers[index] + 1} of {self.topic}: {error}") from None

    def file(self, index: int) -> Path:
        return storage_file(self.root)

    def _reader(self) -> "_Reader":
        """Each thread has one of its own, since SQLite's belong to the thread that opened them."""
        if not hasattr(self._threads, "reader"):
            self._threads.reader = _Reader(Bag(self.root))
        reader: _Reader = self._threads.reader
        return reader


class _Reader:
    """A bag that is open, and the message of a topic that comes next."""

    def __init__(self, bag: Bag) -> None:
        self._bag = bag
        self._messages: Any = iter(())
        self._next = -1

    def message(self, images: BagImages, index: int) -> Any:
        number = int(images.numbers[index])
        if self._next < 0 or not self._next <= number <= self._next + 1:
            start_ns = int(images.received_ns[index])
            self._messages = self._bag.stamped(images.topic, start_ns)
            # Others may have been recorded at the same moment; of those, the images that we know.
            self._next = number - int(np.sum(images.received_ns[:index] == start_ns))
        found: StampedMessage | None = None
        while self._next <= number:
            found = next(self._messages, None)
            self._next += 1
            if found is None:
                self._next = -1
                raise ImageError("the bag ends before it; has it changed since it was opened?")
        return found.message if found else None
