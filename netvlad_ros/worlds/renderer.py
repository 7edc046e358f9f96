# SPDX-License-Identifier: MIT
"""A scene as a camera sees it, drawn by Panda3D's software renderer: no graphics card, no display."""

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds.camera import Camera, Pose
from netvlad_ros.worlds.conditions import Conditions
from netvlad_ros.worlds.depth import Planes, colours_of, depth_of
from netvlad_ros.worlds.light import vertex_colours
from netvlad_ros.worlds.mesh import COLUMNS, Material, Mesh, Vertices, joined
from netvlad_ros.worlds.scene import Paths, Scene
from netvlad_ros.worlds.seasons import in_season
from netvlad_ros.worlds.sky import haze, sky_panorama

_CELL_M = 40.0  # what lies in one cell is drawn or left out together
_NEAR_M = 0.15
_SKY_RADIUS_M = 50.0
_FOG_STEPS = 512
_HOLES = "holes"
_FOG_REACH_M = 200.0
_QUAD = np.array([0, 1, 2, 0, 2, 3], np.uint32)


def panda() -> Any:
    """panda3d.core, set to software rendering. Raises WorldError if Panda3D is not installed."""
    try:
        from panda3d import core
    except ImportError as error:
        raise WorldError(
            f"rendered worlds need Panda3D ({error}); install it with: pip install 'netvlad_ros[worlds]' "
            "(or: pip install panda3d)."
        ) from None
    return core


@dataclass(eq=False)
class _View:
    """What the renderer draws into, the eye that looks, and the picture."""

    buffer: Any
    eye: Any
    texture: Any


@dataclass
class _Piece:
    """What is drawn together: the part of one material's surface that lies in one cell."""

    node: Any
    data: Any
    vertices: Vertices


