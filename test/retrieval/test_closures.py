# SPDX-License-Identifier: MIT
"""A loop closure is verified by geometry, fits odometry and is of one place; others are told why not."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from made_up_views import CAMERA, MOUNT, Scene, pose, standing

from netvlad_ros.config import ClosureConfig, Config
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.image_data import NOTHING_KNOWN, ImageData
from netvlad_ros.keyframe import Keyframe, Match, Session
from netvlad_ros.retrieval.closures import ClosureSelection, ClosureSelector, verdict_of
from netvlad_ros.retrieval.query import Query
from netvlad_ros.retrieval.stages import Decision
from netvlad_ros.verification.geometry import CAMERA_OPTICAL
from netvlad_ros.verification.rigid import inverse

HERE, THERE = Scene(0), Scene(1)
# What each query has, before others agree with it.
AT_ONCE = Config(closures=ClosureConfig(min_agreeing=0))


class Drive:
    """Keyframes of one session, one after the other; each is looked up among those that a test names."""

    def __init__(self, selector: ClosureSelector, session: Session | None = None) -> None:
        self.selector, self.session = selector, session or Session.new()
        self.keyframes: list[Keyframe] = []
        self.data: list[ImageData] = []
        self._stamps = count()

    def add(self, data: ImageData, matches: Sequence[Match] = ()) -> ClosureSelection:
        stamp_ns = next(self._stamps) * NANOSECONDS
        keyframe = Keyframe(self.session, len(self.keyframes), stamp_ns)
        self.keyframes.append(keyframe)
        self.data.append(data)
        query = Query(keyframe, matches, data=data, number=keyframe.number)
        return self.selector.select(query)

    def match(self, number: int) -> Match:
        return Match(self.keyframes[number], 0.9, data=self.data[number])

    def go(self, way: Sequence[np.ndarray]) -> None:
        """Odometry only."""
        for base in way:
            self.add(ImageData(odometry=pose(base)))


@pytest.fixture
def drive() -> Drive:
    return Drive(ClosureSelector(AT_ONCE))


def along(x_m: float, to_m: float, step_m: float = 2.0) -> list[np.ndarray]:
    steps = max(1, int(abs(to_m - x_m) / step_m))
    return [standing(x) for x in np.linspace(x_m, to_m, steps + 1)[1:]]


def at(base: np.ndarray, scene: Scene = HERE, odometry: np.ndarray | None = None) -> ImageData:
    """A view of a scene that stands around the origin, by a robot that believes to be somewhere."""
    return scene.seen_from(base, odometry=base if odometry is None else odometry)


def unmounted(data: ImageData) -> ImageData:
    """Of a camera that nobody knows the place of."""
    assert data.camera is not None
    return replace(data, camera=replace(data.camera, base_from_camera=None))


def verdict(selection: ClosureSelection, keyframe: Keyframe) -> tuple[str, Decision]:
    said = selection.rejections[keyframe.name]
    return said.stage, said.decision


def test_a_place_seen_again_is_a_closure_with_its_pose(drive: Drive) -> None:
    drive.add(at(standing()))
    drive.go([*along(0, 20), *along(20, 0)])
    query = standing(0.3, 1.0, 8)
    (closure,) = drive.add(at(query), [drive.match(0)]).closures
    assert closure.match.keyframe == drive.keyframes[0]
    assert closure.query == drive.keyframes[-1]
    assert closure.geometry.frame == "base"
    assert closure.geometry.metric is not None
    assert closure.geometry.metric.matrix == pytest.approx(inverse(standing()) @ query, abs=1e-4)
    assert closure.odometry_deviation < 0.1
    assert [each.stage for each in closure.verdicts] == [
        *("min_inliers", "min_inlier_share", "min_share_back", "max_distance", "max_uncertainty"),
        *("max_tilt", "odometry", "ambiguous", "consistency", "best_of_place"),
    ]


def test_a_look_alike_far_away_by_odometry_is_rejected_with_the_number(drive: Drive) -> None:
    drive.add(at(standing()))
    drive.go(along(0, 50))
    selection = drive.add(at(standing(), odometry=standing(50)), [drive.match(0)])
    assert not selection.closures
    said = selection.rejections[drive.keyframes[0].name]
    assert (said.stage, said.decision, said.limit) == ("odometry", Decision.REJECT, 4.0)
    assert said.value > 50
    assert "standard deviations from odometry, 4 at most are allowed" in said.reason


def test_drift_that_odometry_may_have_is_no_reason_to_reject(drive: Drive) -> None:
    drive.add(at(standing()))
    drive.go([*along(0, 50), *along(50, 1)])
    selection = drive.add(at(standing(), odometry=standing(1.0)), [drive.match(0)])
    assert len(selection.closures) == 1
    assert 0 < selection.closures[0].odometry_deviation < 4


def test_a_floor_above_is_told_by_level_odometry(drive: Drive) -> None:
    """Its height drifts with the way, not with turns."""
    drive.add(at(standing()))
    drive.go([standing(10 * (n % 2), 0, 90 * n) for n in range(1, 4)])
    above = standing()
    above[2, 3] = 3.0
    selection = drive.add(at(standing(), odometry=above), [drive.match(0)])
    assert verdict(selection, drive.keyframes[0])[0] == "odometry"


def test_a_floor_above_is_told_without_a_scale_too(drive: Drive) -> None:
    scaleless = HERE.seen_from(standing(), "", odometry=standing())
    above = standing()
    above[2, 3] = 3.0
    drive.add(scaleless)
    drive.go([standing(10 * (n % 2), 0, 90 * n) for n in range(1, 4)])
    selection = drive.add(replace(scaleless, odometry=pose(above)), [drive.match(0)])
    said = selection.rejections[drive.keyframes[0].name]
    assert said.stage == "odometry_rise"
    assert "m above the other, 1 at most are allowed" in said.reason


def test_a_closure_that_is_tilted_against_gravity_is_rejected(drive: Drive) -> None:
    """Also of another session, whose odometry begins elsewhere."""
    drive.add(at(standing()))
    later = Drive(drive.selector)
    tilted = standing()
    tilted[:3, :3] = tilted[:3, :3] @ np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])
    data = replace(at(standing()), odometry=pose(tilted))
    selection = later.add(data, [drive.match(0)])
    assert verdict(selection, drive.keyframes[0])[0] == "max_tilt"


def test_without_odometry_geometry_alone_decides(drive: Drive) -> None:
    blind = replace(HERE.seen_from(standing()), odometry=None)
    drive.add(blind)
    (closure,) = drive.add(blind, [drive.match(0)]).closures
    assert np.isnan(closure.odometry_deviation)


def test_two_places_that_contradict_each_other_hold_the_query_back(drive: Drive) -> None:
    """They are 30 m apart; after 3 km, odometry does not know any more at which of them it is."""
    drive.add(at(standing()))
    drive.go(along(0, 30))
    drive.add(at(standing(), odometry=standing(30)))
    second = len(drive.keyframes) - 1
    drive.go([*along(30, 1500, 30), *along(1500, 15, 30)])
    query = at(standing(), odometry=standing(15))
    selection = drive.add(query, [drive.match(0), drive.match(second)])
    assert not selection.closures
    assert {verdict(selection, drive.keyframes[n]) for n in (0, second)} == {
        ("ambiguous", Decision.HOLD)
    }


def test_a_facade_that_repeats_itself_is_ambiguous(drive: Drive) -> None:
    """Two neighbours, 2.5 m apart, look the same: the query can't be in front of both."""
    drive.add(at(standing()))
    drive.add(at(standing(), odometry=standing(2.5)))
    drive.go([*along(2.5, 30), *along(30, 1)])
    query = at(standing(), odometry=standing(1))
    selection = drive.add(query, [drive.match(0), drive.match(1)])
    assert not selection.closures
    assert {verdict(selection, drive.keyframes[n]) for n in (0, 1)} == {
        ("ambiguous", Decision.HOLD)
    }


