# SPDX-License-Identifier: MIT
"""A robot knows where in a map it is as far as its matches agree, and says why not otherwise."""

from dataclasses import replace

import numpy as np
import pytest
from made_up_views import MOUNT, Scene, pose, standing

from netvlad_ros.config import Config
from netvlad_ros.config.files import from_values
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.image_data import CorrectedPose, ImageData, Pose
from netvlad_ros.keyframe import Keyframe, Match, Session
from netvlad_ros.retrieval.closures import ClosureSelector
from netvlad_ros.retrieval.localiser import Localisation, Localiser
from netvlad_ros.retrieval.query import Query
from netvlad_ros.verification.geometry import BASE, CAMERA_OPTICAL

HERE, THERE, ELSEWHERE = Scene(0), Scene(1), Scene(2)
# Where the scenes stand in the map: what is seen from their origins.
PLACES = {HERE: standing(100, 50, 30), THERE: standing(-20, 7, -90), ELSEWHERE: standing(0, 300)}


# Each keyframe may decide, so that a test needs few.
AT_ONCE = {"localisation.min_agreeing": 1}


class Map:
    """Keyframes of an earlier session."""

    def __init__(self) -> None:
        self.session = Session.new()
        self.matches: list[Match] = []

    def add(self, data: ImageData) -> Match:
        keyframe = Keyframe(self.session, 100 * len(self.matches), len(self.matches) * NANOSECONDS)
        self.matches.append(Match(keyframe, 0.9, data=data))
        return self.matches[-1]


class Robot:
    """Its odometry begins at zero wherever it is put down."""

    def __init__(self, config: Config | None = None) -> None:
        config = config or from_values(AT_ONCE)
        self.closures = ClosureSelector(config)
        self.localiser = Localiser(config, self.closures.motion)
        self.session, self.count = Session.new(), 0

    def see(self, data: ImageData, *matches: Match) -> Localisation:
        keyframe = Keyframe(self.session, self.count, self.count * NANOSECONDS)
        query = Query(keyframe, matches, data=data, number=self.count)
        self.count += 1
        return self.localiser.localise(query, self.closures.select(query))


def mapped(scene: Scene, at: np.ndarray | None = None, **fields: object) -> ImageData:
    """A view from the origin of a scene, with its pose in the map."""
    place = pose(PLACES[scene] if at is None else at)
    corrected = Pose(**(vars(place) | {"frame_id": "map"} | fields))
    return replace(scene.seen_from(standing()), map_pose=CorrectedPose(corrected, "graph", 0))


def one_camera(scene: Scene, base: np.ndarray, odometry: np.ndarray | None = None) -> ImageData:
    """What it sees from a pose in the scene, without anything that tells how far points are."""
    return scene.seen_from(base, points_from="", odometry=odometry)


def few_points(scene: Scene, base: np.ndarray, odometry: np.ndarray, count: int = 12) -> ImageData:
    data = one_camera(scene, base, odometry)
    assert data.features is not None
    kept = slice(0, count)
    features = replace(
        data.features,
        keypoints_px=data.features.keypoints_px[kept],
        descriptors=data.features.descriptors[kept],
    )
    return replace(data, features=features)


def is_at(found: Localisation, expected: np.ndarray, tolerance: float = 1e-3) -> bool:
    assert found.pose is not None, found.summary
    return bool(np.allclose(found.pose.matrix, expected, atol=tolerance))


def test_one_image_of_one_camera_is_localised_in_metres() -> None:
    """Without odometry and depth of its own, by the points of the map."""
    here, robot = Map().add(mapped(HERE)), Robot()
    away = standing(0.5, 0.3, 10)
    found = robot.see(one_camera(HERE, away), here)
    assert is_at(found, PLACES[HERE] @ away)
    assert (found.frame_id, found.of, found.agreeing, found.kidnapped) == ("map", BASE, 1, False)


def test_a_camera_whose_mount_nobody_knows_gets_its_own_pose() -> None:
    here, robot = Map().add(mapped(HERE)), Robot()
    data = one_camera(HERE, standing(0.5))
    assert data.camera is not None
    data = replace(data, camera=replace(data.camera, base_from_camera=None))
    found = robot.see(data, here)
    assert found.of == CAMERA_OPTICAL
    assert is_at(found, PLACES[HERE] @ standing(0.5) @ MOUNT)


def test_a_map_with_odometry_only_has_a_frame_named_with_its_session() -> None:
    a_map = Map()
    here = a_map.add(HERE.seen_from(standing(), odometry=PLACES[HERE]))
    found = Robot().see(one_camera(HERE, standing(0.5)), here)
    assert found.frame_id == f"odom_{a_map.session.uuid[:8]}"
    assert is_at(found, PLACES[HERE] @ standing(0.5))


