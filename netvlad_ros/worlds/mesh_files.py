# SPDX-License-Identifier: MIT
"""A textured model of somebody's own place (glTF, OBJ or PLY) as a world to walk through."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.mesh import Vertices
from netvlad_ros.worlds.scene import Paths, Scene
from netvlad_ros.worlds.world import World

_Y_UP = (".glb", ".gltf")  # by glTF's specification; other formats don't say
SUFFIXES = (*_Y_UP, ".obj", ".ply")
_SIDE_PX = 1024  # of a texture, at most; the renderer wants powers of two
_UNPAINTED = 180  # grey
_MARGIN = 0.15  # of its size is left around a model's paths


def world_of_model(path: Path, camera: Camera | None = None, eye_m: float = 1.5) -> World:
    """The model as a world, lit as out of doors; its ways cross the middle of its ground.

    path: of a file in metres; in OBJ and PLY z is up. Raises WorldError if it can't be read.
    """
    return World.of_scene(path.stem, scene_of_model(path, eye_m), camera)


def scene_of_model(path: Path, eye_m: float = 1.5) -> Scene:
    """The surfaces of a model; see world_of_model()."""
    scene = Scene(Paths(np.zeros((1, 2)), np.zeros((0, 2), int), 1.0), eye_m=eye_m)
    for number, part in enumerate(_parts(path)):
        name = scene.mesh.material(f"part{number}", _image(part.visual))
        scene.mesh.add(name, _vertices(part, path.suffix.lower() in _Y_UP))
    if not scene.mesh.vertices():
        raise WorldError(f"{path}: expected surfaces, got a model without any.")
    _lay_ways(scene, eye_m)
    return scene


def _parts(path: Path) -> Iterator[Any]:
    """Its pieces of one material each, where they are in the model."""
    trimesh = _trimesh()
    if path.suffix.lower() not in SUFFIXES:
        raise WorldError(
            f"{path}: expected a model as {', '.join(SUFFIXES)}, got {path.suffix or 'no suffix'}; Blender "
            "converts others to glTF (File > Export)."
        )
    if not path.is_file():
        raise WorldError(f"{path}: no such file; expected a model as {', '.join(SUFFIXES)}.")
    try:
        found = trimesh.load_scene(path)
        parts = found.dump()  # a copy of each, moved to its place
    except Exception as error:  # each format fails in its own way
        raise WorldError(
            f"{path}: can't be read as a model ({error}); does it open in Blender?"
        ) from None
    return (part for part in parts if len(getattr(part, "faces", ())))


def _trimesh() -> Any:
    try:
        import trimesh
    except ImportError as error:
        raise WorldError(
            f"models of places need trimesh ({error}); install it with: pip install 'netvlad_ros[worlds]' "
            "(or: pip install trimesh pillow)."
        ) from None
    return trimesh


def _vertices(part: Any, is_y_up: bool) -> Vertices:
    """Each triangle as a quad, of which two corners are the same."""
    corners = np.asarray(part.faces)[:, [0, 1, 2, 2]].ravel()
    normals = np.repeat(np.asarray(part.face_normals), 4, axis=0)
    positions_m = np.asarray(part.vertices)[corners]
    if is_y_up:
        positions_m, normals = (_turned(each) for each in (positions_m, normals))
    uv = getattr(part.visual, "uv", None)
    return Vertices(
        positions_m,
        normals,
        np.zeros((len(corners), 2)) if uv is None else np.asarray(uv)[corners],
        _tint(part.visual, corners),
        np.zeros(len(corners)),
    )


def _turned(vectors: np.ndarray) -> np.ndarray:
    """(N, 3), from y up to z up."""
    return vectors[:, [0, 2, 1]] * (1.0, -1.0, 1.0)


def _tint(visual: Any, corners: np.ndarray) -> np.ndarray:
    """(len(corners), 3) in 0 to 1: the colours of vertices, as scanners write them; else white."""
    if _has_colours(visual):
        return np.asarray(visual.vertex_colors)[corners, :3] / 255.0
    return np.ones((len(corners), 3))


def _has_colours(visual: Any) -> bool:
    return visual.kind in ("vertex", "face")


def _image(visual: Any) -> np.ndarray:
    """The texture of a part, uint8 RGB with sides that are powers of two; its colour where it has none."""
    material = getattr(visual, "material", None)
    if material is None:
        return np.full((4, 4, 3), 255 if _has_colours(visual) else _UNPAINTED, np.uint8)
    texture = _texture(material)
    if texture is None:
        return np.full((4, 4, 3), material.main_color[:3], np.uint8)
    pixels = np.asarray(texture.convert("RGB"))
    height, width = (min(_SIDE_PX, 1 << (side - 1).bit_length()) for side in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _texture(material: Any) -> Any:
    """A Pillow image; None where it has none."""
    return getattr(material, "baseColorTexture", None) or getattr(material, "image", None)


def _lay_ways(scene: Scene, eye_m: float) -> None:
    """A rectangle around the middle of the model, at eye height above its lowest point."""
    points = np.concatenate([each.positions_m for each in scene.mesh.vertices().values()])
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * (high - low)
    (x0, y0), (x1, y1) = (low + margin)[:2], (high - margin)[:2]
    nodes = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    edges = np.array([(0, 1), (1, 2), (2, 3), (0, 3)])
    scene.paths = Paths(nodes, edges, 0.2 * float(min(x1 - x0, y1 - y0)))
    scene.eye_m = float(low[2]) + eye_m
