# SPDX-License-Identifier: MIT
"""Starting, spinning and ending the processes that hold our nodes."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node

from netvlad_ros.errors import NetVLADError

PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
# By any of these the user has decided on the transport.
_USERS_OWN_TRANSPORT = (
    PROFILE_VARIABLE,
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_BUILTIN_TRANSPORTS",
)


def run(make_nodes: Sequence[Callable[[], Node]], arguments: Sequence[str] | None = None) -> int:
    """Makes the nodes, spins them until SIGINT, SIGTERM or shutdown, ends them; returns the exit code."""
    use_large_message_transport()
    rclpy.init(args=list(arguments) if arguments is not None else sys.argv)
    nodes: list[Node] = []
    try:
        for make_node in make_nodes:
            nodes.append(make_node())
        spin(nodes)
        return 0
    except NetVLADError as error:
        get_logger("netvlad_ros").fatal(str(error))
        return 1
    except KeyboardInterrupt:  # while a node is being made
        return 0
    except Exception:
        if rclpy.ok():
            raise
        return 0  # SIGTERM while a node is being made
    finally:
        end(nodes)


def spin(nodes: Sequence[Node]) -> None:
    """One SingleThreadedExecutor for all nodes; returns at SIGINT, SIGTERM or shutdown."""
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # The context may be gone in the middle of a callback or of a wait, which looks like any other error.
        if rclpy.ok():
            raise


def end(nodes: Sequence[Node]) -> None:
    """Closes and destroys the nodes; a second signal does not interrupt what they still have to save."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for node in nodes:
        close: Callable[[], Any] = getattr(node, "close", lambda: None)
        close()
        node.destroy_node()
    rclpy.try_shutdown()


def use_large_message_transport() -> None:
    """Gives FastDDS shared memory that images fit into, unless the user chose a transport; before rclpy.init().

    With its own 0.5 MB, larger messages silently never reach a best-effort subscriber of another process.
    """
    if not chosen_transport():
        name, value = large_message_transport()
        os.environ[name] = value


def chosen_transport() -> str:
    """The environment variable by which the user chose a transport; empty if there is none."""
    return next((name for name in _USERS_OWN_TRANSPORT if name in os.environ), "")


def large_message_transport() -> tuple[str, str]:
    """Name and value of the environment variable that makes FastDDS use our profile."""
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        share = Path(get_package_share_directory("netvlad_ros"))
    except PackageNotFoundError:  # run from a source tree
        share = Path(__file__).resolve().parents[2]
    return PROFILE_VARIABLE, str(share / "config" / "fastdds.xml")
