# SPDX-License-Identifier: MIT
"""Subscriptions as reliable as what is published, whose quality of service parameters may override."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import QoSMessageLostInfo, SubscriptionEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from netvlad_ros.errors import ConfigError

# Events say at once that a publisher came or went; what the graph knows of it may be later.
MATCH_PERIOD_S = 1.0
# What was said last is heard by who comes later.
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def subscribe(
    node: Node,
    message_type: type,
    topic: str,
    callback: Callable[[Any], None],
    qos: QoSProfile,
    on_lost: Callable[[int], None],
    raw: bool = False,
) -> "MatchedSubscription":
    """A subscription with parameters `qos_overrides.<topic>.subscription.<policy>`.

    qos: its reliability is where the matching begins, before there is a publisher.
    on_lost: called with the number of messages that were sent but did not get here.
    Raises ConfigError for an override that is not possible.
    """
    profile = _overridden(node, node.resolve_topic_name(topic), qos)
    is_matched = profile.reliability == ReliabilityPolicy.BEST_AVAILABLE
    if is_matched:
        profile.reliability = qos.reliability
    return MatchedSubscription(
        node, message_type, topic, callback, profile, on_lost, raw, is_matched
    )


class MatchedSubscription:
    """Subscribes reliably where that is offered and best effort where not, also if both are, or it changes.

    A best-effort subscription would match every publisher, but loses most large images of a reliable one;
    a reliable one gets nothing from a best-effort publisher.
    """

    def __init__(
        self,
        node: Node,
        message_type: type,
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
        on_lost: Callable[[int], None],
        raw: bool,
        is_matched: bool,
    ) -> None:
        """is_matched: whether the profile's reliability follows the publishers'."""
        self.msg_type, self.is_matched = message_type, is_matched
        self._node, self._topic, self._callback, self._raw = node, topic, callback, raw
        self._profile = profile
        self._losses = Losses(on_lost)
        self._reliable_publishers: set[bytes] = set()
        self._changed = node.create_guard_condition(self._match)
        self._subscriptions = {profile.reliability: self._subscribe(profile.reliability)}
        self.topic_name = self._subscriptions[profile.reliability].topic_name
        if is_matched:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            node.create_timer(MATCH_PERIOD_S, self._match, clock=steady)

    @property
    def profiles(self) -> list[QoSProfile]:
        """What is asked for at present; two if publishers differ."""
        return [each.qos_profile for each in self._subscriptions.values()]

    @property
    def type_name(self) -> str:
        """As in `sensor_msgs/msg/Image`."""
        package = self.msg_type.__module__.split(".")[0]
        return f"{package}/msg/{self.msg_type.__name__}"

    @property
    def parameter_prefix(self) -> str:
        """What the names of its parameters begin with."""
        return _parameter_prefix(self.topic_name)

    def _match(self) -> None:
        """Asks each publisher for the reliability that it offers. With no publisher all stays as it is."""
        offered = {
            bytes(each.endpoint_gid): _reliability(each.qos_profile)
            for each in self._node.get_publishers_info_by_topic(self.topic_name)
            if each.topic_type == self.type_name
        }
        self._losses.keep_only(offered)
        if not self.is_matched or not offered:
            return
        wanted = set(offered.values())
        for reliability in wanted - self._subscriptions.keys():
            self._subscriptions[reliability] = self._subscribe(reliability)
        for reliability in self._subscriptions.keys() - wanted:
            self._node.destroy_subscription(self._subscriptions.pop(reliability))
        self._reliable_publishers = (
            {gid for gid, each in offered.items() if each == ReliabilityPolicy.RELIABLE}
            if len(wanted) > 1
            else set()
        )

    def _subscribe(self, reliability: ReliabilityPolicy) -> Subscription:
        profile = copy.copy(self._profile)
        profile.reliability = reliability
        best_effort = reliability == ReliabilityPolicy.BEST_EFFORT

        def receive(message: Any, information: Mapping[str, Any]) -> None:
            gid = _gid(information)
            if best_effort and gid in self._reliable_publishers:
                return  # the other subscription has it too
            self._losses.arrived(gid, information.get("publication_sequence_number"))
            self._callback(message)

        def lost(event: QoSMessageLostInfo) -> None:
            if not (best_effort and self._reliable_publishers):
                self._losses.reported(event.total_count_change)

        events = SubscriptionEventCallbacks(message_lost=lost)
        if self.is_matched:
            events.matched = events.incompatible_qos = lambda _: self._changed.trigger()
        return self._node.create_subscription(
            self.msg_type, self._topic, receive, profile, event_callbacks=events, raw=self._raw
        )


class Losses:
    """Counts messages that were sent and did not get here.

    The middleware reports what the network lost, but not what a full queue of this side overwrote. The
    numbers that publishers give their messages show both, once the next one arrives.
    """

    def __init__(self, on_lost: Callable[[int], None]) -> None:
        """on_lost: called with how many more are lost."""
        self._on_lost = on_lost
        self._last: dict[bytes, int] = {}  # publisher -> number of its last message
        self._missing = self._reported = self._told = 0

    def arrived(self, publisher: bytes, number: int | None) -> None:
        """The next message of a publisher; number: None if the middleware counts none."""
        if not number:
            return
        last = self._last.get(publisher, number - 1)
        self._last[publisher] = max(last, number)
        self._missing += max(0, number - last - 1)
        self._tell()

    def reported(self, number: int) -> None:
        """The middleware missed so many."""
        self._reported += number
        self._tell()

    def keep_only(self, publishers: Mapping[bytes, Any]) -> None:
        """The others are gone."""
        self._last = {gid: last for gid, last in self._last.items() if gid in publishers}

    def _tell(self) -> None:
        lost = max(
            self._missing, self._reported
        )  # not the sum: a message may be seen missing by both
        if lost > self._told:
            self._on_lost(lost - self._told)
            self._told = lost


def _gid(information: Mapping[str, Any]) -> bytes:
    gid = information.get("publisher_gid")
    return bytes(gid["data"]) if gid else b""


def _reliability(offered: QoSProfile) -> ReliabilityPolicy:
    if offered.reliability == ReliabilityPolicy.BEST_EFFORT:
        return ReliabilityPolicy.BEST_EFFORT
    return ReliabilityPolicy.RELIABLE


def _parameter_prefix(topic: str) -> str:
    return f"qos_overrides.{topic}.subscription"


def _overridden(node: Node, topic: str, qos: QoSProfile) -> QoSProfile:
    """With the values of parameters, as rclpy's own overrides; their default is to match the reliability."""
    profile = copy.copy(qos)
    prefix = _parameter_prefix(topic)

    def value(policy: str, default: Any) -> Any:
        descriptor = ParameterDescriptor(
            description=f"{policy} for subscription `{topic}`", read_only=True
        )
        return node.declare_parameter(f"{prefix}.{policy}", default, descriptor).value

    try:
        profile.history = HistoryPolicy[value("history", qos.history.name.lower()).upper()]
        depth = value("depth", qos.depth)
        if depth < 1:
            raise ValueError(f"depth is {depth}")
        profile.depth = depth
        profile.reliability = ReliabilityPolicy[value("reliability", "best_available").upper()]
        profile.durability = DurabilityPolicy[
            value("durability", qos.durability.name.lower()).upper()
        ]
    except (ParameterException, KeyError, ValueError) as error:
        raise ConfigError(
            f"{prefix}: {str(error).splitlines()[0]}; expected history keep_last or keep_all, a positive "
            "depth, reliability best_available (matches the publishers), reliable or best_effort, "
            "durability volatile or transient_local."
        ) from None
    return profile
