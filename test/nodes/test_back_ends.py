# SPDX-License-Identifier: MIT
"""Adapters for back-ends, over DDS, with the messages of these back-ends."""

import json
import math
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_messages import Foreign
from live_nodes import NodeProcess, Start, matrix_of, raw_image, stamp
from sensor_msgs.msg import CameraInfo, Image

from netvlad_ros.graph.conventions import gtsam_covariance
from netvlad_ros.msg import Keyframe, LoopClosure, LoopClosureGeometry
from netvlad_ros.nodes.image_data_messages import motion_message
from netvlad_ros.verification.motion import Motion
from netvlad_ros.verification.rigid import exp

pytestmark = pytest.mark.needs("rclpy")

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "backends.md"
SECOND = 1_000_000_000
SPREAD = np.array([0.02, 0.03, 0.01, 0.002, 0.004, 0.003])
TURNED = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
COVARIANCE = TURNED @ np.diag(SPREAD**2) @ TURNED.T
MATCH_FROM_QUERY = Motion(exp(np.array([1.0, -0.5, 0.25, 0.1, -0.2, 1.2])), COVARIANCE)
# As rosidl makes them of the whole packages, at the commits that test/foreign/ names.
HASHES = {
    "rtabmap_msgs": {
        "Link": "764301c2d5f3045b5f97420bd64629321ecef724a6010e3dfe5f5c3d4ce7ac0a",
        "Info": "2baf894b8c68d22bb724150c65a6ec73785d1f85cd49a2a398f97058a448c077",
        "MapData": "4b8c747c152724ea5de4e2be8809313bb49c7ad3753b32b99e7f50587c4ea6c9",
    },
    "cslam_common_interfaces": {
        "InterRobotLoopClosure": "20940ced923bcaace05013dfa390018551584be73486b06d79403a39ad2735a2",
        "IntraRobotLoopClosure": "9fef3c884ff28aee6018efbc071a6c7a24eadf20a94a157c27523e89f852f2cf",
        "KeyframeOdom": "67ced1dbca020f0ef4a641f9fb2f96754fda9617cbd2a03b91a50371746fe99a",
    },
}

# Seen before any test makes them importable.
INSTALLED = {package for package in HASHES if find_spec(package)}


def keyframe(external_id: int, stamp_ns: int, robot: str = "") -> Keyframe:
    """Of a session of its own for each robot."""
    session = f"{len(robot)}{robot[-1:] or 'e'}" * 16
    return Keyframe(
        session=session,
        number=max(external_id, 0),
        robot=robot,
        stamp=stamp(stamp_ns),
        external_id=external_id,
    )


def closure_of(match: Keyframe, query: Keyframe, **geometry: Any) -> LoopClosure:
    """Of the base, unless something else is given."""
    pose = motion_message(MATCH_FROM_QUERY)
    given = {"has_pose": True, "frame": "base", "match_from_query": pose} | geometry
    message = LoopClosure(match=match, query=query, geometry=LoopClosureGeometry(**given))
    message.header.stamp, message.header.frame_id = query.stamp, "front_optical"
    return message


class Adapter:
    """An adapter and what it says to our nodes and hears of them."""

    def __init__(self, node: NodeProcess) -> None:
        self.node, self.ros = node, node.ros
        node.until_ready()
        self.requests = node.ros.listen(Keyframe, node.topic("keyframe_requests"))
        self._closures = node.ros.publisher(LoopClosure, node.topic("loop_closures"))
        node.until(self._closures.get_subscription_count)

    def close(self, closure: LoopClosure) -> None:
        """Returns once the adapter has it."""
        received = self.node.count("received")
        self._closures.publish(closure)
        self.node.until(lambda: self.node.count("received") > received)

    def refuses(self, closure: LoopClosure, kind: str, *words: str) -> bool:
        """Whether it counts the closure as refused for this reason, and says what to do."""
        refused, of_kind = self.node.count("refused"), self.node.count(f"refused, {kind}")
        self.close(closure)
        counts = ("refused", f"refused, {kind}")
        assert [self.node.count(each) for each in counts] == [refused + 1, of_kind + 1]
        return self.node.says(*words)


