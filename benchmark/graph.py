# SPDX-License-Identifier: MIT
"""The pose graph: how long it takes, and how far keyframes of rendered towns are off before and after."""

import argparse
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmark.closures import DRIFT, STEP_M
from benchmark.tables import console, print_table
from netvlad_ros.config import VerificationConfig
from netvlad_ros.evaluation.trajectories import ate_m
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.graph.pose_graph import PoseGraph, Solution
from netvlad_ros.image_data import CameraModel, ImageData, Pose
from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.quiet import quiet_start_up
from netvlad_ros.retrieval.loop_detector import LoopDetector
from netvlad_ros.shipped import model_path
from netvlad_ros.verification.geometry import BASE, Geometry
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import exp, inverse, of_pose, quaternion_of
from netvlad_ros.verification.sensors import Sensors
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.odometry import Drift, base_from_camera, drifted
from netvlad_ros.worlds.walks import Shot, walk
from netvlad_ros.worlds.world import World

with quiet_start_up():
    from netvlad_ros.extraction.extractor import NetVLADExtractor

COUNTS = (2_000, 10_000, 30_000, 100_000)
# Of the made-up drive: keyframes of a lap, one closure for so many of later laps, one of these is wrong.
LAP, EVERY, WRONG = 1_000, 10, 5
SEEDS = (0, 1, 2)


def measure(arguments: argparse.Namespace) -> None:
    """Made-up drives of 2,000 to 100,000 keyframes; then --towns, with three seeds of drift each."""
    rows = []
    for count in COUNTS:  # each in a process of its own, whose memory is that of one graph
        with get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(_solve_made_up, (count,)))
    print_table(
        f"Laps of {LAP} keyframes; one in {EVERY} closes a loop with the lap before, one of {WRONG} wrongly",
        ["keyframes", "closures", "wrong", "left out", "off (m)", "solve (s)", "memory (MB)"],
        rows,
    )
    extractor = NetVLADExtractor(model_path(arguments.model))
    rows, shares = [], []
    for town in arguments.towns:
        shots = list(_shots(town, extractor))
        for seed in SEEDS:
            row = _town(town, seed, shots, extractor)
            rows.append(row)
            shares.append(row[3] / row[4])
        console.print(f"town {town}: {len(shots)} images")
    worse = sum(share < 1 for share in shares)
    print_table(
        f"Towns, two laps by day, depth, odometry that drifts by {DRIFT:.0%}: {worse} of {len(shares)} worse "
        f"than odometry, median {statistics.median(shares):.1f} times better",
        ["town", "seed", "closures", "ATE before (m)", "after (m)", "left out", "wrong ones kept"],
        rows,
    )


def _solve_made_up(count: int) -> list[Any]:
    rng = np.random.default_rng(0)
    graph, session, wrong = PoseGraph(), Session("5e" * 16), set()
    radius_m = LAP / np.pi
    truth: list[np.ndarray] = []
    odometry = np.eye(4)
    for number in range(count):
        angle = 2 * np.pi * number / LAP
        pose = exp(np.array([0, 0, 0, 0, 0, angle])) @ exp(np.array([radius_m, 0, 0, 0, 0, 0]))
        if truth:
            noise = rng.normal(0, [0.01, 0.01, 0, 0, 0, 0.001])
            odometry = odometry @ inverse(truth[-1]) @ pose @ exp(noise)
        truth.append(pose)
        read = Pose("odom", "base", odometry[:3, 3].copy(), quaternion_of(odometry[:3, :3]))
        keyframe = Keyframe(session, number, number * 10**9)
        graph.add_keyframe(keyframe, ImageData(odometry=read))
        if number >= LAP and number % EVERY == 0:
            match = number - LAP
            moved = inverse(truth[match]) @ pose @ exp(rng.normal(0, np.repeat([0.02, 0.003], 3)))
            if rng.random() < 1 / WRONG:
                moved = moved @ exp(np.append(rng.normal(0, 4, 2), [0, 0, 0, rng.normal(0, 0.5)]))
                wrong.add((match, number))
            motion = Motion(moved, np.diag(np.repeat([0.02, 0.003], 3) ** 2))
            geometry = Geometry(match_from_query=motion, frame=BASE)
            graph.add_closure(Keyframe(session, match, match * 10**9), keyframe, geometry)
    began_s = time.perf_counter()
    solution = graph.solve()
    took_s = time.perf_counter() - began_s
    found_m = np.array([solution.poses[session.uuid, n][:3, 3] for n in range(count)])
    off_m = ate_m(found_m, np.array(truth)[:, :3, 3])
    left_out = {(c.match.number, c.query.number) for c in solution.rejected}
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    closures = len(solution.used) + len(left_out)
    return [
        count,
        closures,
        len(wrong),
        f"{len(left_out)}, {len(left_out & wrong)} wrong",
        off_m,
        took_s,
        memory_mb,
    ]


def _shots(town: int, extractor: Extractor) -> Iterator[tuple[Shot, np.ndarray, ImageData]]:
    """With descriptor and local features."""
    maker = ImageDataMaker(VerificationConfig())
    with World(town, "town", Camera(640, 480)) as world:
        camera = CameraModel(
            640,
            480,
            "plumb_bob",
            world.camera.matrix(),
            np.zeros(5),
            None,
            "camera",
            base_from_camera(),
        )
        for shot in walk(world, "loop", 2, ["day"], step_m=STEP_M):
            image = world.render(shot.pose, shot.conditions, shot.number)
            depth_m = world.depth_m(shot.pose, shot.conditions)
            yield shot, extractor.extract(image), maker.make(image, Sensors(camera, depth_m))


def _town(
    town: int,
    seed: int,
    shots: Sequence[tuple[Shot, np.ndarray, ImageData]],
    extractor: Extractor,
) -> list[Any]:
    odometry = drifted([shot.pose for shot, *_ in shots], Drift.of_share(DRIFT), 1000 * town + seed)
    detector, graph = LoopDetector(extractor), PoseGraph()
    truth: dict[tuple[str, int], np.ndarray] = {}
    read_m = []
    for (shot, descriptor, data), pose in zip(shots, odometry, strict=True):
        known = replace(data, odometry=pose)
        found = detector.process_descriptor(descriptor, shot.stamp_ns, data=lambda d=known: d)  # type: ignore[misc]
        if found.query is None or found.closures is None:
            continue
        truth[found.query.keyframe.name] = shot.pose.matrix() @ inverse(base_from_camera())
        read_m.append(of_pose(pose)[:3, 3])
        graph.add_keyframe(found.query.keyframe, found.query.data)
        for closure in found.closures.closures:
            graph.add_closure(closure.match.keyframe, closure.query, closure.geometry)
    solution = graph.solve()
    true_m = np.array([pose[:3, 3] for pose in truth.values()])
    found_m = np.array([solution.poses[name][:3, 3] for name in truth])
    closures = len(solution.used) + len(solution.rejected)
    kept = _wrong_ones_kept(solution, truth)
    return [
        town,
        seed,
        closures,
        ate_m(np.array(read_m), true_m),
        ate_m(found_m, true_m),
        len(solution.rejected),
        kept,
    ]


def _wrong_ones_kept(solution: Solution, truth: dict[tuple[str, int], np.ndarray]) -> int:
    """By more than half a metre."""
    off_m = [
        np.linalg.norm(
            (inverse(inverse(truth[c.match.name]) @ truth[c.query.name]) @ c.motion.matrix)[:3, 3]
        )
        for c in solution.used
    ]
    return int(sum(off > 0.5 for off in off_m))
