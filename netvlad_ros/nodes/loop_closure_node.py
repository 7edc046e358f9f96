# SPDX-License-Identifier: MIT
"""The node that says which matches are loop-closure candidates, and why the others are not."""

from collections.abc import Sequence

from rclpy.node import Node

from netvlad_ros.config import Config
from netvlad_ros.msg import KeyframeMatches, LoopClosureCandidates, RejectedMatches
from netvlad_ros.nodes.conversions import candidates_message, query_from, rejected_message
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.parameters import NodeParameters
from netvlad_ros.nodes.runtime import run
from netvlad_ros.retrieval.candidates import CandidateSelector, Selection

QUEUE_DEPTH = 100


class LoopClosureNode(Node):
    """keyframe_matches -> loop_closure_candidates and ~/rejected."""

    def __init__(self) -> None:
        super().__init__("loop_closure_node")
        config = NodeParameters(self, ("candidates", "diagnostics"), self._configure).config
        self._selector = CandidateSelector(config.candidates)
        self._health = Health(self, config.diagnostics, dict)
        self._candidates = self.create_publisher(
            LoopClosureCandidates, "loop_closure_candidates", QUEUE_DEPTH
        )
        self._rejected = self.create_publisher(RejectedMatches, "~/rejected", QUEUE_DEPTH)
        self._health.watch(
            self.create_subscription(KeyframeMatches, "keyframe_matches", self._select, QUEUE_DEPTH)
        )

    def _configure(self, config: Config) -> None:
        self._selector.config = config.candidates
        self._health.config = config.diagnostics

    def _select(self, message: KeyframeMatches) -> None:
        self._health.arrived()
        with self._health.timed("select"):
            selection = self._selector.select(query_from(message))
        self._candidates.publish(candidates_message(selection, message))
        self._rejected.publish(rejected_message(selection, message))
        self._report(message, selection)

    def _report(self, message: KeyframeMatches, selection: Selection) -> None:
        self._health.count("candidates", len(selection.candidates))
        for rejection in selection.rejections:
            self._health.count(f"rejected by {rejection.stage}")
        for candidate in selection.candidates[:1]:
            self.get_logger().info(
                f"keyframe {message.query.id} looks like keyframe {candidate.match.keyframe.keyframe_id} "
                f"(similarity {candidate.match.similarity:.3f})"
            )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to end."""
    return run([LoopClosureNode], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