def test_without_odometry_two_look_alikes_of_one_drive_are_ambiguous(drive: Drive) -> None:
    blind = replace(HERE.seen_from(standing()), odometry=None)
    drive.add(blind)
    for _ in range(10):
        drive.add(NOTHING_KNOWN)
    drive.add(blind)
    selection = drive.add(blind, [drive.match(0), drive.match(11)])
    assert not selection.closures
    said = selection.rejections[drive.keyframes[0].name]
    assert (said.stage, said.decision) == ("ambiguous", Decision.HOLD)
    assert f"keyframe {drive.keyframes[11]}, another place, fits too" in said.reason


def test_a_third_lap_past_a_place_is_no_contradiction(drive: Drive) -> None:
    """With odometry, as both say the same; without it, as the second lap was closed with the first."""
    for odometry in (True, False):
        each = Drive(ClosureSelector(AT_ONCE))
        for lap in range(3):
            data = at(standing(0, 0.2 * lap))
            view = data if odometry else replace(data, odometry=None)
            matches = [each.match(number) for number in range(0, len(each.keyframes), 21)]
            selection = each.add(view, matches)
            assert len(selection.closures) == lap
            if odometry:
                each.go([*along(0, 20), *along(20, 0)])
            else:
                for _ in range(20):
                    each.add(NOTHING_KNOWN)
    assert selection.closures[0].agrees_with == 0  # unknown without odometry