class Rtabmap:
    """Plays RTAB-Map for one adapter, with its own messages."""

    def __init__(self, start: Start, foreign: Foreign, parameters: dict[str, Any]) -> None:
        environment = foreign.environment("rtabmap_msgs")
        self.adapter = Adapter(start("rtabmap_adapter", parameters, environment=environment))
        node = self.adapter.node
        self._messages = import_module("rtabmap_msgs.msg")
        self.services = import_module("rtabmap_msgs.srv")
        self.links: list[Any] = []
        self.earlier: list[Any] = []
        self.asked = 0
        self._info = node.ros.publisher(self._messages.Info, node.topic("rtabmap/info"))
        node.until(self._info.get_subscription_count)

    def offer_services(self) -> None:
        node = self.adapter.node
        prefix = node.topic("rtabmap/rtabmap")
        create = self.adapter.ros.node.create_service
        create(self.services.AddLink, f"{prefix}/add_link", self._add_link)
        create(self.services.GetMap, f"{prefix}/get_map_data", self._get_map)

    def node_of(self, number: int, stamp_ns: int) -> Any:
        return self._messages.Node(id=number, stamp=stamp_ns / SECOND)

    def process(self, number: int, stamp_ns: int, **statistics: float) -> None:
        """An image becomes a node, as info says; statistics: with __ for each slash."""
        info = self._messages.Info(ref_id=number)
        info.header.stamp, info.header.frame_id = stamp(stamp_ns), "map"
        info.stats_keys = [name.replace("__", "/") for name in statistics]
        info.stats_values = list(statistics.values())
        self._info.publish(info)

    def until_requested(self, number: int) -> Keyframe:
        requests = self.adapter.requests
        return self.adapter.node.until(
            lambda: next((each for each in requests if each.external_id == number), None)
        )

    def _add_link(self, request: Any, response: Any) -> Any:
        self.links.append(request.link)
        return response

    def _get_map(self, request: Any, response: Any) -> Any:
        assert (request.global_map, request.optimized, request.graph_only) == (True, False, True)
        self.asked += 1
        response.data.nodes = self.earlier
        return response


@pytest.fixture(scope="module")
def rtabmap(start_shared: Start, foreign: Foreign) -> Rtabmap:
    rtabmap = Rtabmap(start_shared, foreign, {"sensors.base_frame": "base_link"})
    rtabmap.offer_services()
    rtabmap.earlier = [rtabmap.node_of(number, number * SECOND + 123) for number in (1, 2)]
    for number in (11, 12):
        rtabmap.process(number, number * SECOND)
        rtabmap.until_requested(number)
    # The service may be found only after the first node.
    rtabmap.adapter.node.until(lambda: rtabmap.asked, lambda: rtabmap.process(12, 12 * SECOND))
    return rtabmap


NEW, OLD = keyframe(12, 12 * SECOND), keyframe(11, 11 * SECOND)


@pytest.mark.slow
@pytest.mark.parametrize("package", HASHES)
def test_the_messages_are_those_of_the_back_end(package: str, foreign: Foreign) -> None:
    share = foreign.prefix(package) / "share" / package / "msg"
    for name, expected in HASHES[package].items():
        (made, *_) = json.loads((share / f"{name}.json").read_text())["type_hashes"]
        assert made == {"type_name": f"{package}/msg/{name}", "hash_string": f"RIHS01_{expected}"}


@pytest.mark.slow
def test_a_node_of_rtabmap_becomes_a_keyframe_with_its_number(rtabmap: Rtabmap) -> None:
    request = rtabmap.until_requested(12)
    assert (request.external_id, request.stamp) == (12, stamp(12 * SECOND))


@pytest.mark.slow
def test_a_node_that_rtabmap_forgets_again_is_not_requested(rtabmap: Rtabmap) -> None:
    rtabmap.process(13, 13 * SECOND, Memory__Small_movement__=1.0)
    rtabmap.process(14, 14 * SECOND, Memory__Rehearsal_merged__=13.0)
    rtabmap.process(15, 15 * SECOND, Memory__Small_movement__=0.0)
    rtabmap.until_requested(15)
    assert not {13, 14} & {each.external_id for each in rtabmap.adapter.requests}


