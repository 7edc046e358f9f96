# SPDX-License-Identifier: MIT
"""A map is made in one run; in the next, which only reads it, the robot is told where in there it is."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseWithCovarianceStamped
from live_nodes import NodeProcess, Ros, Start, raw_image, stamp, stamp_ns
from made_up_views import Scene, standing
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header, String

from netvlad_ros.image_data import ImageData
from netvlad_ros.keyframe import Stream
from netvlad_ros.msg import GlobalDescriptor, KeyframeMatches
from netvlad_ros.nodes.conversions import descriptor_message
from netvlad_ros.nodes.subscriptions import LATCHED
from netvlad_ros.retrieval.keyframe_selector import Choice
from netvlad_ros.srv import Localise
from netvlad_ros.verification.rigid import rigid, rotation_of

pytestmark = pytest.mark.needs("rclpy")

SECOND = 1_000_000_000
SCENES = [Scene(number) for number in range(3)]
# Where each scene's origin is in the odometry of the run that makes the map.
PLACES = [standing(0, 0), standing(40, 3, 90), standing(80, -5, 180)]
QUIET = {
    "keyframes.min_interval_s": 0.0,
    "database.exclude_recent_s": 2.0,
    "localisation.min_agreeing": 1,
}


def looks(number: int) -> np.ndarray:
    vector = np.random.default_rng(number).normal(size=16).astype(np.float32)
    return vector / np.linalg.norm(vector)


def has_come(modes: list[str], mode: str) -> bool:
    return modes[-1:] == [mode]


class Run:
    """The database's node and that of loop closures, and a camera's node that is made up."""

    def __init__(self, start: Start, ros: Ros, namespace: str, **parameters: Any) -> None:
        given = QUIET | {name.replace("__", "."): value for name, value in parameters.items()}
        programs = ("keyframe_database_node", "loop_closure_node")
        self.nodes = [start(program, given, namespace=namespace) for program in programs]
        self.database, self.closures = self.nodes
        for node in self.nodes:
            node.until_ready()
        self.ros, self._count = ros, 0
        topic = self.database.topic
        self._publisher = ros.publisher(GlobalDescriptor, topic("global_descriptor"))
        self.answers = ros.listen(KeyframeMatches, topic("keyframe_matches"))
        self.poses = ros.listen(PoseWithCovarianceStamped, topic("localisation_pose"))
        self.initial = ros.listen(PoseWithCovarianceStamped, topic("initial_pose"))
        self.kidnapped = ros.listen(PoseWithCovarianceStamped, topic("kidnapped"))
        self.database.until(
            lambda: (
                self._publisher.get_subscription_count()
                # The test's own subscription, and that of the node beside it.
                and self.database.count("subscribers") == 2
                and self.closures.count("subscribers to poses")
            )
        )

    def see(self, number: int, base: np.ndarray, odometry: np.ndarray, depth: bool = False) -> Any:
        """Where the robot is said to be after its next keyframe: a pose, or None."""
        self._count += 1
        data = SCENES[number].seen_from(base, "depth" if depth else "", odometry=odometry)
        handled = self.closures.count("received")
        self._publisher.publish(self.described(number, data))
        self.closures.until(lambda: self.closures.count("received") > handled)
        now_ns = self._count * SECOND
        self.ros.spin(0.2)
        return next((each for each in self.poses if stamp_ns(each.header) == now_ns), None)

    def described(self, number: int, data: ImageData) -> GlobalDescriptor:
        header = Header(stamp=stamp(self._count * SECOND), frame_id="camera")
        choice = Choice.KEYFRAME
        return descriptor_message(header, Stream("spot"), "model", looks(number), (), choice, data)

    def ask(self, **request: Any) -> Any:
        service = self.closures.topic("loop_closure_node/localise")
        return self.ros.call(Localise, service, Localise.Request(**request))

    def end(self) -> None:
        assert [node.end() for node in self.nodes] == [0, 0]


@pytest.fixture(scope="module")
def mapped(start_shared: Start, ros: Ros, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of one run, with depth and odometry."""
    path = tmp_path_factory.mktemp("map") / "map.db"
    run = Run(start_shared, ros, "/mapping", database__path=str(path))
    for number, place in enumerate(PLACES):
        assert run.see(number, standing(), place, depth=True) is None
    # Back where it began, which is a loop closure; in mapping nobody is told where that is.
    assert run.see(0, standing(0.2), standing(0.2), depth=True) is None
    run.closures.until(lambda: run.closures.count("held") == 1)
    run.end()
    path.chmod(0o444)
    return path


@pytest.fixture
def run(start: Start, ros: Ros, mapped: Path, request: pytest.FixtureRequest) -> Run:
    return Run(
        start,
        ros,
        f"/{request.node.name}",
        database__path=str(mapped),
        database__mode="localisation",
    )