def test_a_place_that_a_map_shows_twice_is_no_contradiction(drive: Drive) -> None:
    """Another process drove there; odometry comes along with matches, also with those further down."""
    for lap in range(2):
        drive.add(at(standing(0, 0.2 * lap)))
        drive.go([*along(0, 20), *along(20, 0)])
    later = Drive(ClosureSelector(AT_ONCE))
    matches = [drive.match(number) for number in (0, 21, 1, 2, 22)]
    assert len(later.add(at(standing(0, 0.4)), matches).closures) == 2


def test_places_of_a_map_that_are_apart_by_its_odometry_contradict_each_other(drive: Drive) -> None:
    for x_m in (0.0, 60.0):
        drive.add(at(standing(), odometry=standing(x_m)))
        drive.go(along(x_m, x_m + 30))
    later = Drive(ClosureSelector(AT_ONCE))
    matches = [drive.match(number) for number in (0, 16, 1, 2, 17)]
    selection = later.add(at(standing()), matches)
    assert not selection.closures
    assert verdict(selection, drive.keyframes[16]) == ("ambiguous", Decision.HOLD)


def test_a_node_that_was_started_anew_knows_where_it_was_by_its_matches(drive: Drive) -> None:
    """What it did not see may have been a way elsewhere and back; a floor above stays one."""
    above = standing()
    above[2, 3] = 6.0
    drive.add(at(standing()))
    drive.go([*along(0, 20), *along(20, 0)])
    for base, expected in ((standing(0, 0.3), 1), (above, 0)):
        anew = Drive(ClosureSelector(AT_ONCE), drive.session)
        anew.keyframes, anew.data = drive.keyframes[:20], drive.data[:20]
        anew.go(along(0, 6))
        view = at(standing(0, 0.3), odometry=base)
        assert len(anew.add(view, [anew.match(0)]).closures) == expected


def test_closures_that_agree_with_earlier_ones_say_so(drive: Drive) -> None:
    for lap in range(2):
        for number, y_m in enumerate((0.0, 0.5, 1.0)):
            matches = [drive.match(number)] if lap else []
            selection = drive.add(at(standing(0, y_m)), matches)
    assert selection.closures[0].agrees_with == 2


def second_lap(drive: Drive, houses: Sequence[np.ndarray]) -> list[ClosureSelection]:
    """Past houses that are all alike; when the first one is seen again, its neighbour fits as well."""
    for house in houses:
        drive.add(at(standing(), odometry=house))
    drive.go([*along(10, 60), *along(60, 0)])
    matches = [(0, 1), *((number,) for number in range(1, len(houses)))]
    return [
        drive.add(at(standing(), odometry=house), [drive.match(number) for number in numbers])
        for house, numbers in zip(houses, matches, strict=True)
    ]


