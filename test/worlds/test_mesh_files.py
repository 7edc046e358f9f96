# SPDX-License-Identifier: MIT
"""Models of somebody's own place become worlds; what is none is refused in one sentence."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Camera, Pose
from netvlad_ros.worlds.conditions import Conditions
from netvlad_ros.worlds.mesh_files import SUFFIXES, scene_of_model, world_of_model

pytestmark = pytest.mark.needs("panda3d", "trimesh", "PIL")

PLAIN = Conditions(noise=0.0, blur_px=0.0, vignetting=0.0)


CORNERS = [(10, 4, 0), (10, -4, 0), (10, -4, 4), (10, 4, 4)]  # of a wall of 8 x 4 m, z up
UV = [(0, 0), (1, 0), (1, 1), (0, 1)]


@pytest.fixture
def wall(tmp_path: Path) -> Path:
    """Red on the left of who looks at it, blue on the right."""
    image = np.zeros((60, 100, 3), np.uint8)
    image[:, :50], image[:, 50:] = (0, 0, 220), (220, 0, 0)  # BGR
    cv2.imwrite(str(tmp_path / "wall.png"), image)
    (tmp_path / "wall.mtl").write_text("newmtl wall\nKd 1 1 1\nmap_Kd wall.png\n")
    corners = "".join(f"v {x} {y} {z}\n" for x, y, z in CORNERS)
    uv = "".join(f"vt {u} {v}\n" for u, v in UV)
    (tmp_path / "wall.obj").write_text(
        f"mtllib wall.mtl\n{corners}{uv}usemtl wall\nf 1/1 2/2 3/3 4/4\n"
    )
    return tmp_path / "wall.obj"


def write_glb(wall: Path, with_texture: bool = True) -> Path:
    """The same wall as glTF, in which y is up, moved 1 m away by a node of its own."""
    material = PBRMaterial(
        baseColorTexture=Image.open(wall.with_suffix(".png")) if with_texture else None,
        baseColorFactor=None if with_texture else (0, 200, 0, 255),
    )
    mesh = trimesh.Trimesh(
        [(x, z, -y) for x, y, z in CORNERS],
        [(0, 1, 2), (0, 2, 3)],
        visual=TextureVisuals(uv=UV, material=material),
        process=False,
    )
    scene = trimesh.Scene()
    scene.add_geometry(mesh, transform=trimesh.transformations.translation_matrix((1, 0, 0)))
    scene.export(wall.with_suffix(".glb"))
    return wall.with_suffix(".glb")


def looked_at(model: Path) -> np.ndarray:
    """The middle of the picture of who stands at the origin, on the left and on the right; RGB."""
    with world_of_model(model, Camera(160, 120)) as world:
        assert world.name == "wall"
        image = world.render(Pose(0, 0, 2.0), PLAIN).astype(int)
    return image[60, [60, 100]]


@pytest.mark.parametrize("write", [lambda wall: wall, write_glb], ids=["obj", "glb"])
def test_a_textured_model_is_seen_where_it_is(wall: Path, write: Callable[[Path], Path]) -> None:
    left, right = looked_at(write(wall))
    assert left[0] > left[2] + 60
    assert right[2] > right[0] + 60


def test_a_part_without_a_texture_has_the_colour_of_its_material(wall: Path) -> None:
    for red, green, blue in looked_at(write_glb(wall, with_texture=False)):
        assert green > max(red, blue) + 60


def test_the_colours_of_a_scan_are_seen(wall: Path) -> None:
    colours = [(220, 0, 0, 255), (0, 0, 220, 255), (0, 0, 220, 255), (220, 0, 0, 255)]
    scan = trimesh.Trimesh(CORNERS, [(0, 1, 2), (0, 2, 3)], vertex_colors=colours, process=False)
    scan.export(wall.with_suffix(".ply"))
    left, right = looked_at(wall.with_suffix(".ply"))
    assert left[0] > left[2] + 20
    assert right[2] > right[0] + 20


def test_a_gltf_is_where_its_nodes_put_it(wall: Path) -> None:
    [part] = scene_of_model(write_glb(wall)).mesh.vertices().values()
    assert part.positions_m.min(axis=0) == pytest.approx([11, -4, 0])
    assert part.positions_m.max(axis=0) == pytest.approx([11, 4, 4])


def test_ways_cross_the_middle_of_the_model(wall: Path) -> None:
    scene = scene_of_model(wall)
    assert np.allclose(scene.paths.nodes_m[:, 1].min(), -4 + 0.15 * 8)
    assert scene.eye_m == 1.5


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match=r"got \.fbx; Blender converts"):
        scene_of_model(tmp_path / "house.fbx")
    with pytest.raises(WorldError, match="no such file"):
        scene_of_model(tmp_path / "house.obj")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "content", [b"this is no model", b"", b"glTF\x02\0\0\0\xff\xff\xff\xff", b"ply\n"]
)
def test_broken_files_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(WorldError, match=rf"broken\{suffix}: (can't be read|expected surfaces)"):
        scene_of_model(path)
