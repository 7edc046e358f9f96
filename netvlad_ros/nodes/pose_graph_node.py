# SPDX-License-Identifier: MIT
"""The node that puts keyframes and odometry right by loop closures."""

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from netvlad_ros.config import Config
from netvlad_ros.errors import MessageError, NetVLADError
from netvlad_ros.graph.pose_graph import PoseGraph, Solution
from netvlad_ros.graph.robust import gtsam_module
from netvlad_ros.graph.solver_process import SolverProcess
from netvlad_ros.image_data import Pose
from netvlad_ros.keyframe import Keyframe
from netvlad_ros.msg import KeyframeMatches, KeyframePoses, LoopClosure
from netvlad_ros.nodes.conversions import closure_from, poses_message, query_from
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.image_data_messages import pose_message, transform_message
from netvlad_ros.nodes.parameters import NodeParameters
from netvlad_ros.nodes.process import run
from netvlad_ros.nodes.stamps import to_ns, to_time
from netvlad_ros.nodes.subscriptions import subscribe
from netvlad_ros.sensors.odometry import OdometryBuffer, pose_of
from netvlad_ros.verification.rigid import angle_deg, inverse, of_pose, quaternion_of

QOS = QoSProfile(depth=100)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SECTIONS = ("odometry", "pose_graph", "diagnostics")
# Poses that changed by less are not sent again.
SENT_M, SENT_DEG = 0.01, 0.1


@dataclass(frozen=True, eq=False)
class _Correction:
    """From odometry's frame to the map (4, 4), as the keyframe of this stamp has it."""

    map_from_odom: np.ndarray
    odometry: Pose
    stamp_ns: int

    def holds_for(self, pose: Pose) -> bool:
        """Whether another pose of the odometry is of the same frames; one that jumped is told by a number."""
        frame_id = self.odometry.frame_id.partition("+")[0]
        return (frame_id, self.odometry.child_frame_id) == (pose.frame_id, pose.child_frame_id)


