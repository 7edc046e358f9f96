# SPDX-License-Identifier: MIT
"""The node that gives cslam (Swarm-SLAM) our loop closures between its robots, and within one."""

import re
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.qos import QoSProfile

from netvlad_ros.errors import ConfigError, MessageError
from netvlad_ros.msg import LoopClosure
from netvlad_ros.nodes.back_end import BackEndAdapter, require, transform_of
from netvlad_ros.nodes.process import run
from netvlad_ros.nodes.stamps import to_ns
from netvlad_ros.nodes.subscriptions import subscribe
from netvlad_ros.verification.motion import Motion

QOS = QoSProfile(depth=100)
# cslam's own namespaces: robot 3 is r3.
ROBOT = re.compile(r"r(\d+)")
KEYFRAMES = re.compile(rf"/({ROBOT.pattern})/cslam/keyframe_odom")
# How often it is looked for robots that are new.
LOOK_S = 0.5


class CslamAdapter(BackEndAdapter):
    """keyframe_odom of all robots -> keyframe_requests of this one; loop_closures -> cslam's closures.

    One runs for each robot and passes on what this robot saw, so that each closure gets to cslam once.
    """

    def __init__(self) -> None:
        super().__init__("cslam_adapter")
        require("cslam_common_interfaces", "github.com/lajoiepy/cslam_interfaces")
        self._messages: Any = import_module("cslam_common_interfaces.msg")
        if not ROBOT.fullmatch(self.robot):
            raise ConfigError(
                f"camera.robot: expected the robot's namespace in cslam, such as r0, got {self.robot!r}."
            )
        self._between = self.create_publisher(
            self._messages.InterRobotLoopClosure, "/cslam/inter_robot_loop_closure", QOS
        )
        self._within = self.create_publisher(
            self._messages.IntraRobotLoopClosure,
            f"/{self.robot}/cslam/intra_robot_loop_closure",
            QOS,
        )
        self._robots: set[str] = set()
        self._listen(self.robot)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(LOOK_S, self._look_for_robots, clock=steady)

    def pass_on(self, closure: LoopClosure, motion: Motion) -> None:
        """cslam has one uncertainty for all edges, so that ours is not passed on."""
        if closure.match.robot == closure.query.robot:
            self._within.publish(within_message(self._messages.IntraRobotLoopClosure, closure))
        else:
            self._between.publish(between_message(self._messages.InterRobotLoopClosure, closure))

    def _look_for_robots(self) -> None:
        for topic, _ in self.get_topic_names_and_types():
            if found := KEYFRAMES.fullmatch(topic):
                self._listen(found[1])

    def _listen(self, robot: str) -> None:
        if robot not in self._robots:
            self._robots.add(robot)
            subscribe(
                self,
                self._messages.KeyframeOdom,
                f"/{robot}/cslam/keyframe_odom",
                partial(self._receive_keyframe, robot),
                QOS,
                on_lost=partial(self.health.count, "keyframes lost"),
            )

    def _receive_keyframe(self, robot: str, keyframe: Any) -> None:
        try:
            stamp_ns = to_ns(keyframe.odom.header.stamp)
        except MessageError as error:
            self.health.problem("keyframe", f"a keyframe of {robot} is left out: {error}")
            return
        if robot == self.robot:
            self.request(keyframe.id, stamp_ns)
        else:
            self.ids.add(robot, keyframe.id, stamp_ns)


def between_message(message_type: type, closure: LoopClosure) -> Any:
    """From the match, robot 0 to cslam, to the query: where the query's base was, seen from the match's."""
    match, query = closure.match, closure.query
    return message_type(
        robot0_id=int(match.robot[1:]),
        robot0_keyframe_id=match.external_id,
        robot1_id=int(query.robot[1:]),
        robot1_keyframe_id=query.external_id,
        success=True,
        transform=transform_of(closure.geometry.match_from_query.pose),
    )


def within_message(message_type: type, closure: LoopClosure) -> Any:
    """The same of one robot."""
    return message_type(
        keyframe0_id=closure.match.external_id,
        keyframe1_id=closure.query.external_id,
        success=True,
        transform=transform_of(closure.geometry.match_from_query.pose),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to end."""
    return run([CslamAdapter], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