def test_own_odometry_is_no_map() -> None:
    robot = Robot()
    own = Match(
        Keyframe(robot.session, 0, 0), 0.9, data=HERE.seen_from(standing(), odometry=standing())
    )
    robot.count = 50
    found = robot.see(one_camera(HERE, standing()), own)
    assert found.pose is None
    assert "has no pose in the map; map with odometry" in found.summary


def test_the_covariance_is_that_of_the_edge_and_of_the_keyframe() -> None:
    sure, unsure = Map().add(mapped(HERE)), Map()
    spread = np.diag([0.5, 0.1, 0.1, 0, 0, 0.01]) ** 2
    known = unsure.add(mapped(HERE, covariance=spread))
    data = one_camera(HERE, standing(2.0))
    edge = Robot().see(data, sure).pose
    found = Robot().see(data, known).pose
    assert edge is not None
    assert found is not None
    added = found.covariance_in_parent - edge.covariance_in_parent
    # Two metres ahead of the keyframe, by whose heading it moves across.
    across = PLACES[HERE][:3, 1]
    expected = spread[:3, :3] + np.outer(across, across) * (2.0 * 0.01) ** 2
    assert added[:3, :3] == pytest.approx(expected, abs=1e-6)


def test_matches_that_disagree_give_no_pose() -> None:
    """A corridor that looks the same on two floors: both fit, and nothing tells which it is."""
    a_map = Map()
    one, other = (a_map.add(mapped(HERE, PLACES[each])) for each in (HERE, THERE))
    found = Robot().see(one_camera(HERE, standing()), one, other)
    assert found.pose is None
    assert "two places fit" in found.summary


def test_what_was_ambiguous_is_decided_by_what_comes_later() -> None:
    a_map, robot = Map(), Robot()
    one, other = (a_map.add(mapped(HERE, PLACES[each])) for each in (HERE, ELSEWHERE))
    there = a_map.add(mapped(THERE))
    # Scene THERE stands 123.4 m from the first of the two.
    way = np.linalg.inv(PLACES[HERE]) @ PLACES[THERE]
    assert robot.see(one_camera(HERE, standing(), standing()), one, other).pose is None
    found = robot.see(one_camera(THERE, standing(), way), there)
    assert is_at(found, PLACES[THERE])


def test_matches_too_weak_alone_count_where_a_loop_closure_agrees() -> None:
    here, robot = Map().add(mapped(HERE)), Robot()
    ways = [standing(0.2 * n) for n in range(5)]
    counts = (12, 12, 12, 12, 25)  # a loop closure has 20 or more
    found = [
        robot.see(few_points(HERE, way, way, count), here)
        for way, count in zip(ways, counts, strict=True)
    ]
    assert [each.pose is None for each in found] == [True, True, True, True, False]
    assert "12 of 50 point matches agree, of 1 keyframes together" in found[0].summary
    assert is_at(found[4], PLACES[HERE] @ ways[4], 0.05)
    assert found[4].agreeing == 5


def test_however_many_weak_matches_agree_none_is_enough_without_a_loop_closure() -> None:
    """A facade that repeats itself fits a little, again and again."""
    robot, here = Robot(), Map().add(mapped(HERE))
    ways = [standing(0.2 * n) for n in range(8)]
    found = [robot.see(few_points(HERE, way, way), here) for way in ways]
    assert all(each.pose is None for each in found)
    assert "8 keyframes agree, but no match of theirs is a loop closure" in found[-1].summary


def test_how_many_points_are_enough_is_a_parameter() -> None:
    robot = Robot(from_values(AT_ONCE | {"localisation.min_inliers": 20}))
    here, way = Map().add(mapped(HERE)), standing()
    assert robot.see(few_points(HERE, way, way, 25), here).pose is not None


def test_with_odometry_two_keyframes_have_to_agree_and_one_image_decides_without() -> None:
    here, robot = Map().add(mapped(HERE)), Robot(Config())
    found = [
        robot.see(one_camera(HERE, standing(0.1 * n), standing(0.1 * n)), here) for n in range(2)
    ]
    assert [each.pose is None for each in found] == [True, False]
    assert "1 of 2 keyframes agree on this place" in found[0].summary
    assert is_at(Robot(Config()).see(one_camera(HERE, standing()), here), PLACES[HERE])


def test_without_odometry_weak_matches_stay_weak() -> None:
    robot, here = Robot(), Map().add(mapped(HERE))
    weak = replace(few_points(HERE, standing(), standing()), odometry=None)
    assert all(robot.see(weak, here).pose is None for _ in range(5))