class Renderer:
    """Draws one scene; conditions and camera may change from picture to picture.

    supersampling: the picture is drawn so many times larger and then averaged.
    """

    def __init__(
        self, scene: Scene, camera: Camera, supersampling: int = 2, first: bool = False
    ) -> None:
        self.core = panda()
        if not first:
            _settle()
        self.scene, self.camera, self.scale = scene, camera, supersampling
        self._conditions: Conditions | None = None
        self._visitors: list[_Piece] = []
        self._root = self.core.NodePath("world")
        self._numbered_root = self.core.NodePath("numbered")
        self._copies = self._numbered_root.attach_new_node("copies")
        self._views: list[_View] = []
        self._numbers: _View | None = None
        self._planes: Planes | None = None
        self._uploads: list[Any] = []
        self._open_buffers()
        self._textures: dict[str, Any] = {}
        self._holes: dict[str, Any] = {}
        self._drawn = 0
        self._pieces = self._build(scene.mesh)
        self._sky = self._sky_dome()

    def close(self) -> None:
        """Gives back the memory."""
        self._engine.remove_all_windows()
        self._root.remove_node()
        self._numbered_root.remove_node()
        self._pieces, self._visitors = [], []
        # Panda3D keeps what it drew in caches of the process, and the textures with it.
        self.core.GeomCacheManager.get_global_ptr().flush()
        self.core.RenderState.clear_cache()
        self.core.TransformState.clear_cache()
        for texture in self._uploads:
            texture.release_all()
            texture.clear_ram_image()
        self._uploads = []

    def draw(self, pose: Pose, conditions: Conditions, camera: Camera | None = None) -> np.ndarray:
        """uint8 RGB (height_px, width_px, 3), as a camera without any fault would take it.

        camera: another one of the same image size; left out, the renderer's own.
        """
        self._look(conditions, camera)
        if self._fogged:
            self._set_fog_ramp(pose)
        self._render(pose, self._colour, *([self._fog] if self._fogged else []))
        image = self._read(self._colour)
        size = (self.camera.width_px, self.camera.height_px)
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return self._in_fog(image, self._read(self._fog)[..., 0]) if self._fogged else image

    def depth_m(
        self, pose: Pose, conditions: Conditions, camera: Camera | None = None
    ) -> np.ndarray:
        """float32 (height_px, width_px), metres along the optical axis, of the pixels of draw().

        camera: as for draw(), but with distortion: what its pixels show that are distorted afterwards.
        NaN where that is the sky, or lies beyond the edges of what is drawn.
        """
        self._look(conditions, camera)
        if self._numbers is None:
            self._numbers = self._view("numbers", self._numbered_root, self.scale)
        if self._planes is None:
            self._planes = self._number()
        self._render(pose, self._numbers)
        image = self._read(self._numbers)
        return depth_of(image, self._planes, camera or self.camera, pose, _NEAR_M)

    def _look(self, conditions: Conditions, camera: Camera | None) -> None:
        self._lens.set_focal_length((camera or self.camera).focal_px)
        if conditions != self._conditions:
            self._change(conditions)

    # --- Buffers --------------------------------------------------------------------------------------

    def _open_buffers(self) -> None:
        core = self.core
        core.load_prc_file_data("", "audio-library-name null\nnotify-level-display fatal")
        pipe = core.GraphicsPipeSelection.get_global_ptr().make_pipe(
            "TinyOffscreenGraphicsPipe", "p3tinydisplay"
        )
        if pipe is None:
            raise WorldError(
                "Panda3D: expected its software renderer (p3tinydisplay), which this build lacks; "
                "install the wheel of PyPI: pip install panda3d."
            )
        self._engine = core.GraphicsEngine(pipe)
        self._lens = core.PerspectiveLens()
        self._lens.set_film_size(self.camera.width_px, self.camera.height_px)
        self._lens.set_focal_length(self.camera.focal_px)
        self._lens.set_near_far(_NEAR_M, self.scene.view_m)
        self._pipe = pipe
        self._colour = self._view("colour", self._root, self.scale)
        self._fog = self._view("fog", self._root, 1)
        self._fog.eye.node().set_tag_state_key(_HOLES)
        self._white = self._upload(np.full((2, 2, 3), 255, np.uint8))
        self._distance = core.TextureStage("distance")
        self._distance.set_texcoord_name("xy")
        self._fogged = False

    def _view(self, name: str, root: Any, scale: int) -> _View:
        core = self.core
        properties = core.FrameBufferProperties()
        properties.set_rgb_color(True)
        properties.set_depth_bits(24)
        size = core.WindowProperties.size(
            self.camera.width_px * scale, self.camera.height_px * scale
        )
        flags = core.GraphicsPipe.BF_refuse_window
        buffer = self._engine.make_output(self._pipe, name, 0, properties, size, flags)
        texture = core.Texture(name)
        buffer.add_render_texture(
            texture, core.GraphicsOutput.RTM_copy_ram, core.GraphicsOutput.RTP_color
        )
        eye = root.attach_new_node(core.Camera(name, self._lens))
        buffer.make_display_region().set_camera(eye)
        buffer.set_clear_color((0, 0, 0, 1))
        self._views.append(_View(buffer, eye, texture))
        return self._views[-1]

    def _render(self, pose: Pose, *views: _View) -> None:
        """Draws into these views only."""
        x, y, z = (tuple(axis) for axis in pose.rotation().T)
        # Panda's cameras look along y with x to the right.
        right, ahead, up = tuple(-v for v in y), x, z
        matrix = self.core.LMatrix4(*right, 0, *ahead, 0, *up, 0, pose.x_m, pose.y_m, pose.z_m, 1)
        for view in self._views:
            view.buffer.set_active(view in views)
            view.eye.set_mat(matrix)
        self._sky.set_pos(pose.x_m, pose.y_m, pose.z_m)
        self._engine.render_frame()

    def _read(self, view: _View) -> np.ndarray:
        """uint8 RGB (H, W, 3)."""
        texture = view.texture
        shape = (texture.get_y_size(), texture.get_x_size(), 4)
        pixels = np.frombuffer(texture.get_ram_image(), np.uint8).reshape(shape)
        return cv2.cvtColor(cv2.flip(pixels, 0), cv2.COLOR_BGRA2RGB)

    # --- Surfaces -------------------------------------------------------------------------------------

    def _build(self, mesh: Mesh) -> list[_Piece]:
        pieces = []
        for name, vertices in mesh.vertices().items():
            cell = np.floor(vertices.positions_m.reshape(-1, 4, 3)[:, 0, :2] / _CELL_M).astype(int)
            _, group = np.unique(cell, axis=0, return_inverse=True)
            for number in range(group.max() + 1):
                chosen = np.repeat(group.ravel() == number, 4)
                part = Vertices(*(getattr(vertices, each)[chosen] for each in COLUMNS))
                pieces.append(self._piece(mesh.materials[name], name, part))
        return pieces

    def _piece(self, material: Material, name: str, vertices: Vertices) -> _Piece:
        core = self.core
        data = core.GeomVertexData(name, self._format(), core.Geom.UH_dynamic)
        data.unclean_set_num_rows(len(vertices))
        xy = vertices.positions_m[:, :2] / _FOG_REACH_M
        columns = np.hstack([vertices.positions_m, vertices.uv, xy]).astype(np.float32)
        data.modify_array_handle(0).copy_data_from(columns.tobytes())
        triangles = core.GeomTriangles(core.Geom.UH_static)
        triangles.set_index_type(core.Geom.NT_uint32)
        indices = (np.arange(0, len(vertices), 4, dtype=np.uint32)[:, None] + _QUAD).ravel()
        array = triangles.modify_vertices()
        array.unclean_set_num_rows(len(indices))
        array.modify_handle().copy_data_from(indices.tobytes())
        geom = core.Geom(data)
        geom.add_primitive(triangles)
        node = core.GeomNode(name)
        node.add_geom(geom)
        path = self._root.attach_new_node(node)
        path.set_depth_offset(material.layer)
        # Where surfaces meet, the one drawn first is seen; without an order, memory addresses decide that.
        self._drawn += 1
        path.set_bin("fixed", self._drawn)
        if material.has_holes:
            path.set_transparency(core.TransparencyAttrib.M_binary)
        path.set_python_tag("material", (name, material))
        return _Piece(path, data, vertices)

    def _format(self) -> Any:
        core = self.core
        shape = core.GeomVertexArrayFormat()
        shape.add_column("vertex", 3, core.Geom.NT_float32, core.Geom.C_point)
        shape.add_column("texcoord", 2, core.Geom.NT_float32, core.Geom.C_texcoord)
        shape.add_column("texcoord.xy", 2, core.Geom.NT_float32, core.Geom.C_texcoord)
        light = core.GeomVertexArrayFormat()
        light.add_column("color", 4, core.Geom.NT_uint8, core.Geom.C_color)
        both = core.GeomVertexFormat()
        both.add_array(shape)
        both.add_array(light)
        return core.GeomVertexFormat.register_format(both)

    @staticmethod
    def _texture_key(name: str, material: Material, conditions: Conditions) -> str:
        if not material.reacts:
            return name
        return f"{name} {conditions.season} {conditions.snow} {conditions.weather == 'rain'}"

    def _texture(self, key: str, name: str, material: Material, conditions: Conditions) -> Any:
        if key not in self._textures:
            image = in_season(name, material, conditions)
            self._textures[key] = self._upload(image)
            if material.has_holes:
                self._keep_holes(key, image)
        return self._textures[key]

    def _upload(self, image: np.ndarray, repeats: bool = True) -> Any:
        core = self.core
        texture = core.Texture()
        self._uploads.append(texture)
        kind = core.Texture.F_rgba if image.shape[2] == 4 else core.Texture.F_rgb
        order = [2, 1, 0, 3][: image.shape[2]]
        texture.setup_2d_texture(image.shape[1], image.shape[0], core.Texture.T_unsigned_byte, kind)
        texture.set_ram_image(np.ascontiguousarray(image[::-1, :, order]).tobytes())
        texture.set_minfilter(core.SamplerState.FT_linear_mipmap_linear)
        texture.set_magfilter(core.SamplerState.FT_linear)
        if not repeats:
            texture.set_wrap_u(core.SamplerState.WM_clamp)
            texture.set_wrap_v(core.SamplerState.WM_clamp)
        return texture

    # --- Conditions -----------------------------------------------------------------------------------

    def _change(self, conditions: Conditions) -> None:
        before, self._conditions = self._conditions, conditions
        if before is None or (before.visit, before.fullness) != (
            conditions.visit,
            conditions.fullness,
        ):
            self._call_visitors(conditions)
        for piece in self._pieces + self._visitors:
            name, material = piece.node.get_python_tag("material")
            if material.is_lit_window and not conditions.is_dark:
                piece.node.hide()
                continue
            piece.node.show()
            key = self._texture_key(name, material, conditions)
            piece.node.set_texture(self._texture(key, name, material, conditions))
            if material.has_holes:
                piece.node.set_tag(_HOLES, key)
        self._light(conditions)
        self._sky.set_texture(self._upload(sky_panorama(conditions), repeats=False))
        self._fogged = not self.scene.is_indoor and conditions.visibility_m < self.scene.view_m
        self._fog_ramp: Any = None
        self._planes = None

    def _light(self, conditions: Conditions) -> None:
        pieces = self._pieces + self._visitors
        colours = vertex_colours(joined([each.vertices for each in pieces]), self.scene, conditions)
        ends = np.cumsum([len(each.vertices) for each in pieces])
        for piece, part in zip(pieces, np.split(colours, ends[:-1]), strict=True):
            piece.data.modify_array_handle(1).copy_data_from(part.tobytes())

    def _call_visitors(self, conditions: Conditions) -> None:
        for piece in self._visitors:
            piece.node.remove_node()
        mesh, rng = Mesh(), np.random.default_rng(conditions.visit)
        for visitor in self.scene.visitors:
            if rng.random() < conditions.fullness:
                visitor(rng, mesh)
        self._textures = {
            name: texture
            for name, texture in self._textures.items()
            if name.split()[0] not in mesh.materials
        }
        self._drawn = len(self._pieces)
        self._visitors = self._build(mesh)

    # --- Depth ----------------------------------------------------------------------------------------

    def _number(self) -> Planes:
        """Copies all that is shown, each quad in the colour of its number; returns their planes."""
        self._copies.remove_node()
        self._copies = self._numbered_root.attach_new_node("copies")
        pieces = [each for each in self._pieces + self._visitors if not each.node.is_hidden()]
        positions_m = np.concatenate([each.vertices.positions_m for each in pieces])
        colours = np.repeat(colours_of(np.arange(len(positions_m) // 4)), 4, axis=0)
        ends = np.cumsum([len(each.vertices) for each in pieces])
        for piece, part in zip(pieces, np.split(colours, ends[:-1]), strict=True):
            data = self.core.GeomVertexData(piece.data)
            data.modify_array_handle(1).copy_data_from(part.tobytes())
            copy = piece.node.copy_to(self._copies)
            copy.node().modify_geom(0).set_vertex_data(data)
            copy.clear_texture()
            if piece.node.has_tag(_HOLES):
                copy.set_texture(self._holes[piece.node.get_tag(_HOLES)])
        return Planes.of(positions_m)

    # --- Sky and fog ----------------------------------------------------------------------------------

    def _sky_dome(self) -> Any:
        mesh = Mesh()
        mesh.material("sky", np.zeros((2, 2, 3), np.uint8))
        piece = self._build_dome(mesh)
        piece.set_bin("background", 0)
        piece.set_depth_write(False)
        piece.set_depth_test(False)
        piece.set_two_sided(True)
        if self.scene.is_indoor:
            piece.hide()
        return piece

    def _build_dome(self, mesh: Mesh) -> Any:
        turns, rises = 24, 6
        angle = np.linspace(0, 2 * np.pi, turns + 1)
        height = np.radians(np.linspace(-10, 90, rises + 1))
        corners, uv = [], []
        for i in range(turns):
            for j in range(rises):
                for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1)):
                    a, h = angle[i + di], height[j + dj]
                    corners.append((np.cos(a) * np.cos(h), np.sin(a) * np.cos(h), np.sin(h)))
                    uv.append(((i + di) / turns, (j + dj) / rises))
        count = len(corners)
        vertices = Vertices(
            np.array(corners) * _SKY_RADIUS_M,
            np.tile((0.0, 0.0, 1.0), (count, 1)),
            np.array(uv),
            np.ones((count, 3)),
            np.ones(count),
        )
        piece = self._piece(mesh.materials["sky"], "sky", vertices)
        piece.data.modify_array_handle(1).copy_data_from(
            np.full((count, 4), 255, np.uint8).tobytes()
        )
        return piece.node

    def _set_fog_ramp(self, pose: Pose) -> None:
        """Sets up the second picture: in place of its image, each surface shows how clearly it is seen.

        Its coordinates are its position in the plane; one transform makes the distance of them.
        """
        core = self.core
        if self._fog_ramp is None:
            visibility = self._conditions.visibility_m  # type: ignore[union-attr]
            distance = np.arange(_FOG_STEPS) / _FOG_STEPS * _FOG_REACH_M
            clear = (255 * np.exp(-distance / visibility)).astype(np.uint8)
            self._fog_ramp = self._upload(
                np.repeat(np.tile(clear, (2, 1))[..., None], 3, axis=2), repeats=False
            )
            self._fog_ramp.set_minfilter(core.SamplerState.FT_nearest)
            self._fog_ramp.set_magfilter(core.SamplerState.FT_nearest)
        cos, sin = float(np.cos(pose.yaw_rad)), float(np.sin(pose.yaw_rad))
        ahead = -(pose.x_m * cos + pose.y_m * sin) / _FOG_REACH_M
        transform = core.LMatrix4(cos, 0, 0, 0, sin, 0, 0, 0, 0, 0, 1, 0, ahead, 0.5, 0, 1)
        state = core.NodePath("state")
        state.set_texture(core.TextureStage.get_default(), self._white, 100)
        state.set_texture(self._distance, self._fog_ramp, 100)
        state.set_tex_transform(self._distance, core.TransformState.make_mat(transform))
        state.set_color((1, 1, 1, 1), 100)
        self._fog.eye.node().set_initial_state(state.get_state())

    def _keep_holes(self, key: str, image: np.ndarray) -> None:
        """Of the image, only what is cut out, for the pictures that show something else in its place."""
        white = np.full_like(image, 255)
        white[..., 3] = image[..., 3]
        self._holes[key] = self._upload(white)
        state = self.core.NodePath("state")
        state.set_texture(self.core.TextureStage.get_default(), self._holes[key], 200)
        self._fog.eye.node().set_tag_state(key, state.get_state())

    def _in_fog(self, image: np.ndarray, clear: np.ndarray) -> np.ndarray:
        share = cv2.merge([clear] * 3)
        grey = haze(self._conditions).clip(0, 255)  # type: ignore[arg-type]
        fog = cv2.multiply(255 - share, np.array([*grey, 0.0]) / 255)
        return cv2.add(cv2.multiply(image, share, scale=1 / 255), fog)


@functools.cache
def _settle() -> None:
    """Draws one picture of fixed size: how edges are rounded depends on what a process draws first."""
    scene = Scene(Paths(np.zeros((1, 2)), np.zeros((0, 2), int), 1.0))
    scene.mesh.material("plate", np.full((4, 4, 3), 255, np.uint8))
    scene.mesh.patch("plate", (5, 1, 0), (0, -2, 0), (0, 0, 2))
    renderer = Renderer(scene, Camera(), first=True)
    renderer.draw(Pose(0, 0), Conditions())
    renderer.close()
