# SPDX-License-Identifier: MIT
"""`netvlad localise` says where in a map images were taken, and in a sentence why it can't."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_networks import save_tiny_network

from netvlad_ros.config.files import from_values
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.image_data import CameraModel, CorrectedPose, Pose
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.keyframe_selector import Choice
from netvlad_ros.store.sqlite_store import SqliteStore
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.sensors import Sensors

Run = Callable[..., tuple[int, str, str]]

WIDTH, HEIGHT = 320, 240
K = np.array([[300.0, 0, 160], [0, 300, 120], [0, 0, 1]])
CAMERA = "300,300,160,120"
MOUNT = "0.2 0 0.5 -1.5707963267948966 0 -1.5707963267948966"
PLACES = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    return save_tiny_network(path, input_width_px=64, input_height_px=48, input_scale=(1 / 255,))


def squares(place: int) -> np.ndarray:
    """A wall with corners that ORB finds."""
    rng = np.random.default_rng(place)
    grey = rng.integers(0, 256, (HEIGHT // 12, WIDTH // 16), np.uint8)
    wall = np.kron(grey, np.ones((12, 16), np.uint8))
    return np.repeat(wall[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def a_map(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four places, ten metres apart, each two metres before a wall."""
    path = tmp_path_factory.mktemp("map") / "map.db"
    save_map(path, model)
    path.chmod(0o444)
    return path


def save_map(path: Path, model: Path, with_poses: bool = True, position: float = 10.0) -> None:
    config = from_values({"sensors.base_from_camera": MOUNT})
    extractor, database = NetVLADExtractor(model), KeyframeDatabase(config)
    mount = np.array([[0, 0, 1.0, 0.2], [-1, 0, 0, 0], [0, -1, 0, 0.5], [0, 0, 0, 1]])
    camera = CameraModel(WIDTH, HEIGHT, "plumb_bob", K, np.zeros(5), None, "camera", mount)
    depth_m = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    for place in range(PLACES):
        data = ImageDataMaker(config.verification).make(squares(place), Sensors(camera, depth_m))
        at = np.array([position * place, 0.0, 0.0])
        pose = Pose("map", "base_link", at, np.array([0.0, 0, 0, 1]))
        if with_poses:
            data = replace(data, map_pose=CorrectedPose(pose, "graph", 0))
        found = database.observe(
            extractor.extract(squares(place)),
            place * 10**9,
            extractor.fingerprint,
            choice=Choice.KEYFRAME,
            data=lambda data=data: data,  # type: ignore[misc]
        )
        assert found is not None
    database.save(SqliteStore(path))


