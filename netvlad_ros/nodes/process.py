# SPDX-License-Identifier: MIT
"""Starting, spinning and ending the processes that hold our nodes."""

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from netvlad_ros.errors import ConfigError, NetVLADError
from netvlad_ros.nodes.throttle import Throttle, cut
from netvlad_ros.nodes.transport import use_large_message_transport

# After a signal, whatever hangs gets so long before the process ends without it; saving gets any time.
PATIENCE_S = 4.0
# While nodes start there is nothing to save, only TensorFlow's import to wait for.
START_PATIENCE_S = 1.0

USAGE = """usage: ros2 run netvlad_ros {program} [--ros-args [-p SECTION.NAME:=VALUE] [--params-file FILE]
                                   [-r TOPIC:=OTHER] [-r __ns:=/NAMESPACE]]

`netvlad config` prints all parameters with meaning, range and default, as such a file."""


def run(make_nodes: Sequence[Callable[[], Node]], arguments: Sequence[str] | None = None) -> int:
    """Makes the nodes, spins them until SIGINT, SIGTERM or shutdown, ends them; returns the exit code."""
    words = list(sys.argv if arguments is None else arguments)
    if _asks_for_help(words):
        sys.stdout.write(USAGE.format(program=Path(sys.argv[0]).stem) + "\n")
        return 0
    use_large_message_transport()
    nodes: list[Node] = []
    stop = StopSignal()
    try:
        initialise(words, signal_handler_options=SignalHandlerOptions.NO)
        logging.getLogger("netvlad_ros").addHandler(RosLogHandler())
        with stop.limit(START_PATIENCE_S):
            for make_node in make_nodes:
                nodes.append(make_node())
        with stop.limit(PATIENCE_S, lambda: _close(nodes)):
            spin(nodes, stop.received)
        return 0
    except (NetVLADError, ParameterException) as error:
        get_logger("netvlad_ros").fatal(cut(str(error)))
        return 1
    except Exception:
        # Shut down from elsewhere in the middle of something: without a context, anything may fail.
        if rclpy.ok():
            raise
        return 0
    finally:
        end(nodes, stop.exit_soon)


def initialise(arguments: list[str], **options: Any) -> None:
    """rclpy.init(), whose complaints about words after --ros-args become ConfigErrors."""
    try:
        rclpy.init(args=arguments, **options)
    except RuntimeError as error:
        raise ConfigError(
            f"{str(error).splitlines()[0]}; see the words after --ros-args."
        ) from None


class StopSignal:
    """SIGINT and SIGTERM as a future, seen also while the main thread waits in ROS or imports TensorFlow.

    rclpy's own handlers shut the context down, so that nodes could neither log nor publish as they end; and
    Python's KeyboardInterrupt in the middle of an import of TensorFlow would crash the process. So Python's
    handler does nothing, and a thread reads the number of the signal, which Python writes at once.
    """

    def __init__(self) -> None:
        self.received: Future = Future()
        self._limited = threading.Lock()
        self._timer: threading.Timer | None = None
        self._at_limit: tuple[float, Callable[[], None]] | None = None
        self._pipe, written = os.pipe()
        os.set_blocking(written, False)
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: None)
        threading.Thread(target=self._wait, name="signals", daemon=True).start()

    @contextlib.contextmanager
    def limit(self, patience_s: float, last: Callable[[], None] = lambda: None) -> Iterator[None]:
        """What is inside gets so long after a signal; then last() is called, and the process ends."""
        with self._limited:
            self._at_limit = patience_s, last
            if self.received.done():
                self._start_timer()
        try:
            yield
        finally:
            with self._limited:
                self._at_limit = None
                if self._timer is not None:
                    self._timer.cancel()

    def exit_soon(self) -> None:
        """After a signal, what does not save anything ends soon: nodes, whatever else is loaded."""
        if self.received.done():
            timer = threading.Timer(PATIENCE_S, os._exit, (0,))
            timer.daemon = True
            timer.start()
            # TensorFlow takes seconds to be unloaded, when no timer runs any more; launch waits for five.
            atexit.register(_leave)

    def _wait(self) -> None:
        os.read(self._pipe, 1)
        with self._limited:
            if self._at_limit is not None:
                self._start_timer()
        self.received.set_result(None)

    def _start_timer(self) -> None:
        assert self._at_limit is not None
        patience_s, last = self._at_limit
        self._timer = threading.Timer(patience_s, self._exit, (last,))
        self._timer.daemon = True
        self._timer.start()

    def _exit(self, last: Callable[[], None]) -> None:
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        code = frame.f_code
        place = f"{code.co_name} ({code.co_filename}:{frame.f_lineno})"
        try:
            last()
            get_logger("netvlad_ros").warning(f"Ended without waiting any longer for {place}.")
        finally:
            os._exit(0)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def spin(nodes: Sequence[Node], until: Future) -> None:
    """One SingleThreadedExecutor for all nodes; returns when the future is done, or at shutdown."""
    executor = SingleThreadedExecutor()
    for node in nodes:
        executor.add_node(node)
    with contextlib.suppress(ExternalShutdownException):
        executor.spin_until_future_complete(until)


def end(nodes: Sequence[Node], closed: Callable[[], None] = lambda: None) -> None:
    """Closes and destroys the nodes; a second signal does not interrupt what they still have to save.

    closed: called in between, when all is saved.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.ExitStack() as stack:  # all of them, also if one fails
        stack.callback(rclpy.try_shutdown)
        for node in nodes:
            stack.callback(node.destroy_node)
        stack.callback(closed)
        stack.callback(_close, nodes)


_closing = threading.Lock()


def _close(nodes: Sequence[Node]) -> None:
    with _closing, contextlib.ExitStack() as stack:
        for node in nodes:
            stack.callback(getattr(node, "close", lambda: None))


def _asks_for_help(words: list[str]) -> bool:
    own = words[: words.index("--ros-args")] if "--ros-args" in words else words
    return "--help" in own or "-h" in own


class RosLogHandler(logging.Handler):
    """Passes on what the library logs; of what comes again and again, only some."""

    def __init__(self) -> None:
        super().__init__()
        self._throttle = Throttle()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = cut(record.getMessage())
        if record.levelno < logging.WARNING:
            get_logger("netvlad_ros").info(sentence)
        elif self._throttle.passes(f"{record.pathname}:{record.lineno}", sentence):
            get_logger("netvlad_ros").warning(sentence)
