# SPDX-License-Identifier: MIT
"""The node that keeps keyframes and looks new ones up."""

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import Trigger

from netvlad_ros.config import LOCALISATION, Config, DatabaseConfig
from netvlad_ros.errors import DatabaseError, MessageError, NetVLADError
from netvlad_ros.image_data import NOTHING_KNOWN, ImageData
from netvlad_ros.msg import GlobalDescriptor, KeyframeMatches, KeyframePoses, LoopClosure
from netvlad_ros.nodes.conversions import (
    choice_of,
    descriptor_array,
    matches_message,
    poses_from,
    stream_of,
)
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.image_data_messages import image_data_from
from netvlad_ros.nodes.parameters import NodeParameters
from netvlad_ros.nodes.process import run
from netvlad_ros.nodes.stamps import to_ns
from netvlad_ros.nodes.subscriptions import LATCHED, subscribe
from netvlad_ros.retrieval.database import KeyframeDatabase, Unsaved
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.stream_clock import LATE
from netvlad_ros.srv import LookUp, MapFile
from netvlad_ros.store.sqlite_store import SqliteStore

QOS = QoSProfile(depth=100)


class KeyframeDatabaseNode(Node):
    """global_descriptor -> keyframe_matches; keyframe_poses -> stored with their keyframes.

    Services save, load and reset the database.

    A second thread writes to disk, so that descriptors are answered meanwhile.
    """

    def __init__(self) -> None:
        super().__init__("keyframe_database_node")
        sections = ("keyframes", "database", "candidates", "diagnostics")
        self._settings = NodeParameters(self, sections, self._configure)
        config = self._settings.config
        self._database = KeyframeDatabase(config)
        counts = ("received", "lost", "added", "refused")
        self._health = Health(self, config.diagnostics, counts, self._gauges)
        self._writer = ThreadPoolExecutor(1, "save")
        self._stores: dict[Path, SqliteStore] = {}
        self._store = self._store_at(config.database)
        self._load_at_start()
        self._mode = self.create_publisher(String, "database_mode", LATCHED)
        self._mode.publish(String(data=config.database.mode))
        self._publisher = self.create_publisher(KeyframeMatches, "keyframe_matches", QOS)
        self._health.watch(
            subscribe(
                self,
                GlobalDescriptor,
                "global_descriptor",
                self._observe,
                QOS,
                on_lost=self._health.lost,
            )
        )
        subscribe(
            self,
            KeyframePoses,
            "keyframe_poses",
            self._correct,
            QOS,
            on_lost=partial(self._health.count, "poses lost"),
        )
        subscribe(self, LoopClosure, "loop_closures", self._closed, QOS, on_lost=lambda _: None)
        # While one of these waits for the disk, descriptors, which are in another group, are taken.
        of_disk = MutuallyExclusiveCallbackGroup()
        services = {
            "save": (Trigger, lambda _: self._save()),
            "load": (Trigger, lambda _: self._load()),
            "reset": (Trigger, lambda _: self._reset()),
            "save_map": (MapFile, self._save_map),
            "load_map": (MapFile, self._load_map),
        }
        for name, (kind, action) in services.items():
            self.create_service(kind, f"~/{name}", self._answering(action), callback_group=of_disk)
        self.create_service(LookUp, "~/look_up", self._look_up)
        if config.database.autosave_s:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self.create_timer(
                config.database.autosave_s, self._autosave, callback_group=of_disk, clock=steady
            )

    def close(self) -> None:
        """Saves what is not saved yet; to a file beside the configured one if that one refuses it."""
        self._writer.shutdown()
        self._database.settle()
        # A database that was reset replaces no map unasked.
        if self._store is None or not len(self._database):
            return
        for store in (self._store, self._beside(self._store)):
            if not self._database.has_unsaved_changes(store):
                return
            try:
                self._database.save(store)
                self.get_logger().info(self._saved_to(store))
                return
            except NetVLADError as error:
                self.get_logger().error(str(error))

    def _configure(self, config: Config) -> None:
        if config.database.mode != self._database.config.database.mode:
            self._mode.publish(String(data=config.database.mode))
            if self._store is not None:
                self._store.read_only = config.database.mode == LOCALISATION
        if config.database.path != self._database.config.database.path:
            try:
                store = self._store_at(config.database)
                if store is not None:
                    store.check()
                self._store = store
                self._health.solved("place")
            except NetVLADError as error:
                self._health.problem(
                    "place", f"database.path stays as it was: {error}", lasting=True
                )
        self._database.configure(config)
        self._health.config = config.diagnostics

    def _gauges(self) -> dict[str, object]:
        passed_over = self._database.passed_over
        return {
            "keyframes": len(self._database),
            "mode": self._settings.config.database.mode,
            "last image": self._database.last_image,
            "images that are no keyframes": passed_over.total(),
            **{f"images {reason}": count for reason, count in passed_over.items()},
            "model": self._database.fingerprint or "none yet",
            "index (MB)": f"{self._database.size_bytes / 1e6:.1f}",
            "subscribers": self._publisher.get_subscription_count(),
        }

    def _observe(self, message: GlobalDescriptor) -> None:
        self._health.arrived()
        late_images, is_full = self._database.passed_over[LATE], self._database.is_full
        try:
            with self._health.timed("search and add"):
                query = self._looked_up(message)
        except NetVLADError as error:
            self._health.count("refused")
            self._health.problem("descriptor", f"descriptor refused: {error}")
            return
        if self._database.passed_over[LATE] > late_images:
            self._health.problem(
                "late",
                "images have repeated or earlier stamps; does their driver set header.stamp?",
            )
        if query is not None:
            self._publisher.publish(matches_message(query, message))
            is_added = self._settings.config.database.mode != LOCALISATION and not is_full
            self._health.count("added" if is_added else "looked up")
        if is_full:
            self._health.problem(
                "full",
                f"the map is full with {len(self._database)} keyframes (database.max_keyframes): images are "
                "looked up and not added; `netvlad map prune` makes room.",
            )

    def _closed(self, message: LoopClosure) -> None:
        query, match = message.query, message.match
        self._database.closed((query.session, query.number), (match.session, match.number))

    def _looked_up(self, message: GlobalDescriptor) -> Query | None:
        return self._database.observe(
            descriptor_array(message),
            to_ns(message.header.stamp),
            message.fingerprint,
            stream_of(message),
            time.monotonic_ns(),
            choice=choice_of(message),
            data=lambda: self._known(message),
            external_id=message.external_id,
        )

    def _look_up(self, request: LookUp.Request, response: LookUp.Response) -> LookUp.Response:
        message = request.descriptor
        try:
            query = self._database.look_up(
                descriptor_array(message),
                to_ns(message.header.stamp),
                message.fingerprint,
                stream_of(message),
                data=self._known(message),
            )
            response.matches, response.success = matches_message(query, message), True
        except NetVLADError as error:
            response.message = str(error)
        return response

    def _known(self, message: GlobalDescriptor) -> ImageData:
        """Without what can't be: the keyframe is found by its descriptor all the same."""
        try:
            return image_data_from(message.data)
        except MessageError as error:
            self._health.problem("data", f"the features of a keyframe are refused: {error}")
            return NOTHING_KNOWN

    def _correct(self, message: KeyframePoses) -> None:
        """A map that is only read stays as it is."""
        if self._settings.config.database.mode == LOCALISATION:
            return
        try:
            self._health.count("corrected", self._database.correct(poses_from(message)))
        except MessageError as error:
            self._health.problem("poses", f"corrected poses refused: {error}")

    # --- What is on disk ------------------------------------------------------------------------------

    async def _save(self) -> str:
        store = self._chosen_store()
        with self._health.timed("save"):
            await self._write(self._database.unsaved(store))
        self._health.solved("file")
        return self._saved_to(store)

    async def _write(self, unsaved: Unsaved) -> None:
        """Raises DatabaseError; the database then still knows what is not saved."""
        written: Future = Future(executor=self.executor)
        job = self._writer.submit(unsaved.write)
        job.add_done_callback(lambda _: self._wake(written))
        await written
        job.result()

    def _wake(self, written: Future) -> None:
        """An executor that waits looks at its tasks again only if something happens."""
        written.set_result(None)
        if self.executor is not None:
            self.executor.create_task(lambda: None)

    async def _autosave(self) -> None:
        """Without being asked: nothing to do where there is no file, and errors must not end the node."""
        if self._store is None:
            return
        if len(self._database) and self._database.has_unsaved_changes(self._store):
            try:
                self.get_logger().debug(await self._save())
            except NetVLADError as error:
                self._health.problem("file", str(error), lasting=True)

    async def _load(self) -> str:
        store = self._chosen_store()
        if len(self._database) and self._database.has_unsaved_changes(store):
            raise DatabaseError(
                f"{len(self._database)} keyframes are not all saved; call ~/save or ~/reset first."
            )
        return self._loaded(store)

    async def _save_map(self, request: MapFile.Request) -> str:
        """What comes is saved to database.path as before."""
        store = self._store_of(request.path)
        if store is self._store:
            return await self._save()
        with self._health.timed("save"):
            await self._write(self._database.unsaved(store, is_copy=True))
        return self._saved_to(store)

    async def _load_map(self, request: MapFile.Request) -> str:
        """database.path then names this file."""
        store = self._store_of(request.path)
        unsaved = [self._database.has_unsaved_changes(each) for each in self._stores.values()]
        if len(self._database) and all(unsaved):
            raise DatabaseError(
                f"{len(self._database)} keyframes are not all saved; call ~/save, ~/save_map or ~/reset "
                "first."
            )
        done, self._store = self._loaded(store), store
        self.set_parameters([Parameter("database.path", value=str(store.path))])
        return done

    def _store_of(self, path: str) -> SqliteStore:
        """Raises DatabaseError for a request without a file."""
        store = self._store_at(replace(self._settings.config.database, path=path))
        if store is None:
            raise DatabaseError("path is empty; name the file of the map.")
        return store

    def _chosen_store(self) -> SqliteStore:
        if self._store is None:
            raise DatabaseError(
                "database.path is empty; set it to the file to save to or load from."
            )
        return self._store

    def _loaded(self, store: SqliteStore) -> str:
        self._database = KeyframeDatabase.load(store, self._settings.config)
        self._health.solved("map")
        return f"{len(self._database)} keyframes loaded from {store.path}"

    async def _reset(self) -> str:
        self._database.reset()
        return "the database is empty; the file is as it was until the next save, or autosave of a keyframe"

    def _load_at_start(self) -> None:
        """A file that can't be read is reported and left alone; the drive goes to another one.

        Raises DatabaseError if there is no file and none could be written, or is none to localise in.
        """
        if self._store is None:
            if self._settings.config.database.mode == LOCALISATION:
                sentence = "there is no map to localise in; set database.path to its file."
                self._health.problem("map", sentence, lasting=True)
            return
        if not self._store.holds_anything():
            self._store.check()
            return
        try:
            self.get_logger().info(self._loaded(self._store))
        except NetVLADError as error:
            if not self._store.holds_anything():  # any more: its first save was cut short
                return
            sentence = f"started without the map: {error}"
            if not self._store.read_only:
                self._store = self._beside(self._store)
                sentence += f" New keyframes go to {self._store.path}."
            self._health.problem("map", sentence, lasting=True)

    def _store_at(self, config: DatabaseConfig) -> SqliteStore | None:
        """The store of a file, one for each, as it knows what it holds."""
        if not config.path:
            return None
        # One name for a file; os.path, because it never raises.
        file = Path(os.path.abspath(os.path.expanduser(config.path)))  # noqa: PTH100, PTH111
        store = self._stores.setdefault(file, SqliteStore(file))
        store.read_only = config.mode == LOCALISATION
        return store

    def _beside(self, store: SqliteStore) -> SqliteStore:
        """A new file for what the configured one can't take."""
        file = store.path
        return SqliteStore(
            file.with_name(f"{file.stem}.{time.strftime('%Y%m%dT%H%M%S')}{file.suffix}")
        )

    def _saved_to(self, store: SqliteStore) -> str:
        return f"{len(self._database)} keyframes saved to {store.path}"

    def _answering(
        self, action: Callable[[Any], Awaitable[str]]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        """A service callback that does the action and answers with what it says, or with what went wrong."""

        async def callback(request: Any, response: Any) -> Any:
            try:
                response.message, response.success = await action(request), True
                self.get_logger().info(response.message)
            except NetVLADError as error:
                response.message, response.success = str(error), False
                self.get_logger().error(response.message)
            return response

        return callback


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to end."""
    return run([KeyframeDatabaseNode], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