def test_what_was_ambiguous_is_decided_by_those_after_it(drive: Drive) -> None:
    """The house and its neighbour fit equally well; three more queries agree with the one only."""
    selections = second_lap(drive, [standing(2.5 * number) for number in range(5)])
    first, late = selections[0], selections[3]
    assert not first.closures
    assert verdict(first, drive.keyframes[0]) == ("ambiguous", Decision.HOLD)
    of_query, waited = late.closures
    assert of_query.match.keyframe == drive.keyframes[3]
    assert waited.match.keyframe == drive.keyframes[0]
    assert waited.query == drive.keyframes[-5]
    assert waited.agrees_with == 3
    assert waited.verdicts[-2].reason.startswith(
        "3 other queries agree with it but not with keyframe"
    )


def test_closures_wait_until_others_agree(drive: Drive) -> None:
    drive.selector.config = Config(closures=ClosureConfig(min_agreeing=2))
    for lap in range(2):
        for number, y_m in enumerate((0.0, 0.5, 1.0)):
            matches = [drive.match(number)] if lap else []
            selection = drive.add(at(standing(0, y_m)), matches)
            if lap and number < 2:
                held = selection.rejections[drive.keyframes[number].name]
                assert (held.stage, held.decision, held.value, held.limit) == (
                    *("consistency", Decision.HOLD),
                    *(number, 2),
                )
    assert [each.query.number for each in selection.closures] == [5, 3, 4]


def test_a_late_closure_says_nothing_of_the_same_match_of_this_query(drive: Drive) -> None:
    drive.selector.config = Config(closures=ClosureConfig(min_agreeing=1))
    for y_m in (0.0, 0.5):
        drive.add(at(standing(0, y_m)))
    drive.add(at(standing()), [drive.match(0)])
    uncompared = replace(drive.match(0), data=ImageData(odometry=drive.data[0].odometry))
    selection = drive.add(at(standing(0, 0.5)), [drive.match(1), uncompared])
    assert [each.query.number for each in selection.closures] == [3, 2]
    assert verdict_of(drive.match(1), selection).decision == Decision.PASS
    assert "was not compared" in verdict_of(uncompared, selection).reason


def test_neighbours_of_one_place_give_one_closure(drive: Drive) -> None:
    for y_m in (0.0, 0.3, 3.0):
        drive.add(at(standing(0, y_m)))
    selection = drive.add(at(standing(0, 0.3)), [drive.match(n) for n in range(3)])
    assert len(selection.closures) == 1
    others = [each for each in selection.rejections.values() if each.stage == "best_of_place"]
    assert len(others) == 2
    assert all("shows the same place and is known better: to" in each.reason for each in others)
    assert all(each.value >= each.limit > 0 for each in others)  # metres


def test_one_closure_of_a_place_for_so_many_keyframes() -> None:
    config = AT_ONCE
    drive = Drive(
        ClosureSelector(replace(config, closures=replace(config.closures, every_keyframes=3)))
    )
    drive.add(at(standing()))
    closed = [len(drive.add(at(standing()), [drive.match(0)]).closures) for _ in range(7)]
    assert closed == [1, 0, 0, 1, 0, 0, 1]


def test_however_many_places_are_closed_in_between_each_is_closed_once() -> None:
    config = AT_ONCE
    closures = replace(config.closures, every_keyframes=1000)
    drive = Drive(ClosureSelector(replace(config, closures=closures)))
    view = replace(Scene(0, 60).seen_from(standing()), odometry=None)
    drive.go([standing()] * 400)
    places = [Match(keyframe, 0.9, data=view) for keyframe in drive.keyframes[::6]]
    closed = [len(drive.add(view, [place]).closures) for place in [*places, places[0]]]
    assert closed == [1] * len(places) + [0]


@pytest.mark.parametrize(
    ("query", "stage", "says"),
    [
        (at(standing(), THERE), "geometry", "no pose fits the points"),
        (
            replace(at(standing()), camera=None),
            "no_pose",
            "without camera_info of both no pose follows",
        ),
        (replace(at(standing()), features=None), "geometry", "the query has no local features"),
    ],
)
def test_every_match_that_is_no_closure_has_its_reason(
    query: ImageData, stage: str, says: str, drive: Drive
) -> None:
    drive.add(at(standing()))
    selection = drive.add(query, [drive.match(0)])
    said = selection.rejections[drive.keyframes[0].name]
    assert said.stage == stage
    assert says in said.reason


