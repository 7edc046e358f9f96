# SPDX-License-Identifier: MIT
"""The node that says which matches are loop-closure candidates, and why the others are not."""

from collections.abc import Sequence

from rclpy.node import Node
from rclpy.qos import QoSProfile

from netvlad_ros.config import Config
from netvlad_ros.msg import KeyframeMatches, LoopClosureCandidates, RejectedMatches
from netvlad_ros.nodes.conversions import candidates_message, query_from, rejected_message
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.parameters import NodeParameters
from netvlad_ros.nodes.process import run
from netvlad_ros.nodes.subscriptions import subscribe
from netvlad_ros.retrieval.candidates import CandidateSelector, Selection

QOS = QoSProfile(depth=100)


class LoopClosureNode(Node):
    """keyframe_matches -> loop_closure_candidates and ~/rejected."""

    def __init__(self) -> None:
        super().__init__("loop_closure_node")
        config = NodeParameters(self, ("candidates", "diagnostics"), self._configure).config
        self._selector = CandidateSelector(config.candidates)
        counts = ("received", "lost", "candidates")
        self._health = Health(self, config.diagnostics, counts, self._gauges)
        self._candidates = self.create_publisher(
            LoopClosureCandidates, "loop_closure_candidates", QOS
        )
        self._rejected = self.create_publisher(RejectedMatches, "~/rejected", QOS)
        subscription = subscribe(
            self, KeyframeMatches, "keyframe_matches", self._select, QOS, on_lost=self._health.lost
        )
        # A robot that stands still makes no keyframes.
        self._health.watch(subscription, may_be_quiet=True)

    def _configure(self, config: Config) -> None:
        self._selector.config = config.candidates
        self._health.config = config.diagnostics

    def _gauges(self) -> dict[str, object]:
        return {
            "subscribers": self._candidates.get_subscription_count(),
            "subscribers to rejected": self._rejected.get_subscription_count(),
        }

    def _select(self, message: KeyframeMatches) -> None:
        self._health.arrived()
        self._compare_limits(message.exclude_recent_s)
        with self._health.timed("select"):
            selection = self._selector.select(query_from(message))
        self._candidates.publish(candidates_message(selection, message))
        self._rejected.publish(rejected_message(selection, message))
        self._report(message, selection)

    def _compare_limits(self, database_exclude_recent_s: float) -> None:
        """The database leaves out recent keyframes, so another limit here would not do what it says."""
        own_s = self._selector.config.exclude_recent_s
        if own_s != database_exclude_recent_s:
            self._health.problem(
                "exclude_recent_s",
                f"candidates.exclude_recent_s is {own_s:g} here and {database_exclude_recent_s:g} in the "
                "database node; start both with the same value.",
            )

    def _report(self, message: KeyframeMatches, selection: Selection) -> None:
        self._health.count("candidates", len(selection.candidates))
        for rejection in selection.rejections:
            self._health.count(f"rejected by {rejection.stage}")
        for candidate in selection.candidates[:1]:
            self.get_logger().info(
                f"keyframe {message.query.id} looks like keyframe {candidate.match.keyframe.keyframe_id} "
                f"(similarity {candidate.match.similarity:.3f})",
                throttle_duration_sec=1.0,
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to end."""
    return run([LoopClosureNode], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
