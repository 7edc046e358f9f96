# SPDX-License-Identifier: MIT
"""`netvlad play`: publishes all topics of a bag to ROS nodes."""

import importlib.util
import os
import sys

from netvlad_ros.errors import NetVLADError


def become_player(arguments: list[str]) -> None:
    """Becomes the player, so that signals and exit code are its own."""
    if importlib.util.find_spec("rclpy") is None:
        raise NetVLADError(
            "play needs ROS 2, and rclpy can't be imported here; source a ROS 2 installation, or "
            "run `make setup` in a checkout and use its .venv/bin/netvlad."
        )
    player = [sys.executable, "-m", "netvlad_ros.nodes.bag_player"]
    os.execv(player[0], [*player, *arguments])
