# SPDX-License-Identifier: MIT
"""Nodes that were killed close loops with the map of before, also of places that it shows twice."""

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_nodes import NodeProcess, Ros, Start, stamp
from made_up_views import Scene, standing
from rclpy.publisher import Publisher

from netvlad_ros.image_data import ImageData
from netvlad_ros.msg import GlobalDescriptor, LoopClosure
from netvlad_ros.nodes.image_data_messages import image_data_messages

pytestmark = pytest.mark.needs("rclpy")

HERE = Scene()
NAMES = ("keyframe_database_node", "loop_closure_node")


def described(number: int, x_m: float, *, is_here: bool) -> GlobalDescriptor:
    """A keyframe of a robot that drives along x, and is here now and then."""
    message = GlobalDescriptor(fingerprint="model", choice=GlobalDescriptor.KEYFRAME)
    message.header.stamp = stamp((1000 + number) * 1_000_000_000)
    descriptor = np.eye(16, dtype=np.float32)[0 if is_here else 1 + number % 15]
    message.descriptor = descriptor.tolist()
    view = HERE.seen_from(standing(), odometry=standing(x_m))
    data = view if is_here else ImageData(odometry=view.odometry)
    message.data = image_data_messages(data, message.header.stamp)
    return message


@pytest.mark.slow
def test_a_place_that_the_map_shows_twice_is_closed_with_both(
    start: Start, ros: Ros, tmp_path: Path
) -> None:
    parameters = {
        "database.path": str(tmp_path / "map.db"),
        "database.exclude_recent_s": 0.0,
        "candidates.min_similarity": 0.8,
        "closures.min_agreeing": 0,
    }

    def running(namespace: str) -> tuple[list[NodeProcess], Publisher, list[Any]]:
        """In a namespace of their own: what was killed is remembered for a while."""
        closures = ros.listen(LoopClosure, f"{namespace}/loop_closures")
        publisher = ros.publisher(GlobalDescriptor, f"{namespace}/global_descriptor")
        nodes = [start(name, parameters, namespace=namespace) for name in NAMES]
        for node in nodes:
            node.until_ready()
        nodes[0].until(lambda: publisher.get_subscription_count() and nodes[0].count("subscribers"))
        nodes[1].until(lambda: nodes[1].count("subscribers to closures"))
        return nodes, publisher, closures

    nodes, publisher, _ = running("/before")
    way_m = [*np.linspace(0, 14, 8), *np.linspace(14, 0, 8)]
    for number, x_m in enumerate(way_m):
        publisher.publish(described(number, x_m, is_here=x_m == 0))
    nodes[0].until(lambda: nodes[0].count("added") == len(way_m))
    assert nodes[0].call("save").success
    for node in nodes:
        node.send(signal.SIGKILL)
        assert node.exit_code() == -signal.SIGKILL

    nodes, publisher, closures = running("/after")
    publisher.publish(described(50, 0.0, is_here=True))
    nodes[1].until(lambda: len(closures) == 2)
    assert {each.match.number for each in closures} == {0, 15}
    assert {each.match.session == each.query.session for each in closures} == {False}
