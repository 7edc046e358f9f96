# SPDX-License-Identifier: MIT
"""Why a subscription receives nothing, as far as the ROS graph tells, and what to do about it."""

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from netvlad_ros.nodes.runtime import large_message_transport


def why_silent(node: Node, subscription: Subscription) -> str:
    """A sentence that names the cause and the next step."""
    topic, type_name = subscription.topic_name, _type_name(subscription)
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return _nobody_publishes(node, type_name)
    matching = [publisher for publisher in publishers if publisher.topic_type == type_name]
    if not matching:
        return _other_type(publishers[0], type_name)
    for publisher in matching:
        compatibility, reason = qos_check_compatible(
            publisher.qos_profile, subscription.qos_profile
        )
        if compatibility == QoSCompatibility.ERROR:
            return _incompatible(topic, publisher, subscription.qos_profile, reason)
    return _matched_but_silent(matching[0], type_name, subscription.qos_profile)


def _type_name(subscription: Subscription) -> str:
    package = subscription.msg_type.__module__.split(".")[0]
    return f"{package}/msg/{subscription.msg_type.__name__}"


def _nobody_publishes(node: Node, type_name: str) -> str:
    others = [name for name, types in node.get_topic_names_and_types() if type_name in types]
    published = sorted(name for name in others if node.count_publishers(name))
    if not published:
        return f"nobody publishes it, nor anything else of type {type_name}; is the publisher running, in this ROS_DOMAIN_ID?"
    return f"nobody publishes it; {type_name} is published on {', '.join(published[:5])}: remap to one of these."


def _other_type(publisher: TopicEndpointInfo, type_name: str) -> str:
    kinds = {"sensor_msgs/msg/Image": "false", "sensor_msgs/msg/CompressedImage": "true"}
    hint = (
        f"; set camera.compressed to {kinds[publisher.topic_type]}"
        if publisher.topic_type in kinds
        else ""
    )
    return f"it is published as {publisher.topic_type}, expected {type_name}{hint}."


def _incompatible(topic: str, publisher: TopicEndpointInfo, wanted: QoSProfile, reason: str) -> str:
    """Names the policies that differ, and the parameter that changes ours."""
    parameter = f"qos_overrides.{topic}.subscription"
    offered = publisher.qos_profile
    if (
        offered.reliability == ReliabilityPolicy.BEST_EFFORT
        and wanted.reliability == ReliabilityPolicy.RELIABLE
    ):
        return f"{publisher.node_name} offers best effort, we ask for reliable; set {parameter}.reliability to best_effort."
    if (
        offered.durability == DurabilityPolicy.VOLATILE
        and wanted.durability == DurabilityPolicy.TRANSIENT_LOCAL
    ):
        return f"{publisher.node_name} offers volatile, we ask for transient local; set {parameter}.durability to volatile."
    return f"the QoS of {publisher.node_name} does not fit ours ({reason}); see the parameters {parameter}.*."


def _matched_but_silent(publisher: TopicEndpointInfo, type_name: str, wanted: QoSProfile) -> str:
    """Either the publisher is idle, or its messages are lost on the way."""
    sentence = f"{publisher.node_name} is matched, but it sends nothing or its messages are lost"
    if type_name != "sensor_msgs/msg/Image" or wanted.reliability == ReliabilityPolicy.RELIABLE:
        return f"{sentence}; its own diagnostics may say why."
    return (
        f"{sentence}: FastDDS drops best-effort messages above 0.5 MB between processes unless the camera's process "
        f"too is started with {'='.join(large_message_transport())}; or subscribe to its compressed images "
        "(camera.compressed)."
    )
