# SPDX-License-Identifier: MIT
"""Starting, spinning and ending the processes that hold our nodes."""

import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node

from netvlad_ros.errors import ConfigError, NetVLADError
from netvlad_ros.nodes.transport import use_large_message_transport


def run(make_nodes: Sequence[Callable[[], Node]], arguments: Sequence[str] | None = None) -> int:
    """Makes the nodes, spins them until SIGINT, SIGTERM or shutdown, ends them; returns the exit code."""
    use_large_message_transport()
    nodes: list[Node] = []
    try:
        _initialise_for_spinning(list(arguments) if arguments is not None else sys.argv)
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


def initialise(arguments: list[str], **options: Any) -> None:
    """rclpy.init(), whose complaints about words after --ros-args become ConfigErrors."""
    try:
        rclpy.init(args=arguments, **options)
    except RuntimeError as error:
        raise ConfigError(
            f"{str(error).splitlines()[0]}; see the words after --ros-args."
        ) from None


def _initialise_for_spinning(arguments: list[str]) -> None:
    """From here on SIGINT and SIGTERM do nothing but end the context.

    Python's KeyboardInterrupt in the middle of an import of TensorFlow would crash the process.
    """
    asked_to_end: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: asked_to_end.append(number))
    initialise(arguments)
    if asked_to_end:  # before rclpy's own handlers were there
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