@pytest.fixture
def localise(netvlad: Run, model: Path) -> Run:
    return partial(netvlad, "localise", "--model", model)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What a camera sees that is ten centimetres further to the right than at place 2."""
    moved = np.array([[1, 0, -0.1 / 2.0 * 300], [0, 1, 0]])
    seen = cv2.warpAffine(squares(2), moved, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    cv2.imwrite(str(tmp_path / "seen.png"), seen)
    return tmp_path / "seen.png"


def position(said: str) -> list[float]:
    place = next(line for line in said.splitlines() if " in map, of the " in line)
    return [float(word.strip(",")) for word in place.split()[1:6:2]]


def test_an_image_is_localised_with_a_table_and_a_picture(
    localise: Run, a_map: Path, image: Path, tmp_path: Path
) -> None:
    before, picture = a_map.read_bytes(), tmp_path / "found.png"
    words = ["--camera", CAMERA, "--set", f"sensors.base_from_camera={MOUNT}", "-o", picture]
    code, said, complaints = localise(a_map, image, *words)
    assert (code, complaints) == (0, "")
    lines = said.splitlines()
    assert lines[0] == f"{image}:"
    assert any("pass    best_of_place" in line for line in lines)
    assert " in map, of the base" in said
    assert position(said) == pytest.approx((20.0, -0.1, 0.0), abs=0.03)
    drawn = cv2.imread(str(picture))
    assert drawn is not None
    assert drawn.shape[1] > 1000
    green = (drawn[..., 1] > 150) & (drawn[..., 0] < 120) & (drawn[..., 2] < 120)
    assert green.sum() > 500  # lines between points that agree
    assert a_map.read_bytes() == before


def test_the_picture_is_not_written_over_an_image_or_the_map(
    localise: Run, a_map: Path, image: Path
) -> None:
    before = a_map.read_bytes(), image.read_bytes()
    for picture in (image, a_map):
        code, _, complaints = localise(a_map, image, "-o", picture)
        assert (code, "choose another name" in complaints) == (1, True)
    assert (a_map.read_bytes(), image.read_bytes()) == before


def test_without_a_mount_the_pose_is_of_the_camera(localise: Run, a_map: Path, image: Path) -> None:
    code, said, _ = localise(a_map, image, "--camera", CAMERA)
    assert code == 0
    assert position(said) == pytest.approx((20.2, -0.1, 0.5), abs=0.03)
    assert "yaw 0.0 deg" in said
    assert "of the camera (sensors.base_from_camera is not known)" in said


def test_without_a_camera_there_is_no_pose_and_the_exit_code_says_so(
    localise: Run, a_map: Path, image: Path
) -> None:
    code, said, complaints = localise(a_map, image)
    assert code == 3
    assert "no_pose: the images fit together, but without camera_info of both" in said
    assert "not localised" in complaints


def test_an_unknown_place_is_not_localised(
    localise: Run, a_map: Path, image: Path, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "unknown.png"), squares(99))
    code, said, complaints = localise(a_map, image, tmp_path / "unknown.png", "--camera", CAMERA)
    assert code == 3
    assert "in map" in said
    assert "not localised: none of" in complaints


def test_a_calibration_file_is_taken(
    localise: Run, a_map: Path, image: Path, tmp_path: Path
) -> None:
    file = tmp_path / "camera.yaml"
    file.write_text(
        "image_width: 640\nimage_height: 480\ndistortion_model: plumb_bob\n"
        "camera_matrix: {rows: 3, cols: 3, data: [600, 0, 320.5, 0, 600, 240.5, 0, 0, 1]}\n"
        "distortion_coefficients: {rows: 1, cols: 5, data: [0, 0, 0, 0, 0]}\n"
    )
    assert localise(a_map, image, "--camera", file)[0] == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--camera", "300,300,160"], "expected a YAML file"),
        (["--camera", "300,300,160,x"], "expected a YAML file"),
        (["--camera", "nan,300,160,120"], "expected numbers, got NaN"),
        (["--camera", "nowhere.yaml"], "can't be read (No such file"),
    ],
)
def test_a_camera_that_is_none_is_refused(
    localise: Run, a_map: Path, image: Path, words: list[str], sentence: str
) -> None:
    code, _, complaints = localise(a_map, image, *words)
    assert code == 1
    assert sentence in complaints


@pytest.mark.parametrize("content", ["[]", "width: 3", "{", "camera_matrix: 3\nimage_width: 1", ""])
def test_a_file_without_a_camera_is_refused(
    localise: Run, a_map: Path, image: Path, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "camera.yaml"
    file.write_text(content)
    code, _, complaints = localise(a_map, image, "--camera", file)
    assert code == 1
    assert "expected a YAML file" in complaints


def test_a_map_that_can_not_be_used_is_named(
    localise: Run, model: Path, image: Path, tmp_path: Path
) -> None:
    code, _, complaints = localise(tmp_path / "no.db", image)
    assert code == 1
    assert "no such database file; choose the file of a map" in complaints
    other = tmp_path / "other.keras"
    save_tiny_network(other, input_width_px=32, input_height_px=24, input_scale=(1 / 255,))
    save_map(tmp_path / "other.db", other)
    code, _, complaints = localise(tmp_path / "other.db", image)
    assert code == 1
    assert "this database holds descriptors of model" in complaints
    for name, fields, sentence in (
        ("bare.db", {"with_poses": False}, "has no pose in the map; map with odometry"),
        ("nan.db", {"position": np.nan}, "is not a number"),
    ):
        a_map: dict[str, Any] = fields
        save_map(tmp_path / name, model, **a_map)
        code, _, complaints = localise(tmp_path / name, image, "--camera", CAMERA)
        assert (code, sentence in complaints) == (3, True), complaints
