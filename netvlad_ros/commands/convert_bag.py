# SPDX-License-Identifier: MIT
"""`netvlad convert-bag`: a bag with our messages of the first format as one with those of today."""

import argparse
import shutil
from pathlib import Path
from typing import Any

from rosbags.interfaces import ConnectionExtRosbag2
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.errors import ReaderError, WriterError
from tqdm import tqdm

from netvlad_ros.data.old_messages import OldMessages
from netvlad_ros.errors import BagError
from netvlad_ros.store.sqlite_store import SqliteStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which bag, and where to."""
    parser.add_argument("bag", type=Path, help="rosbag2 folder")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="the new bag"
    )
    parser.add_argument(
        "--map",
        type=Path,
        metavar="FILE",
        help="keyframe database of the same runs: its sessions get the same names",
    )


def run(arguments: argparse.Namespace) -> int:
    """Copies all topics; messages of ours that are of the first format are converted."""
    database_id = SqliteStore(arguments.map).load()[0].database_id if arguments.map else ""
    old = OldMessages(database_id or arguments.bag.resolve().name)
    if not arguments.bag.is_dir():
        raise BagError(
            f"{arguments.bag}: can't be read; expected the folder of a rosbag2 recording."
        )
    is_new = not arguments.output.exists()
    try:
        with Reader(arguments.bag) as reader:
            converted = _copy(reader, arguments.output, old)
    except BagError:
        if is_new:
            shutil.rmtree(arguments.output)
        raise
    except ReaderError as error:
        raise BagError(f"{arguments.bag}: can't be read ({error}).") from None
    except (WriterError, OSError) as error:
        raise BagError(
            f"{arguments.output}: can't be written ({error}); name a folder that is not there yet."
        ) from None
    print(f"{converted} messages converted, all others copied: {arguments.output}")
    return 0


def _copy(reader: Reader, output: Path, old: OldMessages) -> int:
    """Returns how many messages were converted."""
    is_mcap = any(Path(str(reader.path)).glob("*.mcap*"))
    plugin = StoragePlugin.MCAP if is_mcap else StoragePlugin.SQLITE3
    converted = 0
    with Writer(output, version=9, storage_plugin=plugin) as writer:
        outlets = {}
        for connection in reader.connections:
            kind, details = connection.msgtype, connection.ext
            assert isinstance(details, ConnectionExtRosbag2)
            given: dict[str, Any] = (
                {"typestore": old.store}
                if old.is_old(kind, connection.digest)
                else {"msgdef": connection.msgdef.data, "rihs01": connection.digest}
            )
            outlets[connection.id] = writer.add_connection(
                connection.topic,
                kind,
                serialization_format=details.serialization_format,
                offered_qos_profiles=details.offered_qos_profiles,
                **given,
            )
        messages = tqdm(
            reader.messages(), total=reader.message_count, unit=" messages", disable=None
        )
        for connection, received_ns, data in messages:
            if old.is_old(connection.msgtype, connection.digest):
                data = old.convert(connection.msgtype, connection.topic, data)
                converted += 1
            writer.write(outlets[connection.id], received_ns, data)
    return converted
