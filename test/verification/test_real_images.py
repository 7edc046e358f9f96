# SPDX-License-Identifier: MIT
"""Of real stereo pairs and a real RGB-D drive, closures are found where they should be, and no others."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from netvlad_ros.config.files import from_values
from netvlad_ros.data.bags import Bag
from netvlad_ros.evaluation.detections import detect
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.image_data import CameraModel, ImageData
from netvlad_ros.retrieval.loop_detector import LoopDetector
from netvlad_ros.sensors.recording import RecordedImages, sensor_topics
from netvlad_ros.shipped import model_path
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.rigid import angle_deg, inverse, rigid, rotation_of
from netvlad_ros.verification.sensors import Sensors, StereoRig
from netvlad_ros.verification.verifier import verify

DATA = Path(__file__).parents[3] / "shared" / "data"
STEREO, ROOM = DATA / "euroc_stereo_loops", DATA / "bags" / "rgbd_room_mcap"
# match_from_query of the left camera, for (query, match).
STEREO_TRUTH = {
    (1, 0): [
        *(0.793261, -0.1525, 0.589475, -0.223199),
        *(0.169577, 0.985156, 0.026665, 0.062001),
        *(-0.584791, 0.078809, 0.807346, 0.364467),
    ],
    (3, 2): [
        *(0.96356, 0.123294, -0.237384, 0.307751),
        *(-0.129194, 0.991575, -0.009397, -0.002903),
        *(0.234226, 0.039723, 0.97137, 0.077497),
    ],
}


def euroc_camera(
    name: str, fu: float, fv: float, cu: float, cv: float, d: list[float]
) -> CameraModel:
    k = np.array([[fu, 0, cu], [0, fv, cv], [0, 0, 1]])
    return CameraModel(752, 480, "plumb_bob", k, np.array(d), None, name)


LEFT = euroc_camera(
    *("left", 458.654, 457.296, 367.215, 248.375),
    d=[-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05],
)
RIGHT = euroc_camera(
    *("right", 457.587, 456.134, 379.999, 255.238),
    d=[-0.28368365, 0.07451284, -0.00010473, -3.55590700e-05],
)
BODY_FROM_LEFT = [
    *(0.0148655429818, -0.999880929698, 0.00414029679422, -0.0216401454975),
    *(0.999557249008, 0.0149672133247, 0.025715529948, -0.064676986768),
    *(-0.0257744366974, 0.00375618835797, 0.999660727178, 0.00981073058949),
]
BODY_FROM_RIGHT = [
    *(0.0125552670891, -0.999755099723, 0.0182237714554, -0.0198435579556),
    *(0.999598781151, 0.0130119051815, 0.0251588363115, 0.0453689425024),
    *(-0.0253898008918, 0.0179005838253, 0.999517347078, 0.00786212447038),
]


def matrix(rows: list[float]) -> np.ndarray:
    return np.vstack([np.reshape(rows, (3, 4)), [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def pairs() -> list[ImageData]:
    right_from_left = inverse(matrix(BODY_FROM_RIGHT)) @ matrix(BODY_FROM_LEFT)
    left_r, right_r, left_p, right_p = cv2.stereoRectify(
        LEFT.k,
        LEFT.d,
        RIGHT.k,
        RIGHT.d,
        (752, 480),
        right_from_left[:3, :3],
        right_from_left[:3, 3],
    )[:4]
    rig = StereoRig(left_r, left_p, RIGHT, right_r, right_p)
    assert rig.baseline_m == pytest.approx(0.110, abs=0.001)
    config = from_values({}).verification

    def data(number: int) -> ImageData:
        left, right = (
            cv2.imread(str(STEREO / f"{side}_img_{number}.png"), cv2.IMREAD_GRAYSCALE)
            for side in ("left", "right")
        )
        assert left is not None
        return ImageDataMaker(config).make(left, Sensors(LEFT, right=right, rig=rig))

    return [data(number) for number in range(4)]


@pytest.mark.skipif(not STEREO.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("query", range(4))
def test_of_four_real_stereo_pairs_two_are_closures(query: int, pairs: list[ImageData]) -> None:
    for match in range(query):
        found = verify(pairs[query], pairs[match], from_values({}).verification)
        truth = STEREO_TRUTH.get((query, match))
        if truth is None:
            assert found.inliers < 10
            continue
        assert found.method == "pnp_stereo"
        assert found.inliers > 100
        assert found.metric is not None
        away = inverse(matrix(truth)) @ found.metric.matrix
        assert np.linalg.norm(away[:3, 3]) < 0.06
        assert angle_deg(away) < 2.5


@pytest.mark.slow
@pytest.mark.skipif(not ROOM.is_dir(), reason="needs ../shared/data")
def test_a_real_room_seen_again_is_closed_by_depth_and_odometry() -> None:
    """26 of 28 revisits or more, within what depth and colour fit each other."""
    config = from_values(
        {
            "database.exclude_recent_s": 6.0,
            "keyframes.min_interval_s": 0.0,
            "keyframes.min_descriptor_change": 0.0,
        }
    )
    truth = _camera_poses()
    closed, revisits = set(), set()
    with Bag(ROOM) as bag:
        topic = bag.image_topic("")
        recorded = RecordedImages(bag, topic, sensor_topics(bag, topic), config)
        detector = LoopDetector(NetVLADExtractor(model_path("")), config)
        for image in detect(recorded, detector, collect=recorded.sensors):
            assert image.detection
            assert image.detection.closures
            now_ns = image.detection.stamp_ns
            if any(_is_revisit(truth, before, now_ns) for before in truth):
                revisits.add(now_ns)
            for closure in image.detection.closures.closures:
                query_ns = closure.query.stamp_ns
                assert closure.geometry.method == "pnp_depth"
                assert closure.geometry.metric is not None
                moved = inverse(truth[closure.match.keyframe.stamp_ns]) @ truth[query_ns]
                away = inverse(moved) @ closure.geometry.metric.matrix
                assert np.linalg.norm(away[:3, 3]) < 0.2
                assert angle_deg(away) < 6.0
                if np.linalg.norm(away[:3, 3]) < 0.15 and angle_deg(away) < 5.0:
                    closed.add(query_ns)
    assert len(revisits) == 28
    assert len(revisits & closed) >= 26


def _camera_poses() -> dict[int, np.ndarray]:
    with ROOM.with_name("rgbd_room_mcap_camera_poses.csv").open() as file:
        return {
            int(row["stamp_ns"]): rigid(
                rotation_of(np.array([float(row[name]) for name in ("qx", "qy", "qz", "qw")])),
                np.array([float(row[name]) for name in ("x_m", "y_m", "z_m")]),
            )
            for row in csv.DictReader(file)
        }


def _is_revisit(truth: dict[int, np.ndarray], before_ns: int, now_ns: int) -> bool:
    moved = inverse(truth[before_ns]) @ truth[now_ns]
    near = np.linalg.norm(moved[:3, 3]) < 0.3 and moved[2, 2] > np.cos(np.radians(30))
    return bool(near and now_ns - before_ns > 6e9)
