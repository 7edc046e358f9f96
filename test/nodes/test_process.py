# SPDX-License-Identifier: MIT
"""A process of nodes ends when it is told to, also if something in it hangs, and what it has is saved."""

import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.needs("rclpy")

PATIENCE_S = 1.0  # instead of what is patient enough for a real node

# Hangs where it is told to, in the way that it is told to.
NODE = """
import sys, threading, time
from rclpy.node import Node
from netvlad_ros.nodes import process

process.PATIENCE_S = {patience_s}

class HangingNode(Node):
    def __init__(self):
        super().__init__("hanging_node")
        self.create_timer(0.01, self.callback)
        self.hang_in("start")

    def callback(self):
        self.hang_in("callback")

    def close(self):
        print("saved", flush=True)

    def destroy_node(self):
        self.hang_in("destruction")
        super().destroy_node()

    def hang_in(self, place):
        if place == sys.argv[1]:
            print("in", place, flush=True)
            {hang}
        elif place == "callback":
            print("in", place, flush=True)

class Library:
    def __del__(self):
        time.sleep(3600)

loaded = Library() if sys.argv[1] == "unloading" else None
sys.exit(process.run([HangingNode], ["hanging"]))
"""
LOCKED = "lock = threading.Lock(); lock.acquire(); lock.acquire()"


def hanging(process: Callable[..., Any], hang: str, place: str) -> Any:
    return process(sys.executable, "-c", NODE.format(hang=hang, patience_s=PATIENCE_S), place)


@pytest.mark.parametrize(
    ("hang", "number"),
    [
        ("time.sleep(3600)", signal.SIGINT),
        (LOCKED, signal.SIGINT),
        ("while True: pass", signal.SIGTERM),
    ],
    ids=["sleeping", "waiting for a lock", "in a loop"],
)
def test_a_callback_that_hangs_does_not_keep_a_node_from_saving_and_ending(
    hang: str, number: signal.Signals, process: Callable[..., Any]
) -> None:
    node = hanging(process, hang, "callback")
    node.wait_for_output("in callback", 30.0)
    node.send(number)
    assert node.wait(PATIENCE_S + 10.0) == 0
    assert node.output.count("saved") == 1
    assert "without waiting any longer for hang_in (<string>:" in node.output
    assert "Traceback" not in node.output


@pytest.mark.parametrize("place", ["start", "destruction"])
def test_a_node_that_hangs_while_it_starts_or_ends_is_ended_nevertheless(
    place: str, process: Callable[..., Any]
) -> None:
    node = hanging(process, "time.sleep(3600)", place)
    node.wait_for_output("in " + ("start" if place == "start" else "callback"), 30.0)
    node.send(signal.SIGINT)
    start_s = time.monotonic()
    assert node.wait(PATIENCE_S + 10.0) == 0
    assert time.monotonic() - start_s > 0.9 * PATIENCE_S  # what only takes its time gets it
    assert node.output.count("saved") == (0 if place == "start" else 1)
    assert "Traceback" not in node.output


def test_a_library_that_takes_long_to_be_unloaded_does_not_delay_the_end(
    process: Callable[..., Any],
) -> None:
    node = hanging(process, "pass", "unloading")
    node.wait_for_output("in callback", 30.0)
    node.send(signal.SIGINT)
    assert node.wait(10.0) == 0
    assert node.output.count("saved") == 1
