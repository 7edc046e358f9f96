# SPDX-License-Identifier: MIT
"""The keyframes of a replay put right by a pose graph: how wrong they were before and after, as files too."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from netvlad_ros.config import Config
from netvlad_ros.errors import NetVLADError
from netvlad_ros.evaluation.closure_graph import write_solved_graph
from netvlad_ros.evaluation.detection_log import DetectionLog
from netvlad_ros.evaluation.plots import DPI
from netvlad_ros.evaluation.report import make_folder, plural
from netvlad_ros.evaluation.trajectories import Trajectory, Truth, aligned, ate_m, write_tum
from netvlad_ros.figures import save_figure
from netvlad_ros.graph.parts import GraphClosure
from netvlad_ros.graph.pose_graph import PoseGraph, Solution
from netvlad_ros.image_data import CorrectedPose, ImageData, Pose
from netvlad_ros.keyframe import Keyframe
from netvlad_ros.verification.rigid import of_pose, quaternion_of

TRUE, CLOSED, LEFT_OUT, WAY = "#bbbbbb", "#2ca02c", "#d62728", "#1f77b4"


@dataclass(frozen=True, eq=False)
class GraphReport:
    """What a pose graph makes of the keyframes of a log.

    keyframes: those of which all is known that follows.
    odometry, corrected, truth: of these, and of the same frame. Truth is None where nobody knows it.
    """

    log: DetectionLog
    config: Config
    solution: Solution
    keyframes: Sequence[Keyframe]
    odometry: Trajectory
    corrected: Trajectory
    truth: Trajectory | None

    @property
    def ate_m(self) -> tuple[float, float] | None:
        """Of odometry and of corrected poses; None without truth."""
        if self.truth is None or len(self.keyframes) < 3:
            return None
        truth_m = self.truth.positions_m
        return ate_m(self.odometry.positions_m, truth_m), ate_m(self.corrected.positions_m, truth_m)

    @property
    def sentences(self) -> list[str]:
        """What came out, in words."""
        said = [f"pose graph: {self.solution.in_words}"]
        if not self.keyframes:
            said.append(
                "no keyframe has both a corrected pose and odometry, so there is no trajectory; record "
                "nav_msgs/Odometry too, or name its topic"
            )
        for reason, count in Counter(self.solution.rejected.values()).most_common():
            said.append(f"left out {plural(count, 'closure')}: {reason}")
        if self.ate_m is not None:
            before, after = self.ate_m
            said.append(
                f"absolute trajectory error: {before:.3f} m by odometry, {after:.3f} m corrected "
                f"({len(self.keyframes)} keyframes)"
            )
        return said


def solved(log: DetectionLog, config: Config) -> Solution:
    """What a pose graph makes of a log. Raises GraphError."""
    graph = PoseGraph(config)
    for each in log.keyframes:
        for match in each.query.matches:
            graph.add_known(match.keyframe, match.data)
        graph.add_keyframe(each.query.keyframe, each.query.data)
        for closure in each.closures.closures:
            graph.add_closure(closure.match.keyframe, closure.query, closure.geometry)
    return graph.solve()


def corrected_poses(
    log: DetectionLog, solution: Solution, config: Config
) -> dict[tuple[str, int], CorrectedPose]:
    """By the names of keyframes, as a map keeps them."""
    solved_ns = log.keyframes[-1].query.keyframe.stamp_ns
    found = {}
    for each in log.keyframes:
        matrix = solution.poses.get(each.query.keyframe.name)
        if matrix is None:
            continue
        odometry = each.query.data.odometry
        child_frame_id = "" if odometry is None else odometry.child_frame_id
        position_m, turned = matrix[:3, 3], quaternion_of(matrix[:3, :3])
        pose = Pose(config.pose_graph.map_frame, child_frame_id, position_m, turned)
        found[each.query.keyframe.name] = CorrectedPose(pose, "replay", solved_ns)
    return found


def graph_report(
    log: DetectionLog, config: Config, solution: Solution, truth: Truth | None = None
) -> GraphReport:
    """A solution beside odometry and truth."""
    keyframes: list[Keyframe] = []
    ways: list[list[np.ndarray]] = [[], [], []]  # odometry, corrected, truth
    for each in log.keyframes:
        keyframe, data = each.query.keyframe, each.query.data
        pose = solution.poses.get(keyframe.name)
        true = None if truth is None else truth.at(keyframe.stamp_ns)
        if pose is None or data.odometry is None or (truth is not None and true is None):
            continue
        mount = np.eye(4) if true is None else _seen_by_truth(true, data)
        keyframes.append(keyframe)
        ways[0].append(of_pose(data.odometry) @ mount)
        ways[1].append(pose @ mount)
        ways[2].append(np.eye(4) if true is None else of_pose(true))
    stamps_ns = np.array([keyframe.stamp_ns for keyframe in keyframes], np.int64)
    odometry, corrected, real = (
        Trajectory(stamps_ns, np.array(way).reshape(-1, 4, 4)) for way in ways
    )
    return GraphReport(
        log, config, solution, keyframes, odometry, corrected, None if truth is None else real
    )


def _seen_by_truth(true: Pose, data: ImageData) -> np.ndarray:
    """(4, 4) from what odometry is of to the camera, if it is the camera whose true pose is known."""
    assert data.odometry is not None
    mount = None if data.camera is None else data.camera.base_from_camera
    same = true.child_frame_id == data.odometry.child_frame_id
    return np.eye(4) if same or mount is None else mount


def write_graph(folder: Path, report: GraphReport) -> list[Path]:
    """Writes graph.g2o, odometry.tum, corrected.tum, truth.tum where it is known, and map.png.

    Raises NetVLADError if the folder can't be written.
    """
    make_folder(folder)
    ways = {"odometry": report.odometry, "corrected": report.corrected}
    if report.truth is not None:
        ways["truth"] = report.truth
    written = [folder / "graph.g2o", *(folder / f"{name}.tum" for name in ways), folder / "map.png"]
    try:
        write_solved_graph(written[0], report.log, report.config, report.solution)
        for path, way in zip(written[1:-1], ways.values(), strict=True):
            write_tum(path, way)
    except OSError as error:
        raise NetVLADError(f"{folder}: can't write the results ({error.strerror}).") from None
    draw_map(written[-1], report)
    return written


def draw_map(path: Path, report: GraphReport) -> None:
    """By odometry and corrected, each above the truth where that is known. Raises NetVLADError."""
    ways = {"odometry": report.odometry, "corrected": report.corrected}
    span_m = np.ptp(np.append(report.odometry.positions_m, np.zeros((1, 3)), 0), axis=0)
    is_wide = span_m[0] > 1.5 * span_m[1]  # then one above the other
    figure = Figure(figsize=(10, 9) if is_wide else (11, 5.5), dpi=DPI, layout="constrained")
    panels = figure.subplots(*(2, 1) if is_wide else (1, 2), sharex=True, sharey=True)
    errors_m = report.ate_m or (None, None)
    for axes, (name, way), error_m in zip(panels, ways.items(), errors_m, strict=True):
        axes.set_aspect("equal")
        axes.set_xlabel("x (m)")
        axes.set_title(name if error_m is None else f"{name}: ATE {error_m:.2f} m")
        _draw(axes, way.positions_m, report)
    save_figure(figure, path)


def _draw(axes: Axes, positions_m: np.ndarray, report: GraphReport) -> None:
    if report.truth is not None:
        truth_m = report.truth.positions_m
        axes.plot(truth_m[:, 0], truth_m[:, 1], color=TRUE, linewidth=5, label="true")
        if len(positions_m):
            positions_m = aligned(positions_m, truth_m)
    axes.plot(positions_m[:, 0], positions_m[:, 1], color=WAY, linewidth=1.2, label="keyframes")
    solution = report.solution
    for closures, colour, name in (
        (solution.used, CLOSED, "loop closures"),
        (list(solution.rejected), LEFT_OUT, "left out"),
    ):
        lines = _lines(positions_m, closures, report.keyframes)
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=1.3, zorder=3, label=name)
        )
    axes.legend(fontsize=8)


def _lines(
    positions_m: np.ndarray, closures: Sequence[GraphClosure], keyframes: Sequence[Keyframe]
) -> list[np.ndarray]:
    rows = {keyframe.name: row for row, keyframe in enumerate(keyframes)}
    pairs = [[rows[name] for name in c.names] for c in closures if rows.keys() >= set(c.names)]
    return [positions_m[pair, :2] for pair in pairs]
