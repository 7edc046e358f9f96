# SPDX-License-Identifier: MIT
"""Where in the map the robot is, on topics and by a service."""

from typing import Any

from geometry_msgs.msg import PoseWithCovarianceStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Header, String

from netvlad_ros.config import MAPPING, Config
from netvlad_ros.errors import MessageError, NetVLADError
from netvlad_ros.nodes.conversions import query_from
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.localisation_messages import (
    localisation_message,
    localise_response,
    no_response,
)
from netvlad_ros.nodes.subscriptions import LATCHED
from netvlad_ros.retrieval.closures import ClosureSelection, ClosureSelector
from netvlad_ros.retrieval.localiser import Localisation, Localiser
from netvlad_ros.retrieval.query import Query
from netvlad_ros.srv import Describe, Localise, LookUp
from netvlad_ros.verification.geometry import BASE

QOS = QoSProfile(depth=10)
# Another node takes less to answer, or is gone.
ANSWER_S = 10.0
ABSENT = "{} does not answer; does that node run, in this namespace?"


class LocalisationTopics:
    """localisation_pose, initial_pose and kidnapped, and the service ~/localise.

    In mode mapping, which the database's node says, nothing is published.
    """

    def __init__(
        self, node: Node, config: Config, verifier: ClosureSelector, health: Health
    ) -> None:
        self._node, self._verifier, self._health = node, verifier, health
        self._localiser = Localiser(config, verifier.motion)
        self._mode = ""
        self._wants_initial_pose = config.localisation.initial_pose_at_start
        self._last: tuple[Localisation, Query, ClosureSelection, Header] | None = None
        self.last = "there was none yet"
        pose = PoseWithCovarianceStamped
        self._poses = node.create_publisher(pose, "localisation_pose", QOS)
        self._initial_pose = node.create_publisher(pose, "initial_pose", QOS)
        self._kidnapped = node.create_publisher(pose, "kidnapped", QOS)
        node.create_subscription(String, "database_mode", self._take_mode, LATCHED)
        self._waiting = ReentrantCallbackGroup()
        self._describe = self._client(Describe, "descriptor_node/describe")
        self._look_up = self._client(LookUp, "keyframe_database_node/look_up")
        # Of its own, as the subscriptions go on while it waits.
        own = MutuallyExclusiveCallbackGroup()
        node.create_service(Localise, "~/localise", self._answer, callback_group=own)

    @property
    def subscribers(self) -> int:
        """Of localisation_pose."""
        return self._poses.get_subscription_count()

    def configure(self, config: Config) -> None:
        """Takes over values that changed while running."""
        self._localiser.config = config

    def localise(self, query: Query, closures: ClosureSelection, header: Header) -> None:
        """Says where the next keyframe of a drive was taken. header: of its image."""
        try:
            with self._health.timed("localise"):
                found = self._localiser.localise(query, closures)
        except Exception as error:  # numbers may be worse than anybody thought
            self._health.problem("localisation", f"no pose: {type(error).__name__}: {error}")
            return
        self.last = (
            found.summary or f"{found.agreeing} keyframes agree on a place in {found.frame_id}"
        )
        self._last = found, query, closures, header
        if found.pose is None or self._mode == MAPPING:
            return
        self._health.count("localised")
        if found.of != BASE:
            self._health.problem(
                "mount",
                "localisation_pose is of the camera, as its mount is not known (sensors.base_from_camera).",
            )
        self._publish(found, localisation_message(found, header))

    def _publish(self, found: Localisation, pose: PoseWithCovarianceStamped) -> None:
        self._poses.publish(pose)
        if self._wants_initial_pose:
            self._wants_initial_pose = False
            self._initial_pose.publish(pose)
        if found.kidnapped:
            self._health.count("kidnapped")
            self._node.get_logger().warning(
                f"kidnapped: {found.agreeing} keyframes agree on another place than odometry leads to"
            )
            self._kidnapped.publish(pose)

    def _take_mode(self, message: String) -> None:
        self._mode = message.data

    # --- The service ----------------------------------------------------------------------------------

    async def _answer(
        self, request: Localise.Request, response: Localise.Response
    ) -> Localise.Response:
        try:
            if request.image:
                response = await self._of_image(request)
            elif self._last is None:
                raise MessageError("no keyframe has arrived yet; does the camera's node run?")
            else:
                response = localise_response(*self._last)
        except NetVLADError as error:
            response = no_response(str(error))
        if response.success and request.set_initial_pose:
            self._initial_pose.publish(response.pose)
        return response

    async def _of_image(self, request: Localise.Request) -> Localise.Response:
        """Raises MessageError."""
        asked = Describe.Request(image=request.image[0], camera_info=request.camera_info)
        described = await self._asked(self._describe, asked)
        looked_up = await self._asked(
            self._look_up, LookUp.Request(descriptor=described.descriptor)
        )
        query = query_from(looked_up.matches)
        closures = self._verifier.select(query)
        found = self._localiser.localise(query, closures)
        return localise_response(found, query, closures, looked_up.matches.header)

    async def _asked(self, client: Any, request: Any) -> Any:
        """What another node answers. Raises MessageError, also if it says that something is wrong."""
        if not client.service_is_ready():
            raise MessageError(ABSENT.format(client.service_name))
        future = client.call_async(request)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        timer = self._node.create_timer(
            ANSWER_S,
            lambda: future.done() or future.set_result(None),
            callback_group=self._waiting,
            clock=steady,
        )
        answer = await future
        self._node.destroy_timer(timer)
        if answer is None:
            raise MessageError(ABSENT.format(client.service_name))
        if not answer.success:
            raise MessageError(answer.message)
        return answer

    def _client(self, kind: type, name: str) -> Any:
        return self._node.create_client(kind, name, callback_group=self._waiting)