def test_a_match_without_local_features_is_not_compared(drive: Drive) -> None:
    drive.add(NOTHING_KNOWN)
    selection = drive.add(at(standing()), [drive.match(0)])
    assert not selection.geometries
    assert not selection.rejections


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [
        (lambda p: replace(p, position_m=np.full(3, np.nan)), "its pose is not a number"),
        (lambda p: replace(p, orientation_xyzw=np.zeros(4)), "no unit quaternion"),
        (lambda p: replace(p, position_m=np.array([1e4, 0, 0])), "odometry jumped by 10000.0 m"),
        (lambda p: replace(p, frame_id="odom2"), "odometry is of base_link in odom2 from here on"),
    ],
)
def test_odometry_that_can_not_be_is_told_and_connects_nothing(
    spoiled: object, says: str, drive: Drive
) -> None:
    assert callable(spoiled)
    drive.add(at(standing()))
    data = at(standing(0, 0.5))
    selection = drive.add(replace(data, odometry=spoiled(data.odometry)), [drive.match(0)])
    assert says in selection.problem
    assert len(selection.closures) <= 1
    assert all(np.isnan(each.odometry_deviation) for each in selection.closures)


@pytest.mark.parametrize("covariance", [None, np.zeros((6, 6)), np.full((6, 6), np.nan)])
def test_a_covariance_of_odometry_that_says_nothing_is_no_trouble(
    covariance: np.ndarray | None,
) -> None:
    config = AT_ONCE
    selector = ClosureSelector(replace(config, odometry=replace(config.odometry, drift="message")))
    drive = Drive(selector)
    for y_m in (0.0, 0.3):
        data = at(standing(0, y_m))
        assert data.odometry is not None
        data = replace(data, odometry=replace(data.odometry, covariance=covariance))
        matches = [drive.match(0)] if drive.keyframes else []
        selection = drive.add(data, matches)
    assert len(selection.closures) == 1


def test_the_mount_is_needed_to_compare_with_odometry(drive: Drive) -> None:
    """Without it, what odometry says is whether the place is in sight at all."""
    drive.add(unmounted(at(standing())))
    drive.go(along(0, 100))
    selection = drive.add(unmounted(at(standing(), odometry=standing(100))), [drive.match(0)])
    assert verdict(selection, drive.keyframes[0])[0] == "odometry_distance"


def test_without_the_mount_neighbours_do_not_contradict_each_other(drive: Drive) -> None:
    """How the camera moved is not how the base did."""
    for x_m in (0.0, 2.0):
        drive.add(unmounted(at(standing(x_m))))
    selection = drive.add(unmounted(at(standing(1))), [drive.match(0), drive.match(1)])
    assert len(selection.closures) == 1
    assert {each.stage for each in selection.rejections.values()} == {"best_of_place"}


def test_odometry_of_the_camera_is_compared_with_the_camera_however_it_is_mounted(
    drive: Drive,
) -> None:
    """As visual odometry has it: edges are then of the camera too, and nothing says what is upright."""

    def seen(base: np.ndarray) -> ImageData:
        of_camera = replace(pose(base @ MOUNT), child_frame_id=CAMERA.frame_id)
        return replace(HERE.seen_from(base), odometry=of_camera)

    drive.add(seen(standing()))
    for base in [*along(0, 20), *along(20, 0)]:
        drive.add(ImageData(odometry=seen(base).odometry))
    (closure,) = drive.add(seen(standing(0.3, 1.0, 8)), [drive.match(0)]).closures
    assert closure.geometry.frame == CAMERA_OPTICAL
    assert closure.odometry_deviation < 0.1


def test_frames_without_names_are_not_taken_to_be_one(drive: Drive) -> None:
    """Odometry of a robot whose drivers name no frames says whether a place is in sight, and no more."""

    def seen(base: np.ndarray) -> ImageData:
        nameless = replace(CAMERA, frame_id="", base_from_camera=None)
        data = HERE.seen_from(base, camera=nameless)
        return replace(data, odometry=replace(pose(base), child_frame_id=""))

    drive.add(seen(standing()))
    (closure,) = drive.add(seen(standing(0.3, 1.0, 30)), [drive.match(0)]).closures
    assert np.isnan(closure.odometry_deviation)
    assert "odometry_distance" in {each.stage for each in closure.verdicts}
