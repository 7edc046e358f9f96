# SPDX-License-Identifier: MIT
"""Keyframes and closures come in by topics; corrected keyframes and odometry go out, whatever else comes."""

import math
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_messages import Foreign
from live_nodes import NodeProcess, Start, matrix_of, stamp
from made_up_drives import LAP, ODOMETRY, TRUTH, pose_of
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.qos import QoSProfile

from netvlad_ros.image_data import ImageData, Pose
from netvlad_ros.keyframe import Keyframe, Session
from netvlad_ros.msg import GlobalDescriptor, KeyframeMatches, KeyframePoses, LoopClosure
from netvlad_ros.nodes.conversions import poses_from, poses_message
from netvlad_ros.nodes.geometry_messages import geometry_message
from netvlad_ros.nodes.image_data_messages import image_data_messages, pose_message
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.store.keyframe_data import CORRECTED_POSE
from netvlad_ros.store.sqlite_store import SqliteStore
from netvlad_ros.verification.geometry import BASE, Geometry
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import exp, inverse

pytestmark = [pytest.mark.needs("rclpy", "gtsam")]

SECOND = 1_000_000_000
SESSION = "5e" * 16
QOS = QoSProfile(depth=1000)
EVERY = 4  # so many keyframes are one closure


def matches_of(number: int, odometry: np.ndarray | None) -> KeyframeMatches:
    """A keyframe that matches nothing."""
    message = KeyframeMatches(query_number=number)
    message.header.stamp = message.query.stamp = stamp(number * SECOND)
    message.query.session, message.query.number = SESSION, number
    if odometry is not None:
        data = ImageData(odometry=pose_of(odometry))
        message.data = image_data_messages(data, message.header.stamp)
    return message


def closure_of(match: int, query: int, off: np.ndarray | None = None) -> LoopClosure:
    moved = inverse(TRUTH[match]) @ TRUTH[query] @ exp(np.zeros(6) if off is None else off)
    motion = Motion(moved, np.diag(np.repeat([0.02, 0.003], 3) ** 2))
    message = LoopClosure(geometry=geometry_message(Geometry(match_from_query=motion, frame=BASE)))
    for keyframe, number in ((message.match, match), (message.query, query)):
        keyframe.session, keyframe.number = SESSION, number
        keyframe.stamp = stamp(number * SECOND)
    return message


def odometry_of(number: int) -> Odometry:
    message = Odometry(child_frame_id="base", pose=pose_message(pose_of(ODOMETRY[number])))
    message.header.frame_id, message.header.stamp = "odom", stamp(number * SECOND)
    message.twist.twist.linear.x = 2.0
    return message


class Inputs:
    """What the node is fed with."""

    def __init__(self, node: NodeProcess) -> None:
        self._node = node
        kinds = {KeyframeMatches: "keyframe_matches", LoopClosure: "loop_closures"}
        kinds[Odometry] = "odometry"
        self._publishers = {
            kind: node.ros.publisher(kind, node.topic(topic), QOS) for kind, topic in kinds.items()
        }
        node.until(lambda: all(each.get_subscription_count() for each in self._publishers.values()))

    def send(self, message: Any) -> None:
        self._publishers[type(message)].publish(message)


@pytest.fixture
def node(start: Start) -> NodeProcess:
    node = start("pose_graph_node", {"pose_graph.period_s": 0.05})
    node.until_ready()
    return node


def error_m(path: PathMessage) -> float:
    """Of the second lap."""
    found = {each.header.stamp.sec: each.pose.position for each in path.poses}
    away = [
        math.dist((at.x, at.y, at.z), TRUTH[number][:3, 3])
        for number, at in found.items()
        if number >= LAP
    ]
    return max(away)


def test_keyframes_and_odometry_are_corrected_by_closures_of_which_some_are_wrong(
    node: NodeProcess,
):
    inputs = Inputs(node)
    paths = node.ros.listen(PathMessage, node.topic("corrected_path"))
    poses = node.ros.listen(KeyframePoses, node.topic("keyframe_poses"))
    corrected = node.ros.listen(Odometry, node.topic("corrected_odometry"))
    for match in range(0, LAP, EVERY):  # before their keyframes
        inputs.send(closure_of(match, LAP + match))
    inputs.send(closure_of(3, LAP + 20, np.array([4.0, 3, 0, 0, 0, 1])))
    inputs.send(closure_of(30, LAP + 9, np.array([-6.0, 3, 0, 0, 0, 2])))
    node.until(lambda: node.status().values.get("closures that wait for keyframes") == "12")
    for number, odometry in enumerate(ODOMETRY):
        inputs.send(matches_of(number, odometry))
    node.until(lambda: paths and len(paths[-1].poses) == 2 * LAP)
    node.until(lambda: node.status().values["closures left out"] == "2")
    node.until(lambda: error_m(paths[-1]) < 1.2)  # 3.5 m by odometry
    assert paths[-1].header.frame_id == "map"
    node.until(lambda: len({name for each in poses for name in poses_from(each)}) == 2 * LAP)
    assert {each.child_frame_id for each in poses} == {"base"}

    def last_odometry() -> Any:
        inputs.send(odometry_of(2 * LAP - 1))
        return corrected and corrected[-1]

    found = node.until(last_odometry)
    assert (found.header.frame_id, found.child_frame_id) == ("map", "base")
    assert found.twist.twist.linear.x == 2.0
    at = found.pose.pose.position
    assert math.dist((at.x, at.y, at.z), TRUTH[-1][:3, 3]) < 1.2
    assert node.end() == 0


