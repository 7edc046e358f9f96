# SPDX-License-Identifier: MIT
"""What a node says of itself on /diagnostics: rates, latencies, counts, and what is wrong."""

import contextlib
import statistics
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node

from netvlad_ros.config import DiagnosticsConfig
from netvlad_ros.nodes.silence import large_message_advice, why_silent
from netvlad_ros.nodes.subscriptions import MatchedSubscription
from netvlad_ros.nodes.throttle import Throttle, cut

# A problem with single messages is reported for as long as it was seen within this time.
PROBLEM_MEMORY_S = 5.0
# Latencies are medians of so many last ones.
LATENCY_SAMPLES = 100


class Health:
    """Counts, times and problems of one node; may be used from several threads."""

    def __init__(
        self,
        node: Node,
        config: DiagnosticsConfig,
        counts: Sequence[str],
        gauges: Callable[[], dict[str, object]] = dict,
    ) -> None:
        """What is reported from the start on.

        counts: counters, which begin at 0; others may follow.
        gauges: gives values that are asked for at each report, such as the size of an index.
        """
        self.config = config
        self._node = node
        self._gauges = gauges
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter(dict.fromkeys(counts, 0))
        self._reported: Counter[str] = Counter()
        self._latencies_s: dict[str, deque[float]] = defaultdict(
            lambda: deque(maxlen=LATENCY_SAMPLES)
        )
        self._problems: dict[str, tuple[str, float]] = {}  # kind -> sentence, when it expires
        self._throttle = Throttle()
        self._watched: MatchedSubscription | None = None
        self._may_be_quiet = False
        self._begin_s = self._last_arrival_s = self._last_report_s = time.monotonic()
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # A timer on the node's own clock would stand still with use_sim_time and no /clock.
        self._timer = node.create_timer(
            config.period_s, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def watch(self, subscription: MatchedSubscription, may_be_quiet: bool = False) -> None:
        """From now on silence on this subscription is a problem, unless it may be quiet and is connected."""
        self._watched, self._may_be_quiet = subscription, may_be_quiet
        self._last_arrival_s = time.monotonic()

    def arrived(self) -> None:
        """A message came in on the watched subscription."""
        self.count("received")
        self._last_arrival_s = time.monotonic()
        self._throttle.forget("silence")

    def lost(self, number: int) -> None:
        """Messages of the watched subscription were sent but did not get here; a few are no problem."""
        self.count("lost", number)
        if self._watched is not None and self._counts["lost"] > self._counts["received"]:
            advice = large_message_advice(self._node, self._watched)
            self.problem("lost", f"most messages on {self._watched.topic_name} are lost{advice}.")

    def count(self, name: str, number: int = 1) -> None:
        """Adds to a counter, which is reported as a total and as a rate."""
        with self._lock:
            self._counts[name] += number

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Times one stage of the work on a message."""
        start = time.perf_counter()
        yield
        self.took(stage, time.perf_counter() - start)

    def took(self, stage: str, seconds: float) -> None:
        """Remembers how long a stage took."""
        with self._lock:
            self._latencies_s[stage].append(seconds)

    def problem(self, kind: str, sentence: str, lasting: bool = False) -> None:
        """Logs what is wrong, and reports it until it was not seen for a while or, if lasting, is solved."""
        sentence = cut(sentence)
        expiry = float("inf") if lasting else time.monotonic() + PROBLEM_MEMORY_S
        with self._lock:
            self._problems[kind] = (sentence, expiry)
        if self._throttle.passes(kind, sentence):
            self._node.get_logger().error(sentence)

    def solved(self, kind: str) -> None:
        """A lasting problem is gone."""
        with self._lock:
            self._problems.pop(kind, None)
        self._throttle.forget(kind)

    def _report(self) -> None:
        status = self._status()
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _status(self) -> DiagnosticStatus:
        warnings = [each for each in (self._standing_clock(), self._silence()) if each]
        with self._lock:
            now = time.monotonic()
            self._problems = {
                kind: entry for kind, entry in self._problems.items() if entry[1] > now
            }
            problems = [sentence for sentence, _ in self._problems.values()]
            values = self._rates(now) | self._medians()
        values |= {name: cut(str(value)) for name, value in self._gauges().items()}
        level = (
            DiagnosticStatus.ERROR
            if problems
            else DiagnosticStatus.WARN
            if warnings
            else DiagnosticStatus.OK
        )
        return DiagnosticStatus(
            level=level,
            name=self._node.get_fully_qualified_name().lstrip("/"),
            message="; ".join([*problems, *warnings]) or "working",
            hardware_id="netvlad_ros",
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )

    def _silence(self) -> str:
        """What to do about it if nothing arrives; empty otherwise."""
        quiet_s = time.monotonic() - self._last_arrival_s
        if self._watched is None or quiet_s < self.config.silence_s:
            return ""
        cause = why_silent(self._node, self._watched)
        if cause.is_connected and self._may_be_quiet:
            return ""
        sentence = (
            f"nothing arrived on {self._watched.topic_name} for {quiet_s:.0f} s: {cause.advice}"
        )
        # One of ours that is there says itself what it waits for.
        is_told_elsewhere = cause.is_connected and self._watched.type_name.startswith(
            "netvlad_ros/"
        )
        if not is_told_elsewhere and self._throttle.passes("silence", cause.advice):
            self._node.get_logger().warning(sentence)
        return sentence

    def _standing_clock(self) -> str:
        """What to do about a simulated time that does not begin; empty otherwise."""
        clock = self._node.get_clock()
        waited_s = time.monotonic() - self._begin_s
        if waited_s < self.config.silence_s or clock.now().nanoseconds > 0:
            return ""
        publishers = self._node.get_publishers_info_by_topic("/clock")
        source = f"{publishers[0].node_name} sends nothing on" if publishers else "nobody publishes"
        sentence = (
            f"use_sim_time is true and {source} /clock, so time stands still at 0; play the bag with "
            "--clock, or leave use_sim_time out."
        )
        if self._throttle.passes("clock", sentence):
            self._node.get_logger().warning(sentence)
        return sentence

    def _rates(self, now: float) -> dict[str, str]:
        elapsed_s = max(now - self._last_report_s, 1e-3)
        rates = {
            name: (total - self._reported[name]) / elapsed_s for name, total in self._counts.items()
        }
        self._reported, self._last_report_s = Counter(self._counts), now
        return {
            name: f"{total} ({rates[name]:.1f} Hz)" for name, total in sorted(self._counts.items())
        }

    def _medians(self) -> dict[str, str]:
        return {
            f"{stage} (median ms)": f"{1e3 * statistics.median(times):.2f}"
            for stage, times in self._latencies_s.items()
        }
