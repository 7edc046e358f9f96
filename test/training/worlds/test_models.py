# SPDX-License-Identifier: MIT
"""Models of somebody's own place: textured OBJ files become worlds, others are refused in one sentence."""

import cv2
import numpy as np
import pytest

from netvlad_ros.errors import WorldError
from netvlad_ros.training.worlds.camera import Camera, Pose
from netvlad_ros.training.worlds.conditions import Conditions
from netvlad_ros.training.worlds.models import scene_of_model, world_of_model

PLAIN = Conditions(noise=0.0, blur_px=0.0, vignetting=0.0)


@pytest.fixture
def wall(tmp_path):
    """A wall of 8 x 4 m at x = 10 m, z up: red on the left of who looks at it, blue on the right."""
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, :50], image[:, 50:] = (0, 0, 220), (220, 0, 0)  # BGR
    cv2.imwrite(str(tmp_path / "wall.png"), image)
    (tmp_path / "wall.mtl").write_text("newmtl wall\nKd 1 1 1\nmap_Kd wall.png\n")
    (tmp_path / "wall.obj").write_text(
        "mtllib wall.mtl\nv 10 4 0\nv 10 -4 0\nv 10 -4 4\nv 10 4 4\n"
        "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nusemtl wall\nf 1/1 2/2 3/3 4/4\n"
    )
    return tmp_path / "wall.obj"


def test_a_textured_obj_is_seen_where_it_is(wall):
    with world_of_model(wall, Camera(160, 120)) as world:
        image = world.render(Pose(0, 0, 2.0), PLAIN).astype(int)
    left, right = image[60, 60], image[60, 100]
    assert left[0] > left[2] + 60
    assert right[2] > right[0] + 60
    assert world.name == "wall"


def test_ways_cross_the_middle_of_the_model(wall):
    scene = scene_of_model(wall)
    assert np.allclose(scene.paths.nodes_m[:, 1].min(), -4 + 0.15 * 8)
    assert scene.eye_m == 1.5


def test_other_files_are_refused(tmp_path):
    with pytest.raises(WorldError, match=r"got \.glb; Blender converts"):
        scene_of_model(tmp_path / "house.glb")
    with pytest.raises(WorldError, match="no such file"):
        scene_of_model(tmp_path / "house.obj")
    (tmp_path / "broken.obj").write_text("this is no model")
    with pytest.raises(WorldError, match=r"broken.obj: (can't be read|expected surfaces)"):
        scene_of_model(tmp_path / "broken.obj")
