# SPDX-License-Identifier: MIT
"""Starting, spinning and ending the processes that hold our nodes."""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node

from netvlad_ros.errors import ConfigError, NetVLADError

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
    nodes: list[Node] = []
    try:
        initialise(list(arguments) if arguments is not None else sys.argv)
        logging.getLogger("netvlad_ros").addHandler(RosLogHandler())
        for make_node in make_nodes:
            nodes.append(make_node())
        spin(nodes)
        return 0
    except (NetVLADError, ParameterException) as error:
        get_logger("netvlad_ros").fatal(str(error))
        return 1
    except Exception:
        # Asked to end in the middle of something: without a context, anything may fail.
        if rclpy.ok():
            raise
        return 0
    finally:
        end(nodes)


def initialise(arguments: list[str]) -> None:
    """rclpy.init(), from which on SIGINT and SIGTERM do nothing but end the context. Raises ConfigError.

    Python's KeyboardInterrupt in the middle of an import of TensorFlow would crash the process.
    """
    asked_to_end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: asked_to_end.set())
    try:
        rclpy.init(args=arguments)
    except RuntimeError as error:
        raise ConfigError(
            f"{str(error).splitlines()[0]}; see the words after --ros-args."
        ) from None
    if asked_to_end.is_set():  # before rclpy's own handlers were there
        rclpy.try_shutdown()


def spin(nodes: Sequence[Node]) -> None:
    """One SingleThreadedExecutor for all nodes; returns at SIGINT, SIGTERM or shutdown."""
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()


def end(nodes: Sequence[Node]) -> None:
    """Closes and destroys the nodes; a second signal does not interrupt what they still have to save."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.ExitStack() as stack:  # all of them, also if one fails
        stack.callback(rclpy.try_shutdown)
        for node in nodes:
            stack.callback(node.destroy_node)
            stack.callback(getattr(node, "close", lambda: None))


class RosLogHandler(logging.Handler):
    """Passes on what the library logs."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = get_logger("netvlad_ros")
        log = logger.warning if record.levelno >= logging.WARNING else logger.info
        log(record.getMessage())


def use_large_message_transport() -> None:
    """Gives FastDDS shared memory that images fit into, unless the user chose a transport.

    To be called before rclpy.init(). With the 0.5 MB that FastDDS takes by itself, larger messages silently
    never reach a best-effort subscriber of another process.
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
