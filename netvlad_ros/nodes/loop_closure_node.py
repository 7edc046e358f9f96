# SPDX-License-Identifier: MIT
"""The node that says which matches are loop-closure candidates or closures, and why the others are not."""

from collections.abc import Sequence
from functools import partial

from rclpy.node import Node
from rclpy.qos import QoSProfile

from netvlad_ros.calibration import resolved_min_similarity
from netvlad_ros.config import Config
from netvlad_ros.errors import NetVLADError
from netvlad_ros.msg import KeyframeMatches, LoopClosure, LoopClosureCandidates, RejectedMatches
from netvlad_ros.nodes.conversions import (
    candidates_message,
    closure_message,
    query_from,
    rejected_message,
)
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.localisation_topics import LocalisationTopics
from netvlad_ros.nodes.parameters import NodeParameters
from netvlad_ros.nodes.process import run
from netvlad_ros.nodes.subscriptions import subscribe
from netvlad_ros.retrieval.closures import ClosureSelection, ClosureSelector
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.selection import CandidateSelector, Selection
from netvlad_ros.retrieval.stages import Decision

QOS = QoSProfile(depth=100)
SECTIONS = ("candidates", "verification", "odometry", "closures", "localisation", "diagnostics")


class LoopClosureNode(Node):
    """keyframe_matches -> loop_closure_candidates, loop_closures, ~/rejected, and where in the map it is."""

    def __init__(self) -> None:
        super().__init__("loop_closure_node")
        config = NodeParameters(self, SECTIONS, self._configure).config
        self._selector = CandidateSelector(config.candidates)
        self._verifier = ClosureSelector(config)
        self._last_query = self._last_closure = "there was none yet: no keyframe has arrived"
        counts = ("received", "lost", "candidates", "compared", "closures", "held", "refused")
        self._health = Health(self, config.diagnostics, counts, self._gauges)
        self._candidates = self.create_publisher(
            LoopClosureCandidates, "loop_closure_candidates", QOS
        )
        self._closures = self.create_publisher(LoopClosure, "loop_closures", QOS)
        self._rejected = self.create_publisher(RejectedMatches, "~/rejected", QOS)
        self._localisation = LocalisationTopics(self, config, self._verifier, self._health)
        subscription = subscribe(
            self, KeyframeMatches, "keyframe_matches", self._select, QOS, on_lost=self._health.lost
        )
        # A robot that stands still makes no keyframes.
        self._health.watch(subscription, may_be_quiet=True)

    def _configure(self, config: Config) -> None:
        self._selector.config = config.candidates
        self._verifier.config = config
        self._localisation.configure(config)
        self._health.config = config.diagnostics

    def _gauges(self) -> dict[str, object]:
        return {
            "last query": self._last_query,
            "last closure": self._last_closure,
            "last localisation": self._localisation.last,
            "subscribers": self._candidates.get_subscription_count(),
            "subscribers to closures": self._closures.get_subscription_count(),
            "subscribers to poses": self._localisation.subscribers,
            "subscribers to rejected": self._rejected.get_subscription_count(),
        }

    def _select(self, message: KeyframeMatches) -> None:
        self._health.arrived()
        try:
            with self._health.timed("select"):
                query = query_from(message, partial(self._health.problem, "data"))
                selection = self._selector.select(query)
        except NetVLADError as error:
            self._health.count("refused")
            self._health.problem("matches", f"matches refused: {error}")
            return
        closures = self._verify(query)
        self._candidates.publish(candidates_message(selection, closures, message))
        for closure in closures.closures:
            self._closures.publish(closure_message(closure, message.header.frame_id))
        self._rejected.publish(rejected_message(selection, closures, query, message.header))
        self._localisation.localise(query, closures, message.header)
        self._report(query, selection)
        self._report_closures(closures)

    def _verify(self, query: Query) -> ClosureSelection:
        """None of it ends what candidates by similarity need."""
        try:
            with self._health.timed("verify"):
                closures = self._verifier.select(query)
        except Exception as error:  # numbers may be worse than anybody thought
            is_ours = isinstance(error, NetVLADError)
            sentence = str(error) if is_ours else f"{type(error).__name__}: {error}"
            self._health.problem("verification", f"candidates go on unverified: {sentence}")
            return ClosureSelection(summary=sentence)
        if closures.problem:
            self._health.problem("odometry", closures.problem)
        return closures

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

    def _report_closures(self, closures: ClosureSelection) -> None:
        self._health.count("compared", len(closures.geometries))
        self._health.count("closures", len(closures.closures))
        for verdict in closures.rejections.values():
            is_held = verdict.decision == Decision.HOLD
            self._health.count("held", is_held)
            self._health.count(f"{'held' if is_held else 'rejected'} by {verdict.stage}")
        self._last_closure = closures.summary or f"closes {len(closures.closures)} loops"
        for closure in closures.closures[:1]:
            self.get_logger().info(
                f"keyframe {closure.query} closes a loop with keyframe {closure.match.keyframe}: "
                f"{closure.geometry.in_words}",
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
