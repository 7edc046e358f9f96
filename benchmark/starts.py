# SPDX-License-Identifier: MIT
"""All three nodes with the shipped model: from exec to the first matches, and what memory they take."""

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image

from benchmark.cameras import START_UP_S, picture, raw_message
from benchmark.tables import console, print_table
from netvlad_ros.errors import NetVLADError
from netvlad_ros.msg import KeyframeMatches, LoopClosureCandidates
from netvlad_ros.nodes.transport import use_large_message_transport

REPEATS = 7
RATE_HZ = 30.0
SETTLE_S = 2.0
LAYOUTS = {
    "one process": ["place_recognition"],
    "three processes": ["descriptor_node", "keyframe_database_node", "loop_closure_node"],
}


@dataclass(frozen=True)
class Start:
    """Seconds from exec to the first message, CPU seconds of all processes until then, and their memory."""

    matches_s: float
    candidates_s: float
    cpu_s: float
    pss_mb: float


def measure(arguments: argparse.Namespace) -> None:
    """Both layouts take turns; a busy machine shows in seconds of the clock, not in those of the CPU."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    use_large_message_transport()
    with _node() as node:
        found = [
            {name: _start(node, names) for name, names in LAYOUTS.items()} for _ in range(REPEATS)
        ]
    rows = [[name, *_medians([each[name] for each in found])] for name in LAYOUTS]
    header = ["layout", "matches s", "least", "candidates s", "CPU s", "PSS MB"]
    print_table("From exec to the first message of all three nodes", header, rows)
    console.print(
        f"a camera of 640x480 at {RATE_HZ:g} Hz is there before; memory {SETTLE_S:g} s later\n"
    )


def _medians(starts: list[Start]) -> list[float]:
    def median(value: Callable[[Start], float]) -> float:
        return statistics.median(map(value, starts))

    return [
        median(lambda each: each.matches_s),
        min(each.matches_s for each in starts),
        median(lambda each: each.candidates_s),
        median(lambda each: each.cpu_s),
        median(lambda each: each.pss_mb),
    ]


@contextlib.contextmanager
def _node() -> Iterator[Node]:
    rclpy.init(args=[])
    node = rclpy.create_node("benchmark_start")
    try:
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _start(node: Node, names: list[str]) -> Start:
    programs = Path(sys.prefix) / "lib" / "netvlad_ros"
    times: dict[str, float] = {}
    publisher = node.create_publisher(Image, "image", 10)
    views = (
        itertools.cycle(  # a robot that drives: the first keyframe may come before somebody listens
            raw_message(np.roll(picture(), shift, axis=1)) for shift in range(0, 640, 80)
        )
    )
    listeners = [
        node.create_subscription(kind, topic, lambda _, topic=topic: _note(times, topic), 10)
        for kind, topic in (
            (KeyframeMatches, "keyframe_matches"),
            (LoopClosureCandidates, "loop_closure_candidates"),
        )
    ]
    started_s = time.perf_counter()
    processes = [subprocess.Popen([programs / name], stderr=subprocess.DEVNULL) for name in names]
    cpu_s = 0.0
    try:
        while len(times) < len(listeners):
            if time.perf_counter() - started_s > START_UP_S:
                raise NetVLADError(f"{', '.join(names)}: no matches after {START_UP_S:g} s.")
            _shoot(node, publisher, next(views))
            cpu_s = cpu_s if times else sum(_cpu_s(each.pid) for each in processes)
        settled_s = time.perf_counter() + SETTLE_S
        while time.perf_counter() < settled_s:
            _shoot(node, publisher, next(views))
        pss_mb = sum(_pss_mb(each.pid) for each in processes)
    finally:
        for each in processes:
            each.terminate()
        for each in processes:
            each.wait(20)
        node.destroy_publisher(publisher)
        for listener in listeners:
            node.destroy_subscription(listener)
    first = [times[topic] - started_s for topic in ("keyframe_matches", "loop_closure_candidates")]
    return Start(first[0], first[1], cpu_s, pss_mb)


def _note(times: dict[str, float], topic: str) -> None:
    times.setdefault(topic, time.perf_counter())


def _shoot(node: Node, publisher: Any, message: Image) -> None:
    message.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(message)
    due_s = time.perf_counter() + 1.0 / RATE_HZ
    while (left_s := due_s - time.perf_counter()) > 0:
        rclpy.spin_once(node, timeout_sec=left_s)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_mb(pid: int) -> float:
    """Memory of a process, with its share of what it has in common with others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3
