# SPDX-License-Identifier: MIT
"""Subscriptions whose quality of service the user may override by parameters."""

import copy
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.event_handler import QoSMessageLostInfo, SubscriptionEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from netvlad_ros.errors import ConfigError

OVERRIDABLE = (
    QoSPolicyKind.HISTORY,
    QoSPolicyKind.DEPTH,
    QoSPolicyKind.RELIABILITY,
    QoSPolicyKind.DURABILITY,
)


def subscribe(
    node: Node,
    message_type: type,
    topic: str,
    callback: Callable[[Any], None],
    qos: QoSProfile,
    on_lost: Callable[[QoSMessageLostInfo], None],
    raw: bool = False,
) -> Subscription:
    """A subscription with parameters `qos_overrides.<topic>.subscription.<policy>`.

    on_lost: called when messages were sent but did not get here.
    Raises ConfigError for an override that is not possible.
    """
    try:
        return node.create_subscription(
            message_type,
            topic,
            callback,
            copy.copy(qos),  # rclpy writes the overrides into it
            qos_overriding_options=QoSOverridingOptions(OVERRIDABLE),
            event_callbacks=SubscriptionEventCallbacks(message_lost=on_lost),
            raw=raw,
        )
    except (ParameterException, RuntimeError) as error:
        if not rclpy.ok():
            raise
        name = f"qos_overrides.{node.resolve_topic_name(topic)}.subscription"
        raise ConfigError(
            f"{name}: {str(error).splitlines()[0]}; expected history keep_last or keep_all, a positive "
            "depth, reliability reliable or best_effort, durability volatile or transient_local."
        ) from None
