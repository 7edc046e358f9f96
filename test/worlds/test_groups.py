# SPDX-License-Identifier: MIT
"""Groups to learn from: positives see the query's place, negatives don't."""

import numpy as np
import pytest

from netvlad_ros.worlds.camera import Camera, overlap
from netvlad_ros.worlds.groups import GroupConfig, groups
from netvlad_ros.worlds.world import World

CAMERA = Camera(64, 48)
SMALL = GroupConfig(positives=2, negatives=3, conditions=2)


@pytest.mark.needs("panda3d")
@pytest.mark.parametrize(
    ("kind", "radius_m", "far_m"), [("street", 6.0, 25.0), ("corridor", 2.0, 0.0)]
)
def test_positives_see_the_place_of_the_query_and_negatives_do_not(kind, radius_m, far_m):
    with World(5, kind, CAMERA) as world:
        found = list(groups(world, np.random.default_rng(0), 4, SMALL))
    assert len(found) == 4
    for group in found:
        assert group.images.shape == (6, 48, 64, 3)
        assert group.images.std(axis=(1, 2, 3)).min() > 1
        query, *others = group.poses
        for pose in others[: group.positives]:
            assert np.linalg.norm((pose.position_m - query.position_m)[:2]) <= radius_m
            assert overlap(CAMERA, query, pose) >= SMALL.min_overlap
        for pose in others[group.positives :]:
            assert np.linalg.norm(pose.position_m - query.position_m) >= far_m
            assert overlap(CAMERA, query, pose) == 0