def matrix(message: PoseWithCovarianceStamped) -> np.ndarray:
    at, turned = message.pose.pose.position, message.pose.pose.orientation
    rotation = rotation_of(np.array([turned.x, turned.y, turned.z, turned.w]))
    return rigid(rotation, np.array([at.x, at.y, at.z]))


def test_the_pose_is_published_and_the_map_stays_as_it_was(run: Run, mapped: Path) -> None:
    before = mapped.read_bytes(), mapped.stat().st_mtime_ns
    found = run.see(1, standing(0.5, 0.2, 5), standing())
    assert matrix(found) == pytest.approx(PLACES[1] @ standing(0.5, 0.2, 5), abs=0.01)
    assert found.header.frame_id.startswith("odom_")
    covariance = found.pose.covariance.reshape(6, 6)
    assert np.linalg.eigvalsh(covariance)[0] > 0
    assert run.database.count("looked up") == 1
    assert run.database.count("added") == 0
    assert not run.initial
    run.end()
    assert (mapped.read_bytes(), mapped.stat().st_mtime_ns) == before
    assert [each.name for each in mapped.parent.iterdir()] == [mapped.name]


def test_kidnapped_is_said_once(run: Run) -> None:
    for n in range(2):
        assert run.see(0, standing(0.1 * n), standing(0.1 * n)) is not None
    carried = [run.see(2, standing(0.1 * n), standing(0.1 * n)) for n in range(1, 6)]
    assert [each is not None for each in carried] == [False, False, True, True, True]
    assert len(run.kidnapped) == 1
    assert matrix(run.kidnapped[0]) == pytest.approx(PLACES[2] @ standing(0.3), abs=0.01)
    assert "kidnapped: 3 keyframes agree on another place" in run.closures.output


def test_initial_pose_is_published_once_a_request(run: Run) -> None:
    answer = run.ask()
    assert not answer.success
    assert "no keyframe has arrived yet" in answer.message
    assert math.isnan(answer.pose.pose.pose.position.x)
    pose = run.see(1, standing(), standing())
    assert run.ask().success
    assert not run.initial
    answer = run.ask(set_initial_pose=True)
    assert answer.success
    assert answer.pose == pose
    assert answer.pose_of == "base"
    assert answer.matches[0].keyframe.number == 1
    assert answer.verdicts[0].stage == "consistency"  # waits for others, as one edge of a graph
    assert len(answer.verdicts) == len(answer.matches) == 4
    run.ros.until(lambda: run.initial)
    run.see(1, standing(), standing())
    assert run.initial == [pose]


def test_an_image_needs_the_camera_node(run: Run) -> None:
    answer = run.ask(image=[raw_image(np.zeros((4, 4), np.uint8), "mono8")])
    assert not answer.success
    assert "descriptor_node/describe does not answer; does that node run" in answer.message


def test_at_start_the_first_pose_is_the_initial_one(start: Start, ros: Ros, mapped: Path) -> None:
    given = {"database__mode": "localisation", "localisation__initial_pose_at_start": True}
    run = Run(start, ros, "/at_start", database__path=str(mapped), **given)
    poses = [run.see(1, standing(0.1 * n), standing(0.1 * n)) for n in range(3)]
    run.ros.until(lambda: run.initial)
    assert run.initial == poses[:1]


def test_the_mode_changes_while_running(
    start: Start, ros: Ros, tmp_path: Path, mapped: Path
) -> None:
    path = tmp_path / "map.db"
    path.write_bytes(mapped.read_bytes())
    run = Run(start, ros, "/changing", database__path=str(path), database__mode="localisation")
    modes = []
    kept = ros.node.create_subscription(
        String, run.database.topic("database_mode"), lambda each: modes.append(each.data), LATCHED
    )
    assert run.see(1, standing(), standing()) is not None
    for mode, is_told in (("both", True), ("mapping", False)):
        assert run.database.set("database.mode", mode).successful
        run.ros.until(partial(has_come, modes, mode))
        assert (run.see(1, standing(0.1), standing(0.1)) is not None) == is_told
    assert not run.database.set("database.mode", "driving").successful
    assert run.database.count("added") == 2
    ros.node.destroy_subscription(kept)
    run.end()
    again = Run(start, ros, "/again", database__path=str(path), database__mode="localisation")
    assert "6 keyframes loaded" in again.database.output


# --- Bad input -----------------------------------------------------------------------------------------