def kidnapped(robot: Robot, here: Match, there: Match) -> list[Localisation]:
    """Driven a little, carried away without wheels turning, driven on."""
    ways = [standing(0.1 * n) for n in range(3)]
    for way in ways:
        assert is_at(robot.see(one_camera(HERE, way, way), here), PLACES[HERE] @ way, 0.01)
    later = [standing(0.2 + 0.1 * n) for n in range(6)]
    return [robot.see(one_camera(THERE, way, way), there) for way in later]


def test_a_kidnapped_robot_is_reported_once_when_several_keyframes_agree() -> None:
    a_map = Map()
    here, there = a_map.add(mapped(HERE)), a_map.add(mapped(THERE))
    found = kidnapped(Robot(), here, there)
    assert [each.pose is None for each in found] == [True, True, *[False] * 4]
    assert "two places fit" in found[1].summary
    assert [each.kidnapped for each in found] == [False, False, True, False, False, False]
    assert is_at(found[2], PLACES[THERE] @ standing(0.4), 0.01)


def test_kidnapped_again_is_reported_again() -> None:
    a_map, robot = Map(), Robot()
    here, there = a_map.add(mapped(HERE)), a_map.add(mapped(THERE))
    kidnapped(robot, here, there)
    back = [robot.see(one_camera(HERE, standing(0.7), standing(0.7)), here) for _ in range(4)]
    assert [each.kidnapped for each in back] == [False, False, True, False]


def test_one_look_alike_on_the_way_changes_nothing() -> None:
    a_map, robot = Map(), Robot()
    here, there = a_map.add(mapped(HERE)), a_map.add(mapped(THERE))
    for n in range(3):
        robot.see(one_camera(HERE, standing(0.1 * n), standing(0.1 * n)), here)
    assert robot.see(one_camera(THERE, standing(0.3), standing(0.3)), there).pose is None
    found = robot.see(one_camera(HERE, standing(0.4), standing(0.4)), here)
    assert is_at(found, PLACES[HERE] @ standing(0.4), 0.01)


def test_two_frames_are_never_mixed() -> None:
    """Two sessions that nothing connects: the pose is in the frame of one of them, which is named."""
    maps = Map(), Map()
    one, other = (
        each.add(HERE.seen_from(standing(), odometry=place))
        for each, place in zip(maps, (PLACES[HERE], PLACES[THERE]), strict=True)
    )
    robot = Robot()
    found = robot.see(one_camera(HERE, standing(), standing()), one)
    both = robot.see(one_camera(HERE, standing(0.1), standing(0.1)), one, other)
    assert found.frame_id == both.frame_id == f"odom_{maps[0].session.uuid[:8]}"
    assert is_at(both, PLACES[HERE] @ standing(0.1), 0.01)
    only_other = robot.see(one_camera(HERE, standing(0.2), standing(0.2)), other)
    assert only_other.frame_id == f"odom_{maps[1].session.uuid[:8]}"
    assert is_at(only_other, PLACES[THERE] @ standing(0.2), 0.01)
    assert not only_other.kidnapped


@pytest.mark.parametrize(
    "fields",
    [
        {"position_m": np.array([1.0, np.nan, 0])},
        {"orientation_xyzw": np.zeros(4)},
        {"covariance": np.full((6, 6), np.inf)},
    ],
)
def test_a_pose_that_is_no_number_is_passed_over(fields: dict[str, np.ndarray]) -> None:
    a_map = Map()
    broken, good = a_map.add(mapped(HERE, **fields)), a_map.add(mapped(THERE))
    robot = Robot()
    found = robot.see(one_camera(HERE, standing()), broken)
    assert found.pose is None
    assert f"the pose of keyframe {broken.keyframe} is not a number" in found.summary
    assert is_at(robot.see(one_camera(THERE, standing()), good), PLACES[THERE])


def test_a_map_without_poses_says_so() -> None:
    found = Robot().see(one_camera(HERE, standing()), Map().add(HERE.seen_from(standing())))
    assert found.pose is None
    assert (
        "has no pose in the map; map with odometry, and better with a pose graph" in found.summary
    )


def test_a_map_without_points_says_so() -> None:
    flat = replace(HERE.seen_from(standing(), points_from=""), map_pose=mapped(HERE).map_pose)
    found = Robot().see(one_camera(HERE, standing(0.3, 0.4)), Map().add(flat))
    assert found.pose is None
    assert "has no points in metres; map with depth, stereo or odometry" in found.summary


def test_how_many_have_to_agree_is_a_parameter() -> None:
    config = from_values(AT_ONCE | {"localisation.kidnapped_keyframes": 1})
    a_map = Map()
    here, there = a_map.add(mapped(HERE)), a_map.add(mapped(THERE))
    found = kidnapped(Robot(config), here, there)
    assert [each.kidnapped for each in found[:2]] == [True, False]