class PoseGraphNode(Node):
    """keyframe_matches, loop_closures, odometry -> corrected_path, corrected_odometry, keyframe_poses, /tf.

    The executor's thread receives, and corrects odometry by the last solution; a second one takes in what
    came and has it solved by another process, the newest state each time.
    """

    def __init__(self) -> None:
        super().__init__("pose_graph_node")
        gtsam_module()
        config = NodeParameters(self, SECTIONS, self._configure).config
        self._config = config
        self._solver = SolverProcess()
        self._graph = PoseGraph(config, self._solver.solve)
        self._arrived: queue.SimpleQueue[KeyframeMatches | LoopClosure | None] = queue.SimpleQueue()
        self._ending = threading.Event()
        self._last: tuple[Keyframe, Pose | None] | None = None
        self._children: dict[str, str] = {}  # of a session, what its poses are of
        self._driven: list[Keyframe] = []
        self._sent: dict[tuple[str, int], np.ndarray] = {}
        self._told: set[object] = set()
        self._solution = Solution()
        self._correction: _Correction | None = None
        self._odometry, self._jumped_ns = OdometryBuffer(), 0
        counts = ("received", "lost", "closures", "odometry", "solved", "refused")
        self._health = Health(self, config.diagnostics, counts, self._gauges)
        self._path = self.create_publisher(Path, "corrected_path", LATCHED)
        self._corrected = self.create_publisher(Odometry, "corrected_odometry", QOS)
        self._poses = self.create_publisher(KeyframePoses, "keyframe_poses", QOS)
        self._send_transform = self._transforms()
        for kind, topic, receive, lost in (
            (LoopClosure, "loop_closures", self._receive_closure, "closures lost"),
            (Odometry, "odometry", self._receive_odometry, "odometry lost"),
        ):
            subscribe(self, kind, topic, receive, QOS, on_lost=partial(self._health.count, lost))
        subscription = subscribe(
            self,
            KeyframeMatches,
            "keyframe_matches",
            self._receive_matches,
            QOS,
            on_lost=self._health.lost,
        )
        # A robot that stands still makes no keyframes.
        self._health.watch(subscription, may_be_quiet=True)
        self._worker = threading.Thread(target=self._work, name="solve", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """Ends the solving."""
        self._ending.set()
        self._arrived.put(None)
        self._solver.close()
        self._worker.join()

    def _configure(self, config: Config) -> None:
        self._config = self._graph.config = config
        self._health.config = config.diagnostics

    def _gauges(self) -> dict[str, object]:
        solution = self._solution
        return {
            "last solution": solution.in_words,
            "closures left out": len(solution.rejected),
            "closures that wait for keyframes": len(solution.waiting),
            "keyframes without a pose": len(solution.unconnected),
            "map": "of earlier drives" if solution.has_map else "begun by this drive",
            "subscribers to keyframe_poses": self._poses.get_subscription_count(),
        }

    def _transforms(self) -> Callable[[TransformStamped], None]:
        """Publishes on /tf, as tf2_ros does; says once where that can't be."""
        if not self._config.pose_graph.publish_tf:
            return lambda transform: None
        if find_spec("tf2_msgs") is None:
            self.get_logger().warning(
                "tf2_msgs is not installed, so that nothing is published on /tf; install it "
                "(ros-DISTRO-tf2-msgs), or set pose_graph.publish_tf to false."
            )
            return lambda transform: None
        kind = import_module("tf2_msgs.msg").TFMessage
        publisher = self.create_publisher(kind, "/tf", QOS)
        return lambda transform: publisher.publish(kind(transforms=[transform]))

    # --- The executor's thread ------------------------------------------------------------------------

    def _receive_matches(self, message: KeyframeMatches) -> None:
        self._health.arrived()
        self._arrived.put(message)

    def _receive_closure(self, message: LoopClosure) -> None:
        self._health.count("closures")
        self._arrived.put(message)

    def _receive_odometry(self, message: Odometry) -> None:
        """Corrected at once, unless nobody knows how."""
        self._health.count("odometry")
        try:
            pose, stamp_ns = pose_of(message), to_ns(message.header.stamp)
        except MessageError as error:
            self._health.problem("odometry", str(error))
            return
        if problem := self._odometry.add(stamp_ns, pose):
            self._health.problem("odometry", problem)
            self._jumped_ns = stamp_ns
        correction = self._correction
        if correction is None or correction.stamp_ns < self._jumped_ns:
            return
        if not correction.holds_for(pose):
            self._health.problem(
                "frames",
                f"odometry is of {pose.child_frame_id} in {pose.frame_id}, that of keyframes of "
                f"{correction.odometry.child_frame_id} in {correction.odometry.frame_id}; remap odometry to "
                "the topic that descriptor_node has.",
            )
            return
        self._publish_corrected(message, pose, correction.map_from_odom)

    def _publish_corrected(self, message: Odometry, pose: Pose, map_from_odom: np.ndarray) -> None:
        frame_id = self._config.pose_graph.map_frame
        transform = TransformStamped(header=message.header, child_frame_id=pose.frame_id)
        message.pose.pose = pose_message(_as_pose(map_from_odom @ of_pose(pose))).pose
        message.header.frame_id = transform.header.frame_id = frame_id
        transform.transform = transform_message(map_from_odom)
        self._corrected.publish(message)
        self._send_transform(transform)

    # --- The solving thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        while (message := self._arrived.get()) is not None:
            self._guarded(partial(self._take_in, message))
            if not self._arrived.empty():
                continue
            began_s = time.monotonic()
            self._guarded(self._solve)
            took_s = time.monotonic() - began_s
            self._ending.wait(max(self._config.pose_graph.period_s, took_s))

    def _guarded(self, action: Callable[[], None]) -> None:
        """Whatever is wrong with a message or a graph, the node goes on."""
        try:
            action()
        except Exception as error:
            if self._ending.is_set() or not rclpy.ok():
                return
            is_ours = isinstance(error, NetVLADError)
            sentence = str(error) if is_ours else f"{type(error).__name__}: {error}"
            self._health.count("refused")
            self._health.problem("graph", sentence)

    def _take_in(self, message: KeyframeMatches | LoopClosure) -> None:
        if isinstance(message, LoopClosure):
            if problem := self._graph.add_closure(*closure_from(message)):
                self._health.problem("closure", problem)
            return
        query = query_from(message, partial(self._health.problem, "data"))
        for match in query.matches:
            self._graph.add_known(match.keyframe, match.data)
        keyframe, odometry = query.keyframe, query.data.odometry
        if problem := self._graph.add_keyframe(keyframe, query.data):
            self._health.problem("odometry of keyframes", problem)
        if odometry is None:
            self._health.problem(
                "no odometry",
                f"keyframe {keyframe} came without odometry, so that only closures give it a pose; see the "
                "diagnostics of descriptor_node.",
            )
        else:
            self._children[keyframe.session.uuid] = odometry.child_frame_id
        self._driven.append(keyframe)
        self._last = keyframe, odometry

    def _solve(self) -> None:
        with self._health.timed("solve"):
            solution = self._graph.solve()
        self._health.count("solved")
        self._solution = solution
        for closure, reason in solution.rejected.items():
            if closure.names not in self._told:
                self.get_logger().info(f"{closure} is left out: {reason}")
                self._told.add(closure.names)
        if self._last is not None:
            self._correct_odometry(*self._last)
            self._publish(self._last[0])

    def _correct_odometry(self, keyframe: Keyframe, odometry: Pose | None) -> None:
        """By the newest keyframe, if it has a pose and odometry."""
        pose = self._solution.poses.get(keyframe.name)
        if pose is None:
            self._correction = None
            self._health.problem(
                "unconnected",
                f"keyframe {keyframe} is not connected with the map, as odometry began anew, is missing, or "
                "the map is of earlier drives; a loop closure will connect it.",
            )
        elif odometry is not None:
            map_from_odom = pose @ inverse(of_pose(odometry))
            self._correction = _Correction(map_from_odom, odometry, keyframe.stamp_ns)

    def _publish(self, newest: Keyframe) -> None:
        if self._path.get_subscription_count():
            self._path.publish(self._path_message(newest))
        if not self._poses.get_subscription_count():
            return
        changed: dict[str, list[Keyframe]] = defaultdict(list)
        for keyframe in self._driven:
            pose = self._solution.poses.get(keyframe.name)
            if pose is not None and _is_new(self._sent.get(keyframe.name), pose):
                changed[self._children.get(keyframe.session.uuid, "")].append(keyframe)
                self._sent[keyframe.name] = pose
        for child_frame_id, keyframes in changed.items():
            poses = [self._pose(keyframe, child_frame_id) for keyframe in keyframes]
            graph = self.get_fully_qualified_name()
            self._poses.publish(poses_message(keyframes, poses, graph, newest.stamp_ns))

    def _path_message(self, newest: Keyframe) -> Path:
        """Of the camera that made the newest keyframe."""
        path = Path()
        path.header.frame_id = self._config.pose_graph.map_frame
        path.header.stamp = to_time(newest.stamp_ns)
        for keyframe in self._driven:
            is_shown = keyframe.session.stream == newest.session.stream
            if is_shown and keyframe.name in self._solution.poses:
                at = PoseStamped(pose=pose_message(self._pose(keyframe)).pose)
                at.header.frame_id, at.header.stamp = (
                    path.header.frame_id,
                    to_time(keyframe.stamp_ns),
                )
                path.poses.append(at)
        return path

    def _pose(self, keyframe: Keyframe, child_frame_id: str = "") -> Pose:
        matrix = self._solution.poses[keyframe.name]
        return _as_pose(matrix, self._config.pose_graph.map_frame, child_frame_id)


def _as_pose(matrix: np.ndarray, frame_id: str = "", child_frame_id: str = "") -> Pose:
    return Pose(frame_id, child_frame_id, matrix[:3, 3], quaternion_of(matrix[:3, :3]))


def _is_new(sent: np.ndarray | None, pose: np.ndarray) -> bool:
    if sent is None:
        return True
    moved = inverse(sent) @ pose
    return bool(np.linalg.norm(moved[:3, 3]) > SENT_M or angle_deg(moved) > SENT_DEG)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to end."""
    return run([PoseGraphNode], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