def test_a_map_that_is_not_there_is_named_and_none_is_made(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "nowhere.db"
    node = start(
        "keyframe_database_node",
        QUIET | {"database.path": str(path), "database.mode": "localisation"},
    )
    assert node.exit_code() == 1
    assert f"{path}: there is no such database file; choose the file of a map" in node.output
    assert not [*tmp_path.iterdir()]


def test_a_map_that_is_damaged_is_reported_and_stays(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "map.db"
    path.write_bytes(b"not a database" * 1000)
    node = start(
        "keyframe_database_node",
        QUIET | {"database.path": str(path), "database.mode": "localisation"},
    )
    node.until(lambda: node.says("started without the map", "choose another name"))
    assert "New keyframes go to" not in node.output
    assert node.end() == 0
    assert path.read_bytes() == b"not a database" * 1000
    assert [each.name for each in tmp_path.iterdir()] == ["map.db"]


def test_localisation_without_a_path_says_what_is_missing(start: Start) -> None:
    node = start("keyframe_database_node", QUIET | {"database.mode": "localisation"})
    node.until(lambda: node.says("there is no map to localise in; set database.path"))


def test_descriptors_of_another_model_are_refused_with_both_names(run: Run) -> None:
    message = run.described(1, ImageData())
    message.fingerprint = "another"
    run._publisher.publish(message)
    run.database.until(
        lambda: run.database.says("holds descriptors of model model, got one of another")
    )


# --- All three nodes, and an image ---------------------------------------------------------------------

WIDTH, HEIGHT = 320, 240


def squares(seed: int) -> np.ndarray:
    """With corners that ORB finds."""
    rng = np.random.default_rng(seed)
    shape = (HEIGHT // 10, WIDTH // 10)
    return np.kron(rng.integers(0, 256, shape, np.uint8), np.ones((10, 10), np.uint8))


def camera_info() -> CameraInfo:
    camera = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob")
    camera.k = np.array([200.0, 0, 160, 0, 200, 120, 0, 0, 1])
    camera.header.frame_id = "camera"
    return camera


def place_recognition(start: Start, model: Path, namespace: str, **parameters: Any) -> NodeProcess:
    given = QUIET | {
        "extractor.model": str(model),
        "keyframes.min_descriptor_change": 0.0,
        "sensors.base_from_camera": "0.2 0 0.5 -1.5707963 0 -1.5707963",
        **{name.replace("__", "."): value for name, value in parameters.items()},
    }
    node = start("place_recognition", given, namespace=namespace)
    node.until_ready("descriptor_node", "keyframe_database_node", "loop_closure_node")
    return node


def test_a_single_image_is_localised_by_service(
    start: Start, ros: Ros, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "map.db"
    node = place_recognition(start, model, "/image_mapping", database__path=str(path))
    kinds = {"camera_info": CameraInfo, "odometry": Odometry}
    publishers = {
        **{name: ros.publisher(kind, node.topic(name)) for name, kind in kinds.items()},
        **{
            name: ros.publisher(type(raw_image(squares(0))), node.topic(name))
            for name in ("depth", "image")
        },
    }
    node.until(lambda: all(each.get_subscription_count() for each in publishers.values()))
    sent = iter(range(1, 1000))

    def send() -> None:
        number = next(sent)
        odometry = Odometry(child_frame_id="base_link")
        odometry.header.frame_id = "odom"
        odometry.pose.pose.position.x = 3.0
        odometry.pose.pose.orientation.w = 1.0
        depth = raw_image(np.full((HEIGHT, WIDTH), 1500, np.uint16), "16UC1")
        messages = {
            "camera_info": camera_info(),
            "odometry": odometry,
            "depth": depth,
            "image": raw_image(squares(3), "mono8"),
        }
        for name, message in messages.items():
            message.header.stamp, message.header.frame_id = (
                stamp(number * SECOND),
                message.header.frame_id or "camera",
            )
            publishers[name].publish(message)

    node.until(lambda: node.count("added", "keyframe_database_node") >= 3, send, every_s=0.5)
    assert node.end() == 0

    node = place_recognition(
        start, model, "/image_localising", database__path=str(path), database__mode="localisation"
    )
    service = node.topic("loop_closure_node/localise")
    image = raw_image(squares(3), "mono8")
    image.header.frame_id = "camera"
    request = Localise.Request(image=[image], camera_info=[camera_info()])
    answer = ros.call(Localise, service, request)
    assert answer.success, answer.message
    assert answer.pose_of == "base"
    assert matrix(answer.pose)[:3, 3] == pytest.approx([3.0, 0.0, 0.0], abs=0.05)
    assert answer.matches[0].similarity == pytest.approx(1.0, abs=1e-3)
    assert answer.verdicts[0].reason

    flat = Localise.Request(image=[raw_image(np.zeros((HEIGHT, WIDTH), np.uint8), "mono8")])
    refused = ros.call(Localise, service, flat)
    assert not refused.success
    assert "contrast" in refused.message
    without = ros.call(Localise, service, Localise.Request(image=[image]))
    assert not without.success
    assert "camera_info" in without.message
    assert node.count("looked up", "keyframe_database_node") == 0
