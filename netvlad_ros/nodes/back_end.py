# SPDX-License-Identifier: MIT
"""What adapters for back-ends of other packages share: edges in the back-end's own numbers, or a reason."""

from importlib.util import find_spec

from geometry_msgs.msg import Pose, Transform, Vector3
from rclpy.node import Node
from rclpy.qos import QoSProfile

from netvlad_ros.config import Config
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import ConfigError, EdgeError, NetVLADError
from netvlad_ros.graph.external_ids import ExternalIds
from netvlad_ros.msg import Keyframe as KeyframeMessage
from netvlad_ros.msg import LoopClosure
from netvlad_ros.nodes.conversions import keyframe_from
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.image_data_messages import motion_from
from netvlad_ros.nodes.parameters import NodeParameters
from netvlad_ros.nodes.stamps import to_time
from netvlad_ros.nodes.subscriptions import subscribe
from netvlad_ros.verification.geometry import BASE
from netvlad_ros.verification.motion import Motion

QOS = QoSProfile(depth=100)
SECTIONS = ("camera", "sensors", "diagnostics")


class BackEndAdapter(Node):
    """The back-end's keyframes -> keyframe_requests; loop_closures -> the back-end.

    So keyframes are the back-end's own, and bear its numbers; the base class of one node for each back-end.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.config = NodeParameters(self, SECTIONS, self._configure).config
        self.robot = self.config.camera.robot
        self.ids = ExternalIds()
        counts = ("received", "lost", "requested", "passed on", "refused")
        self.health = Health(self, self.config.diagnostics, counts)
        self._requests = self.create_publisher(KeyframeMessage, "keyframe_requests", QOS)
        subscription = subscribe(
            self, LoopClosure, "loop_closures", self._receive, QOS, on_lost=self.health.lost
        )
        # A robot that finds no place again closes no loops.
        self.health.watch(subscription, may_be_quiet=True)

    def request(self, number: int, stamp_ns: int) -> bool:
        """The back-end has a new keyframe. Whether it is the first one of its run."""
        self.health.count("requested")
        self._requests.publish(
            KeyframeMessage(robot=self.robot, stamp=to_time(stamp_ns), external_id=number)
        )
        return self.ids.add(self.robot, number, stamp_ns)

    def pass_on(self, closure: LoopClosure, motion: Motion) -> None:
        """Gives the back-end an edge that it can take. Raises EdgeError."""
        raise NotImplementedError

    def _configure(self, config: Config) -> None:
        self.config = config
        self.health.config = config.diagnostics

    def _receive(self, closure: LoopClosure) -> None:
        if closure.query.robot != self.robot:
            return  # another robot's adapter has it
        self.health.arrived()
        try:
            self.pass_on(closure, self._edge(closure))
        except NetVLADError as error:
            kind = error.kind if isinstance(error, EdgeError) else "impossible"
            self.health.count("refused")
            self.health.count(f"refused, {kind}")
            self.health.problem(kind, f"a loop closure is refused: {error}")
        else:
            self.health.count("passed on")

    def _edge(self, closure: LoopClosure) -> Motion:
        """From the match to the query, of the base. Raises NetVLADError for what a back-end can't take."""
        geometry, base = closure.geometry, self.config.sensors.base_frame
        tolerance_ns = round(self.config.sensors.tolerance_s * NANOSECONDS)
        for end in (closure.match, closure.query):
            self.ids.check(keyframe_from(end), tolerance_ns)
        if geometry.scale_unknown:
            raise EdgeError(
                "without scale",
                "its translation is a direction, not metres, as one camera alone gives it; publish depth, a "
                "right image or odometry.",
            )
        if geometry.frame != BASE and closure.header.frame_id != base:
            raise EdgeError(
                "of another frame",
                f"it is of camera {closure.header.frame_id!r}, and poses of the back-end are of {base!r}; "
                "set sensors.base_from_camera, or sensors.base_frame to what the back-end's poses are of.",
            )
        return motion_from(geometry.match_from_query)


def transform_of(pose: Pose) -> Transform:
    """The same, as other packages have it."""
    at = pose.position
    return Transform(translation=Vector3(x=at.x, y=at.y, z=at.z), rotation=pose.orientation)


def require(package: str, source: str) -> None:
    """Raises ConfigError where somebody else's package of messages is not installed.

    source: where it is from.
    """
    if find_spec(package) is None:
        raise ConfigError(
            f"this adapter needs the messages of {package}, which is not installed; it is from {source}; "
            "source its workspace, then start the adapter again."
        )
