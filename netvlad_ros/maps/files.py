# SPDX-License-Identifier: MIT
"""A map as a file that is read block by block, or written anew beside what is there."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from netvlad_ros.errors import DatabaseError
from netvlad_ros.image_data import NOTHING_KNOWN, ImageData
from netvlad_ros.keyframe import Keyframe
from netvlad_ros.retrieval.database import check_descriptors
from netvlad_ros.store.keyframe_store import Changes, StoredKeyframes, StoreHeader
from netvlad_ros.store.sqlite_store import SqliteStore

# Told how many keyframes more are done.
Progress = Callable[[int], object]


def no_progress(_: int) -> None:
    """Where nobody looks on."""


def open_map(path: Path) -> tuple[StoreHeader, Iterator[StoredKeyframes]]:
    """All keyframes with all that is known of them; the file is left as it is.

    Raises DatabaseError, also while they are read, if anything in there is damaged.
    """
    header, blocks = SqliteStore(path, read_only=True).load(everything=True)
    return header, _checked(path, blocks)


def _checked(path: Path, blocks: Iterable[StoredKeyframes]) -> Iterator[StoredKeyframes]:
    for block in blocks:
        check_descriptors(block.descriptors, path)
        yield block


def known_of(block: StoredKeyframes) -> dict[tuple[str, int], ImageData]:
    """What is known of each keyframe of a block, by its name."""
    known = dict(block.data)
    return {each.name: known.get(each.name, NOTHING_KNOWN) for each in block.keyframes}


def kept(block: StoredKeyframes, wanted: Callable[[Keyframe], bool]) -> StoredKeyframes:
    """The keyframes of a block that are wanted, with what is known of them."""
    rows = [row for row, each in enumerate(block.keyframes) if wanted(each)]
    names = {block.keyframes[row].name for row in rows}
    return StoredKeyframes(
        [block.keyframes[row] for row in rows],
        block.descriptors[rows],
        [(name, data) for name, data in block.data if name in names],
    )


def told(blocks: Iterable[StoredKeyframes], progress: Progress) -> Iterator[StoredKeyframes]:
    """The same blocks; each is told once whoever takes them is done with it."""
    for block in blocks:
        yield block
        progress(len(block.keyframes))


def refuse_existing(path: Path) -> None:
    """Raises DatabaseError: what is there already is never written over."""
    if os.path.lexists(path):
        raise DatabaseError(f"{path}: is there already; choose another name, or remove it first.")


def refuse_input(out: Path | None, *inputs: str | Path) -> None:
    """Raises DatabaseError if a file that is about to be written is one of those that are read."""
    for each in inputs:
        with contextlib.suppress(OSError, ValueError):  # it is not there yet
            if out is not None and os.path.samefile(out, each):  # noqa: PTH121 - takes both
                raise DatabaseError(
                    f"{out}: would be written over, and is read as {each}; choose another name."
                )


def write_map(path: Path, header: StoreHeader, blocks: Iterable[StoredKeyframes]) -> None:
    """All of a map, or nothing: it is written beside its place, on the same disk, and then renamed.

    Raises DatabaseError if something is there already, or if there is no room.
    """
    refuse_existing(path)
    with _aside(path) as aside:
        try:
            SqliteStore(aside).save(header, Changes(False, (), blocks))
        except DatabaseError as error:
            raise DatabaseError(str(error).replace(str(aside), str(path))) from None
        rename(aside, path)


def rename(aside: Path, path: Path) -> None:
    """A file that is complete takes its name. Raises DatabaseError if somebody else was quicker."""
    try:
        os.link(aside, path)
        aside.unlink()
    except FileExistsError:
        refuse_existing(path)
    except OSError:  # a disk without hard links
        refuse_existing(path)
        aside.replace(path)


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """An empty file beside another, of a name that nobody else takes; it is gone in the end."""
    try:
        handle, name = tempfile.mkstemp(".partial", f"{path.name}.", path.parent)
    except OSError as error:
        raise DatabaseError(
            f"{path}: can't write there ({error.strerror}); make the folder, make room, or choose another "
            "place."
        ) from None
    os.close(handle)
    aside = Path(name)
    try:
        # As other new files, which mkstemp's are not.
        aside.chmod(0o666 & ~_umask())
        yield aside
    finally:
        for each in (aside, Path(f"{aside}-journal")):
            each.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