@pytest.mark.slow
def test_a_closure_becomes_a_link_between_nodes_of_rtabmap(rtabmap: Rtabmap) -> None:
    rtabmap.links.clear()
    rtabmap.adapter.close(closure_of(OLD, NEW))
    rtabmap.adapter.node.until(lambda: rtabmap.links)
    (link,) = rtabmap.links
    assert (link.from_id, link.to_id, link.type) == (11, 12, 4)
    np.testing.assert_allclose(matrix_of(link.transform), MATCH_FROM_QUERY.matrix, atol=1e-12)
    information = np.array(link.information).reshape(6, 6)
    np.testing.assert_allclose(information @ COVARIANCE, np.eye(6), atol=1e-8)


@pytest.mark.slow
def test_rtabmap_makes_the_same_factor_of_a_link_as_gtsam_of_our_edge(rtabmap: Rtabmap) -> None:
    """OptimizerGTSAM.cpp swaps the blocks, as GTSAM has rotations first."""
    rtabmap.links.clear()
    rtabmap.adapter.close(closure_of(OLD, NEW))
    rtabmap.adapter.node.until(lambda: rtabmap.links)
    given = np.array(rtabmap.links[0].information).reshape(6, 6)
    factor = np.block([[given[3:, 3:], given[3:, :3]], [given[:3, 3:], given[:3, :3]]])
    ours = np.linalg.inv(gtsam_covariance(MATCH_FROM_QUERY))
    np.testing.assert_allclose(factor, ours, rtol=1e-6, atol=1e-6 * np.abs(ours).max())


@pytest.mark.slow
def test_nodes_of_earlier_runs_of_its_database_are_linked(rtabmap: Rtabmap) -> None:
    rtabmap.links.clear()
    rtabmap.adapter.close(closure_of(keyframe(2, 2 * SECOND), NEW))
    rtabmap.adapter.node.until(lambda: rtabmap.links)
    assert (rtabmap.links[0].from_id, rtabmap.links[0].to_id) == (2, 12)


@pytest.mark.slow
def test_an_edge_of_the_camera_is_one_of_the_base_where_that_is_the_camera(
    rtabmap: Rtabmap,
) -> None:
    rtabmap.links.clear()
    closure = closure_of(OLD, NEW, frame="camera_optical")
    closure.header.frame_id = "base_link"
    rtabmap.adapter.close(closure)
    rtabmap.adapter.node.until(lambda: rtabmap.links)


