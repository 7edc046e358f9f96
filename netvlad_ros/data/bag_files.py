# SPDX-License-Identifier: MIT
"""Readers of a bag's files, also of healthy ones that rosbags refuses or reads in part."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import Reader as Reader2
from rosbags.rosbag2 import reader, storage_mcap
from rosbags.rosbag2.errors import ReaderError

# Python's own, or its backport, which rosbags brings along.
from rosbags.rosbag2.reader import zstd  # type: ignore[attr-defined]
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

STORAGE_SUFFIXES = (".mcap", ".db3")
ZSTD_SUFFIX = ".zstd"

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MCAP_MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER = 0x01, b"\x02\x14\x00\x00\x00\x00\x00\x00\x00"
_FOOTER_SIZE = len(_FOOTER) + 20 + len(_MCAP_MAGIC)


def is_storage(path: Path) -> bool:
    """Whether a file is named as rosbag2 names those with messages, compressed as a whole or not."""
    return storage_suffix(path) in STORAGE_SUFFIXES


def storage_suffix(path: Path) -> str:
    """The suffix of a file, without that of its compression."""
    return Path(path.stem).suffix if path.suffix == ZSTD_SUFFIX else path.suffix


def is_unclosed(path: Path) -> bool:
    """Whether rows of a SQLite file are still in a file beside it: it's being written, or was left open."""
    if (
        not path.is_file() or not path.stat().st_size
    ):  # SQLite deletes what lies beside an empty file
        return False
    beside = (path.with_name(path.name + end) for end in ("-wal", "-journal"))
    return any(file.is_file() and file.stat().st_size for file in beside)


def decompressed(path: Path, folder: Path) -> Path:
    """The file in a .zstd file, unpacked into a folder. Raises OSError or zstd's errors."""
    unpacked = folder / path.stem
    with zstd.open(path, "rb") as packed, unpacked.open("wb") as file:
        while block := packed.read(1 << 20):
            file.write(block)
    return unpacked


def decompressed_message(data: bytes) -> bytes:
    """A message that a recorder compressed by itself; CDR never begins like that."""
    return zstd.decompress(data) if data[:4] == _ZSTD_MAGIC else data


def encoding(connection: Connection) -> str:
    """How its messages are serialised: cdr in ROS 2, ros1 in ROS 1."""
    return str(getattr(connection.ext, "serialization_format", "ros1"))


class _Sqlite3Reader(Sqlite3Reader):
    """Reads the rows that are still beside the file too, and changes neither.

    rosbags opens `file:PATH?immutable=1`, which ignores them; here its option is part of an unknown one.
    """

    def __init__(self, path: Path) -> None:
        options = "?mode=ro&_=" if is_unclosed(path) else ""
        super().__init__(Path(quote(str(path)) + options))
        self._file = path

    def open(self) -> None:
        try:
            super().open()
        except ReaderError as error:
            raise ReaderError(str(error).replace(str(self.path), str(self._file))) from error


class _McapReader(storage_mcap.McapReader):
    """Leaves out the channels of other encodings, where rosbags refuses the file; reads ROS 1 too."""

    def _open(self) -> None:
        assert self.bio
        self._check_header(self.bio)
        summary = self._summary(self.bio)
        if summary:
            self.data_end = summary
            self.read_index()
        if self.statistics is None or not self.schemas:
            self.meta_scan()
        statistics = self.statistics
        assert statistics
        encodings = {encoding(each) for each in self.connections}
        kept = "ros1" if "ros1" in encodings and "cdr" not in encodings else "cdr"
        if encodings and kept not in encodings:
            raise ReaderError(f"Only {', '.join(sorted(encodings))} channels, none of ROS.")
        counts = statistics.channel_message_counts
        self.connections = [
            each._replace(msgtype=_ros2_name(each.msgtype), msgcount=counts.get(each.id, 0))
            for each in self.connections
            if encoding(each) == kept
        ]
        if count := sum(each.msgcount for each in self.connections):
            self.metadata = self.metadata._replace(
                duration=statistics.end_time - statistics.start_time + 1,
                start_time=statistics.start_time,
                end_time=statistics.end_time + 1,
                message_count=count,
            )

    def _check_header(self, file: BinaryIO) -> None:
        """Of any profile, since recorders leave it empty: the channels tell what is inside."""
        magic = file.read(len(_MCAP_MAGIC))
        if not magic:
            raise ReaderError(f"File {str(self.path)!r} seems to be empty.")
        if magic != _MCAP_MAGIC:
            raise ReaderError("File magic is invalid.")
        if file.read(1) != bytes([_HEADER]):
            raise ReaderError("Unexpected record.")
        storage_mcap.skip_sized(file)
        self.data_start = file.tell()
        if self.data_start > self.path.stat().st_size - _FOOTER_SIZE:
            raise ReaderError("File ends in its header.")

    def _summary(self, file: BinaryIO) -> int:
        """Where the summary begins; 0 if there is none, and data_end is set then."""
        self.data_end = file.seek(-_FOOTER_SIZE, 2)
        footer = file.read()
        if not footer.endswith(_MCAP_MAGIC):
            raise ReaderError("File end magic is invalid.")
        if not footer.startswith(_FOOTER):
            raise ReaderError("Invalid MCAP footer.")
        start = int.from_bytes(footer[len(_FOOTER) : len(_FOOTER) + 8], "little")
        if start and not self.data_start <= start <= self.data_end:
            raise ReaderError("Invalid MCAP summary offset.")
        return start


class _DirectoryReader(reader.DirectoryReader):
    STORAGE_PLUGINS: Mapping[str, Any] = {"mcap": _McapReader, "sqlite3": _Sqlite3Reader}


class BagReader(Reader2):
    """rosbags' reader of a rosbag2 folder or file, with the readers of this file."""

    STORAGE_PLUGINS: Mapping[str, Any] = {
        "dir": _DirectoryReader,
        ".mcap": _McapReader,
        ".db3": _Sqlite3Reader,
    }


def _ros2_name(kind: str) -> str:
    package, _, name = kind.partition("/")
    return kind if "/" in name or not name else f"{package}/msg/{name}"


def _read_text(bio: BinaryIO) -> str:
    return storage_mcap.read_bytes(bio).decode(errors="replace")


_known_definition = storage_mcap.get_msgdef


def _definition(schema: Any) -> MessageDefinition:
    try:
        return _known_definition(schema)
    except KeyError:
        return MessageDefinition(MessageDefinitionFormat.NONE, "")


# rosbags' MCAP reader ends at the first schema that is no text or of an unknown encoding.
storage_mcap.read_string = _read_text
storage_mcap.get_msgdef = _definition
