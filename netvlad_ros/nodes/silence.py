# SPDX-License-Identifier: MIT
"""Why a subscription receives nothing, as far as the ROS graph tells, and what to do about it."""

from dataclasses import dataclass

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.topic_endpoint_info import TopicEndpointInfo

from netvlad_ros.nodes.subscriptions import MatchedSubscription
from netvlad_ros.nodes.transport import large_message_transport

# What camera.compressed has to be for a topic of this type.
_COMPRESSED = {"sensor_msgs/msg/Image": "false", "sensor_msgs/msg/CompressedImage": "true"}


@dataclass(frozen=True)
class Cause:
    """What is wrong and the next step, and whether there is a publisher that fits nevertheless."""

    advice: str
    is_connected: bool = False


def why_silent(node: Node, subscription: MatchedSubscription) -> Cause:
    """The cause, as far as it can be told."""
    topic, type_name = subscription.topic_name, subscription.type_name
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return Cause(_nobody_publishes(node, type_name))
    of_type = [publisher for publisher in publishers if publisher.topic_type == type_name]
    if not of_type:
        return Cause(_other_type(publishers[0].topic_type, type_name))
    for publisher in of_type:
        if reason := _mismatch(publisher, subscription):
            return Cause(_incompatible(publisher, subscription, reason))
    name = of_type[0].node_name
    advice = large_message_advice(node, subscription) or "; its own diagnostics may say why"
    silence = f"{name} is matched, but it sends nothing or its messages are lost{advice}."
    return Cause(silence, is_connected=True)


def large_message_advice(node: Node, subscription: MatchedSubscription) -> str:
    """What may be done about messages that get lost, as the end of a sentence; empty if nothing is known."""
    wanted = [profile.reliability for profile in subscription.profiles]
    if (
        subscription.type_name != "sensor_msgs/msg/Image"
        or ReliabilityPolicy.BEST_EFFORT not in wanted
    ):
        return ""
    name = f"{subscription.parameter_prefix}.reliability"
    publishers = node.get_publishers_info_by_topic(subscription.topic_name)
    offered = [each.qos_profile.reliability for each in publishers]
    if not subscription.is_matched and ReliabilityPolicy.RELIABLE in offered:
        return f": the camera offers reliable; set {name} to best_available, or leave it out"
    return (
        ": FastDDS drops best-effort messages above 0.5 MB between processes; let the camera publish "
        f"reliably, or start its process too with {'='.join(large_message_transport())}, or subscribe to "
        "its compressed images (camera.compressed)"
    )


def _mismatch(publisher: TopicEndpointInfo, subscription: MatchedSubscription) -> str:
    """Why none of our profiles fits; empty if one does."""
    reason = ""
    for profile in subscription.profiles:
        compatibility, reason = qos_check_compatible(publisher.qos_profile, profile)
        if compatibility != QoSCompatibility.ERROR:
            return ""
    return reason


def _nobody_publishes(node: Node, type_name: str) -> str:
    """Names topics to use instead, of this type or else of the camera's other one."""
    for other in (type_name, *(_COMPRESSED if type_name in _COMPRESSED else ())):
        topics = _published(node, other)
        if topics:
            advice = f"{other} is published on {', '.join(topics[:5])}: remap to one of these"
            return f"nobody publishes it; {advice}{_compressed_hint(other, type_name)}."
    return (
        f"nobody publishes it, nor anything else of type {type_name}; is the publisher running, in this "
        "ROS_DOMAIN_ID?"
    )


def _published(node: Node, type_name: str) -> list[str]:
    topics = [name for name, types in node.get_topic_names_and_types() if type_name in types]
    return sorted(name for name in topics if node.count_publishers(name))


def _other_type(published: str, type_name: str) -> str:
    hint = _compressed_hint(published, type_name)
    return f"it is published as {published}, expected {type_name}{hint}."


def _compressed_hint(published: str, wanted: str) -> str:
    if published == wanted or not {published, wanted} <= _COMPRESSED.keys():
        return ""
    return f"; set camera.compressed to {_COMPRESSED[published]}"


def _incompatible(
    publisher: TopicEndpointInfo, subscription: MatchedSubscription, reason: str
) -> str:
    """Names the policies that differ, and the parameter that changes ours."""
    name, offered = publisher.node_name, publisher.qos_profile
    wanted, ours = subscription.profiles[0], subscription.parameter_prefix
    if not subscription.is_matched and (offered.reliability, wanted.reliability) == (
        ReliabilityPolicy.BEST_EFFORT,
        ReliabilityPolicy.RELIABLE,
    ):
        return (
            f"{name} offers best effort, we ask for reliable; set {ours}.reliability to best_available, "
            "or leave it out."
        )
    if (offered.durability, wanted.durability) == (
        DurabilityPolicy.VOLATILE,
        DurabilityPolicy.TRANSIENT_LOCAL,
    ):
        return f"{name} offers volatile, we ask for transient local; set {ours}.durability to volatile."
    return f"the QoS of {name} does not fit ours ({reason}); see the parameters {ours}.*."
