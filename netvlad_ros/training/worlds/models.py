# SPDX-License-Identifier: MIT
"""A model of somebody's own place (OBJ with textures, or Panda3D's formats) as a world to walk through."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from netvlad_ros.errors import WorldError
from netvlad_ros.training.worlds.camera import Camera
from netvlad_ros.training.worlds.mesh import Vertices
from netvlad_ros.training.worlds.renderer import panda
from netvlad_ros.training.worlds.scene import Paths, Scene
from netvlad_ros.training.worlds.world import World

SUFFIXES = (".obj", ".egg", ".bam")
_SIDE_PX = 1024  # of a texture, at most; the renderer wants powers of two
_MARGIN = 0.15  # of its size is left around a model's paths


def world_of_model(path: Path, camera: Camera | None = None, eye_m: float = 1.5) -> World:
    """The model as a world, z up, in metres, lit as out of doors; its ways cross the middle of its ground.

    Raises WorldError if the file can't be read. glTF needs a converter: Blender writes OBJ.
    """
    return World.of_scene(path.stem, scene_of_model(path, eye_m), camera)


def scene_of_model(path: Path, eye_m: float = 1.5) -> Scene:
    """The surfaces of a model; see world_of_model()."""
    core = panda()
    if path.suffix.lower() not in SUFFIXES:
        raise WorldError(
            f"{path}: expected a model as {', '.join(SUFFIXES)}, got {path.suffix or 'no suffix'}; Blender "
            "converts glTF and others to OBJ (File > Export > Wavefront)."
        )
    if not path.is_file():
        raise WorldError(f"{path}: no such file; expected a model as {', '.join(SUFFIXES)}.")
    core.load_prc_file_data("", "load-file-type p3assimp\nnotify-level fatal")
    node = core.Loader.get_global_ptr().load_sync(
        core.Filename.from_os_specific(str(path.resolve()))
    )
    if node is None:
        raise WorldError(f"{path}: can't be read as a model; does it open in Blender?")
    scene = Scene(Paths(np.zeros((1, 2)), np.zeros((0, 2), int), 1.0), eye_m=eye_m)
    for number, (geom, state) in enumerate(_geoms(core.NodePath(node))):
        name = scene.mesh.material(f"part{number}", _image(state))
        vertices = _vertices(geom)
        if len(vertices):
            scene.mesh.add(name, vertices)
    if not scene.mesh.vertices():
        raise WorldError(f"{path}: expected surfaces, got a model without any.")
    _lay_ways(scene, eye_m)
    return scene


def _geoms(root: Any) -> list[tuple[Any, Any]]:
    """All triangles with their state, in the coordinates of the world."""
    root.flatten_light()
    found = []
    for path in root.find_all_matches("**/+GeomNode"):
        node = path.node()
        for number in range(node.get_num_geoms()):
            geom = node.get_geom(number).decompose()
            geom.transform_vertices(path.get_mat(root))
            found.append((geom, path.get_net_state().compose(node.get_geom_state(number))))
    return found


def _vertices(geom: Any) -> Vertices:
    """Each triangle as a quad, of which two corners are the same."""
    core = panda()
    data = geom.get_vertex_data()
    corners: list[list[float]] = []
    position = core.GeomVertexReader(data, "vertex")
    has_uv = data.has_column("texcoord")
    uv = core.GeomVertexReader(data, "texcoord") if has_uv else None
    for primitive in geom.get_primitives():
        for index in primitive.get_vertex_list():
            position.set_row(index)
            point = [*position.get_data3()]
            if uv:
                uv.set_row(index)
            corners.append([*point, *(uv.get_data2() if uv else (0.0, 0.0))])
    triangles = np.array(corners, np.float64).reshape(-1, 3, 5)
    quads = triangles[:, [0, 1, 2, 2]]
    normals = np.cross(quads[:, 1, :3] - quads[:, 0, :3], quads[:, 2, :3] - quads[:, 0, :3])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    flat = quads.reshape(-1, 5)
    return Vertices(
        flat[:, :3],
        np.repeat(normals, 4, axis=0),
        flat[:, 3:],
        np.ones((len(flat), 3)),
        np.zeros(len(flat)),
    )


def _image(state: Any) -> np.ndarray:
    """The texture of a part, uint8 RGB with sides that are powers of two; its colour where it has none."""
    core = panda()
    textures = state.get_attrib(core.TextureAttrib.get_class_slot())
    if textures and textures.get_num_on_stages():
        texture = textures.get_on_texture(textures.get_on_stage(0))
        if texture.has_ram_image():
            shape = (texture.get_y_size(), texture.get_x_size(), 3)
            pixels = np.frombuffer(texture.get_ram_image_as("RGB"), np.uint8).reshape(shape)[::-1]
            height, width = (min(_SIDE_PX, 1 << (side - 1).bit_length()) for side in shape[:2])
            return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    material = state.get_attrib(core.MaterialAttrib.get_class_slot())
    colour = (0.7, 0.7, 0.7)
    if material and material.get_material() and material.get_material().has_diffuse():
        colour = tuple(material.get_material().get_diffuse())[:3]
    return np.full((4, 4, 3), np.array(colour) * 255, np.uint8)


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
