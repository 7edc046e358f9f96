# SPDX-License-Identifier: MIT
"""The node that says which matches are loop-closure candidates, and why the others are not."""

from collections.abc import Sequence

from rclpy.node import Node
from rclpy.qos import QoSProfile

from netvlad_ros.calibration import resolved_min_similarity
from netvlad_ros.config import Config
from netvlad_ros.errors import NetVLADError
from netvlad_ros.msg import KeyframeMatches, LoopClosureCandidates, RejectedMatches
from netvlad_ros.nodes.conversions import candidates_message, query_from, rejected_message
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.parameters import NodeParameters
from netvlad_ros.nodes.process import run
from netvlad_ros.nodes.subscriptions import subscribe
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.selection import CandidateSelector, Selection

QOS = QoSProfile(depth=100)
SECTIONS = ("candidates", "verification", "odometry", "closures", "diagnostics")


class LoopClosureNode(Node):
    """keyframe_matches -> loop_closure_candidates and ~/rejected."""

    def __init__(self) -> None:
        super().__init__("loop_closure_node")
        config = NodeParameters(self, SECTIONS, self._configure).config
        self._selector = CandidateSelector(config.candidates)
        self._last_query = "there was none yet: no keyframe has arrived"
        counts = ("received", "lost", "candidates", "refused")
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
            "last query": self._last_query,
            "subscribers": self._candidates.get_subscription_count(),
            "subscribers to rejected": self._rejected.get_subscription_count(),
        }

    def _select(self, message: KeyframeMatches) -> None:
        self._health.arrived()
        try:
            with self._health.timed("select"):
                query = query_from(message)
                selection = self._selector.select(query)
        except NetVLADError as error:
            self._health.count("refused")
            self._health.problem("matches", f"matches refused: {error}")
            return
        self._candidates.publish(candidates_message(selection, message))
        self._rejected.publish(rejected_message(selection, message))
        self._report(query, selection)

    def _report(self, query: Query, selection: Selection) -> None:
        self._warn_without_calibration(query)
        self._health.count("candidates", len(selection.candidates))
        for rejection in selection.rejections:
            self._health.count(f"rejected by {rejection.verdict.stage}")
        self._last_query = selection.summary or f"has {len(selection.candidates)} candidates"
        for candidate in selection.candidates[:1]:
            self.get_logger().info(
                f"keyframe {query.keyframe} looks like keyframe {candidate.match.keyframe} "
                f"({candidate.match.scores})",
                throttle_duration_sec=1.0,
            )

    def _warn_without_calibration(self, query: Query) -> None:
        _, warning = resolved_min_similarity(
            self._selector.config, query.calibration, query.fingerprint
        )
        if warning:
            self._health.problem("calibration", warning)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to end."""
    return run([LoopClosureNode], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