@pytest.mark.slow
def test_a_closure_moves_odometrys_frame_in_the_map_on_tf(start: Start, foreign: Foreign):
    environment = foreign.environment("tf2_msgs")
    parameters = {"pose_graph.period_s": 0.05, "pose_graph.map_frame": "site"}
    node = start("pose_graph_node", parameters, environment=environment)
    node.until_ready()
    assert not node.says("tf2_msgs")
    inputs = Inputs(node)
    sent = node.ros.listen(import_module("tf2_msgs.msg").TFMessage, "/tf")
    corrected = node.ros.listen(Odometry, node.topic("corrected_odometry"))
    for number, odometry in enumerate(ODOMETRY):
        inputs.send(matches_of(number, odometry))
    last = 2 * LAP - 1

    def newest() -> np.ndarray:
        """Of odometry's frame in the map."""
        (transform,) = sent[-1].transforms
        return matrix_of(transform.transform)

    node.until(lambda: sent, lambda: inputs.send(odometry_of(last)))
    np.testing.assert_allclose(newest(), np.eye(4), atol=1e-9)
    inputs.send(closure_of(LAP - 1, last))
    node.until(lambda: not np.allclose(newest(), np.eye(4)), lambda: inputs.send(odometry_of(last)))
    (transform,) = sent[-1].transforms
    assert (transform.header.frame_id, transform.child_frame_id) == ("site", "odom")
    assert transform.header.stamp == stamp(last * SECOND)
    # Where the robot was a lap ago it is again, and corrected_odometry says the same.
    in_map = newest() @ ODOMETRY[last]
    off_m = math.dist(in_map[:3, 3], ODOMETRY[LAP - 1][:3, 3])
    assert off_m < 0.2 < math.dist(ODOMETRY[last][:3, 3], ODOMETRY[LAP - 1][:3, 3])

    def says_the_same() -> bool:
        at = corrected[-1].pose.pose.position
        return math.dist(in_map[:3, 3], (at.x, at.y, at.z)) < 1e-9

    node.until(says_the_same)
    assert node.end() == 0


def test_bad_input_is_said_and_nothing_ends(node: NodeProcess):
    inputs = Inputs(node)
    paths = node.ros.listen(PathMessage, node.topic("corrected_path"))
    inputs.send(matches_of(0, ODOMETRY[0]))
    inputs.send(matches_of(1, None))
    node.until(lambda: node.says("without odometry"))
    nan = closure_of(0, 1)
    nan.geometry.match_from_query.pose.position.x = math.nan
    node.until(lambda: node.says("not finite"), lambda: inputs.send(nan))
    broken = odometry_of(1)
    broken.pose.pose.orientation.w = math.nan
    node.until(lambda: node.says("not finite"), lambda: inputs.send(broken))
    jumped = matches_of(2, exp(np.array([900.0, 0, 0, 0, 0, 0])))
    inputs.send(jumped)
    node.until(lambda: node.says("not connected with the map"))
    inputs.send(matches_of(3, ODOMETRY[3]))
    node.until(lambda: node.count("received") == 4)
    assert len(paths[-1].poses) == 1
    assert node.end() == 0


def test_corrected_poses_are_stored_with_their_keyframes(start: Start, tmp_path: Path):
    file = tmp_path / "map.db"
    database = start("keyframe_database_node", {"database.path": str(file)})
    database.until_ready()
    descriptors = database.ros.publisher(GlobalDescriptor, database.topic("global_descriptor"), QOS)
    matches = database.ros.listen(KeyframeMatches, database.topic("keyframe_matches"))
    poses = database.ros.publisher(KeyframePoses, database.topic("keyframe_poses"), QOS)
    sent = GlobalDescriptor(fingerprint="a", descriptor=[0.6, 0.8])
    seconds = iter(range(1, 1000))

    def send() -> None:
        sent.header.stamp = stamp(next(seconds) * SECOND)
        sent.descriptor = [sent.descriptor[1], sent.descriptor[0]]
        descriptors.publish(sent)

    database.until(lambda: matches, send)
    found = matches[0].query
    session = Session(found.session)
    pose = Pose("map", "base", np.array([1.0, 2, 3]), np.array([0, 0, 0, 1.0]))
    keyframes = [Keyframe(session, found.number, 0), Keyframe(Session("ab" * 16), 7, 0)]
    message = poses_message(keyframes, [pose, pose], "/graph", 5 * SECOND)
    database.until(lambda: database.count("corrected") > 0, lambda: poses.publish(message))
    assert database.end() == 0
    name = found.session, found.number
    stored = SqliteStore(file).read(CORRECTED_POSE, [name])[name]
    assert (stored.graph, stored.solved_ns, stored.pose.frame_id) == ("/graph", 5 * SECOND, "map")
    np.testing.assert_array_equal(stored.pose.position_m, [1, 2, 3])
    assert KeyframeDatabase.load(SqliteStore(file)).keyframes