UNKNOWN_POSE = motion_message(MATCH_FROM_QUERY)
UNKNOWN_POSE.covariance = [math.nan] * 36
WRONG = {
    "without a number": (closure_of(keyframe(-1, 11 * SECOND), NEW), "keyframes.requested"),
    "of an unknown number": (closure_of(keyframe(9, 9 * SECOND), NEW), "9"),
    "of another run": (closure_of(keyframe(11, 5 * SECOND), NEW), "5.000 s", "11.000 s"),
    "without scale": (closure_of(OLD, NEW, scale_unknown=True), "direction, not metres"),
    "of another frame": (
        closure_of(OLD, NEW, frame="camera_optical"),
        "'front_optical'",
        "'base_link'",
        "sensors.base_from_camera",
    ),
    "impossible": (closure_of(OLD, NEW, match_from_query=UNKNOWN_POSE), "not finite"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRONG)
def test_a_closure_that_is_no_link_is_counted_and_has_a_reason(kind: str, rtabmap: Rtabmap) -> None:
    rtabmap.links.clear()
    closure, *words = WRONG[kind]
    assert rtabmap.adapter.refuses(closure, kind, *words)
    assert not rtabmap.links


@pytest.mark.slow
def test_where_rtabmap_begins_anew_its_numbers_mean_other_images(rtabmap: Rtabmap) -> None:
    """The last of this file with it: afterwards, it knows other nodes."""
    asked = rtabmap.asked
    rtabmap.process(3, 300 * SECOND)
    rtabmap.until_requested(3)
    assert rtabmap.adapter.refuses(
        closure_of(OLD, keyframe(3, 300 * SECOND)), "of an unknown number"
    )
    rtabmap.adapter.node.until(lambda: rtabmap.asked > asked)


@pytest.mark.slow
def test_while_rtabmap_is_not_there_closures_are_refused(start: Start, foreign: Foreign) -> None:
    rtabmap = Rtabmap(start, foreign, {})
    for number in (11, 12):
        rtabmap.process(number, number * SECOND)
        rtabmap.until_requested(number)
    assert rtabmap.adapter.refuses(closure_of(OLD, NEW), "without service", "add_link")


@pytest.mark.slow
def test_places_that_are_seen_again_become_links_of_rtabmap(
    start: Start, foreign: Foreign, model: Path
) -> None:
    """From images to links, by all nodes: the robot drives a round of six places again and again."""
    rtabmap = Rtabmap(start, foreign, {})
    rtabmap.offer_services()
    node = rtabmap.adapter.node
    parameters = {
        "extractor.model": str(model),
        "keyframes.requested": True,
        "keyframes.hold_s": 20.0,  # of stamps, on a busy machine
        "sensors.base_from_camera": "0.1 0 0.2 0 0 0 1",
        "database.exclude_recent_s": 3.0,
    }
    ours = start("place_recognition", parameters, namespace=node.namespace)
    ours.until_ready("descriptor_node", "keyframe_database_node", "loop_closure_node")
    kinds = {"image": Image, "depth": Image, "camera_info": CameraInfo}
    publishers = {name: node.ros.publisher(kind, node.topic(name)) for name, kind in kinds.items()}
    number = 100

    def drive() -> None:
        nonlocal number
        number += 1
        blocks = np.random.default_rng(number % 6).integers(0, 256, (24, 32), np.uint8)
        messages = {
            "camera_info": CameraInfo(width=320, height=240, distortion_model="plumb_bob"),
            "depth": raw_image(np.full((240, 320), 1500, np.uint16), "16UC1"),
            "image": raw_image(np.kron(blocks, np.ones((10, 10), np.uint8)), "mono8"),
        }
        messages["camera_info"].k = np.array([200.0, 0, 160, 0, 200, 120, 0, 0, 1])
        for name, message in messages.items():
            message.header.stamp, message.header.frame_id = stamp(number * SECOND), "front_optical"
            publishers[name].publish(message)
        rtabmap.process(number, number * SECOND)

    ours.until(lambda: rtabmap.links, drive)
    link = rtabmap.links[0]
    assert link.to_id > link.from_id > 100
    assert (link.to_id - link.from_id) % 6 == 0
    np.testing.assert_allclose(matrix_of(link.transform), np.eye(4), atol=0.01)


class Swarm:
    """Plays two robots of cslam for the adapter of the second, with its own messages."""

    def __init__(self, start: Start, foreign: Foreign) -> None:
        environment = foreign.environment("cslam_common_interfaces")
        parameters = {"camera.robot": "r1"}
        self.adapter = Adapter(
            start("cslam_adapter", parameters, namespace="/r1", environment=environment)
        )
        self._messages = import_module("cslam_common_interfaces.msg")
        ros, node = self.adapter.ros, self.adapter.node
        self.between = ros.listen(
            self._messages.InterRobotLoopClosure, "/cslam/inter_robot_loop_closure"
        )
        self.within = ros.listen(
            self._messages.IntraRobotLoopClosure, "/r1/cslam/intra_robot_loop_closure"
        )
        self._keyframes = {
            robot: ros.publisher(self._messages.KeyframeOdom, f"/{robot}/cslam/keyframe_odom")
            for robot in ("r0", "r1")
        }
        for publisher in self._keyframes.values():
            node.until(publisher.get_subscription_count)

    def make(self, robot: str, number: int, stamp_ns: int) -> None:
        message = self._messages.KeyframeOdom(id=number)
        message.odom.header.stamp = stamp(stamp_ns)
        self._keyframes[robot].publish(message)


@pytest.fixture(scope="module")
def swarm(start_shared: Start, foreign: Foreign) -> Swarm:
    swarm = Swarm(start_shared, foreign)
    for number in (0, 1, 2):
        swarm.make("r0", number, number * SECOND)
        swarm.make("r1", number, (number + 100) * SECOND)
    swarm.adapter.node.until(lambda: len(swarm.adapter.requests) >= 3)
    return swarm


OF_R0, OF_R1 = keyframe(1, SECOND, "r0"), keyframe(2, 102 * SECOND, "r1")


@pytest.mark.slow
def test_keyframes_of_its_own_robot_are_requested(swarm: Swarm) -> None:
    requests = [(each.robot, each.external_id, each.stamp) for each in swarm.adapter.requests]
    assert requests == [("r1", number, stamp((number + 100) * SECOND)) for number in (0, 1, 2)]


@pytest.mark.slow
def test_a_closure_between_robots_goes_from_the_match_to_the_query(swarm: Swarm) -> None:
    swarm.between.clear()
    swarm.adapter.close(closure_of(OF_R0, OF_R1))
    swarm.adapter.node.until(lambda: swarm.between)
    (message,) = swarm.between
    assert (message.robot0_id, message.robot0_keyframe_id) == (0, 1)
    assert (message.robot1_id, message.robot1_keyframe_id) == (1, 2)
    assert message.success
    np.testing.assert_allclose(matrix_of(message.transform), MATCH_FROM_QUERY.matrix, atol=1e-12)


@pytest.mark.slow
def test_a_closure_of_one_robot_stays_with_it(swarm: Swarm) -> None:
    swarm.within.clear()
    swarm.adapter.close(closure_of(keyframe(0, 100 * SECOND, "r1"), OF_R1))
    swarm.adapter.node.until(lambda: swarm.within)
    (message,) = swarm.within
    assert (message.keyframe0_id, message.keyframe1_id, message.success) == (0, 2, True)
    np.testing.assert_allclose(matrix_of(message.transform), MATCH_FROM_QUERY.matrix, atol=1e-12)


@pytest.mark.slow
def test_each_closure_is_passed_on_by_the_adapter_of_the_robot_that_saw_it(swarm: Swarm) -> None:
    swarm.between.clear()
    received = swarm.adapter.node.count("received")
    swarm.adapter._closures.publish(closure_of(OF_R1, OF_R0))
    swarm.adapter.close(closure_of(OF_R0, OF_R1))
    swarm.adapter.node.until(lambda: swarm.between)
    assert [each.robot1_id for each in swarm.between] == [1]
    assert swarm.adapter.node.count("received") == received + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closure", "kind"),
    [
        (closure_of(keyframe(1, 77 * SECOND, "r0"), OF_R1), "of another run"),
        (closure_of(keyframe(1, SECOND, "r7"), OF_R1), "of an unknown number"),
        (closure_of(OF_R0, OF_R1, scale_unknown=True), "without scale"),
        (closure_of(OF_R0, keyframe(-1, 102 * SECOND, "r1")), "without a number"),
    ],
)
def test_what_cslam_can_not_take_is_counted(closure: LoopClosure, kind: str, swarm: Swarm) -> None:
    swarm.between.clear()
    assert swarm.adapter.refuses(closure, kind)
    assert not swarm.between


