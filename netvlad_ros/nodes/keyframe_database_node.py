# SPDX-License-Identifier: MIT
"""The node that keeps keyframes and looks new ones up."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_srvs.srv import Trigger

from netvlad_ros.config import Config
from netvlad_ros.errors import DatabaseError, NetVLADError
from netvlad_ros.msg import GlobalDescriptor, KeyframeMatches
from netvlad_ros.nodes.conversions import descriptor_array, matches_message, to_ns
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.parameters import NodeParameters
from netvlad_ros.nodes.process import run
from netvlad_ros.nodes.subscriptions import subscribe
from netvlad_ros.retrieval.database import KeyframeDatabase, Query
from netvlad_ros.retrieval.index import KeyframeIndex

# So many descriptors wait while a database is saved.
QOS = QoSProfile(depth=100)


class KeyframeDatabaseNode(Node):
    """global_descriptor -> keyframe_matches, and services to save, load and reset the database."""

    def __init__(self) -> None:
        super().__init__("keyframe_database_node")
        sections = ("keyframes", "database", "candidates", "diagnostics")
        self._settings = NodeParameters(self, sections, self._configure)
        config = self._settings.config
        self._robot: str | None = None
        self._database = KeyframeDatabase(config)
        counts = ("received", "lost", "added", "refused")
        self._health = Health(self, config.diagnostics, counts, self._gauges)
        self._file = _file(config)
        self._load_at_start()
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
        for name, action in (("save", self._save), ("load", self._load), ("reset", self._reset)):
            self.create_service(Trigger, f"~/{name}", self._answering(action))
        if config.database.autosave_s:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self.create_timer(config.database.autosave_s, self._save_quietly, clock=steady)

    def close(self) -> None:
        """Saves what is not saved yet; to a file beside the configured one if that one refuses it."""
        if self._file is None or not self._database.has_unsaved_changes:
            return
        for file in (self._file, _beside(self._file)):
            self._file = file
            try:
                self.get_logger().info(self._save())
                return
            except NetVLADError as error:
                self.get_logger().error(str(error))

    def _configure(self, config: Config) -> None:
        if config.database.path != self._database.config.database.path:
            self._file = _file(config)
        self._database.configure(config)
        self._health.config = config.diagnostics

    def _gauges(self) -> dict[str, object]:
        index = self._database.index
        return {
            "keyframes": len(self._database),
            "session": self._database.session,
            "model": self._database.fingerprint or "none yet",
            "index (MB)": f"{index.size_bytes / 1e6:.1f}" if index else "0.0",
            "late or repeated stamps": self._database.late_images,
            "subscribers": self._publisher.get_subscription_count(),
        }

    def _observe(self, message: GlobalDescriptor) -> None:
        self._health.arrived()
        late_images, session = self._database.late_images, self._database.session
        try:
            self._refuse_other_robot(message.robot)
            with self._health.timed("search and add"):
                query = self._database.observe(
                    descriptor_array(message), to_ns(message.header.stamp), message.fingerprint
                )
        except NetVLADError as error:
            self._health.count("refused")
            self._health.problem("descriptor", f"descriptor refused: {error}")
            return
        self._robot = message.robot
        if self._database.late_images > late_images:
            self._health.problem(
                "late",
                "images have repeated or earlier stamps; does their driver set header.stamp?",
            )
        if self._database.session > session:
            self._health.problem("session", "stamps jumped: a new session begins; was a clock set?")
        if query is not None:
            self._publisher.publish(self._matches_message(query, message))
            self._health.count("added")

    def _matches_message(self, query: Query, message: GlobalDescriptor) -> KeyframeMatches:
        exclude_recent_s = self._database.config.candidates.exclude_recent_s
        return matches_message(
            query, message.header, message.robot, message.fingerprint, exclude_recent_s
        )

    def _refuse_other_robot(self, robot: str) -> None:
        if self._robot not in (None, robot):
            raise DatabaseError(
                f"this database keeps the keyframes of robot {self._robot!r}, got one of {robot!r}; run a "
                "database node for each robot, in namespaces."
            )

    def _path(self) -> Path:
        if self._file is None:
            raise DatabaseError(
                "database.path is empty; set it to the file to save to or load from."
            )
        return self._file

    def _save(self) -> str:
        if self._database.index is None:
            raise DatabaseError("there is nothing to save: no descriptor has arrived yet.")
        with self._health.timed("save"):
            self._database.save(self._path())
        self._health.solved("file")
        return f"{len(self._database)} keyframes saved to {self._path()}"

    def _load(self) -> str:
        if len(self._database) and self._database.has_unsaved_changes:
            raise DatabaseError(
                f"{len(self._database)} keyframes are not all saved; call ~/save or ~/reset first."
            )
        index = KeyframeIndex.load(self._path())
        self._database = KeyframeDatabase(self._settings.config, index)
        self._robot = None
        self._health.solved("map")
        self._save_quietly()  # that this session has begun, so that it is not begun again after a crash
        return f"{len(self._database)} keyframes loaded from {self._path()}"

    def _reset(self) -> str:
        self._database.reset()
        self._robot = None
        return "the database is empty; the file is as it was until the next save or autosave"

    def _load_at_start(self) -> None:
        """A file that can't be read is reported and left alone; the drive goes to another one."""
        if self._file is None or not os.path.exists(self._file):  # noqa: PTH110 - never raises
            return
        try:
            self.get_logger().info(self._load())
        except NetVLADError as error:
            self._file = _beside(self._file)
            sentence = f"started without the map: {error} New keyframes go to {self._file}."
            self._health.problem("map", sentence, lasting=True)

    def _save_quietly(self) -> None:
        """Without being asked: nothing to do where there is no file, and errors must not end the node."""
        if self._file is None or not self._database.has_unsaved_changes:
            return
        try:
            self.get_logger().debug(self._save())
        except NetVLADError as error:
            self._health.problem("file", str(error), lasting=True)

    def _answering(
        self, action: Callable[[], str]
    ) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        """A service callback that does the action and answers with what it says, or with what went wrong."""

        def callback(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            try:
                response.message, response.success = action(), True
                self.get_logger().info(response.message)
            except NetVLADError as error:
                response.message, response.success = str(error), False
                self.get_logger().error(response.message)
            return response

        return callback


def _file(config: Config) -> Path | None:
    path = os.path.expanduser(config.database.path)  # noqa: PTH111 - never raises
    return Path(path) if path else None


def _beside(file: Path) -> Path:
    """A new file for what the configured one can't take."""
    return file.with_name(f"{file.stem}.{time.strftime('%Y%m%dT%H%M%S')}{file.suffix}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to end."""
    return run([KeyframeDatabaseNode], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