@pytest.mark.slow
def test_a_robot_is_called_as_in_cslam(start: Start, foreign: Foreign) -> None:
    environment = foreign.environment("cslam_common_interfaces")
    node = start("cslam_adapter", {"camera.robot": "spot"}, environment=environment)
    assert node.exit_code() == 1
    assert "such as r0, got 'spot'" in node.output


@pytest.mark.parametrize(
    ("program", "package"),
    [("rtabmap_adapter", "rtabmap_msgs"), ("cslam_adapter", "cslam_common_interfaces")],
)
def test_without_the_back_ends_messages_an_adapter_says_where_they_are_from(
    program: str, package: str, start: Start
) -> None:
    if package in INSTALLED:
        pytest.skip(f"{package} is installed")
    node = start(program)
    assert node.exit_code() == 1
    assert f"needs the messages of {package}, which is not installed; it is from" in node.output


@pytest.mark.needs("gtsam")
def test_gtsam_takes_an_edge_as_documented() -> None:
    """What a small disturbance of the query costs is what our covariance says."""
    gtsam: Any = import_module("gtsam")
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    factor = names["factor"](closure_of(OLD, NEW))
    assert [*factor.keys()] == [11, 12]
    disturbance = np.array([2e-4, -1e-4, 3e-4, 1e-4, 2e-4, -1e-4])
    values = gtsam.Values()
    match = exp(np.array([3.0, 1.0, 0.5, 0.3, 0.2, -1.0]))
    values.insert(11, gtsam.Pose3(match))
    values.insert(12, gtsam.Pose3(match @ MATCH_FROM_QUERY.matrix @ exp(disturbance)))
    expected = 0.5 * disturbance @ np.linalg.solve(COVARIANCE, disturbance)
    assert factor.error(values) == pytest.approx(expected, rel=1e-3)
