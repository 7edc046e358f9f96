# SPDX-License-Identifier: MIT
"""Single images, looked up in the map of an earlier drive."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netvlad_ros.config import LOCALISATION, Config
from netvlad_ros.evaluation.closure_picture import draw_pair
from netvlad_ros.evaluation.plots import DPI
from netvlad_ros.extraction.protocol import Extractor
from netvlad_ros.figures import save_figure
from netvlad_ros.image_data import CameraModel, ImageData
from netvlad_ros.keyframe import Match
from netvlad_ros.retrieval.closures import ClosureSelection, ClosureSelector
from netvlad_ros.retrieval.database import KeyframeDatabase
from netvlad_ros.retrieval.localiser import Localisation, Localiser
from netvlad_ros.retrieval.query import Query
from netvlad_ros.store.sqlite_store import SqliteStore
from netvlad_ros.verification.geometry import Geometry
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.sensors import Sensors

PICTURE_WIDTH_PX = 640
BLANK, POINT = 235, (120, 120, 120)


@dataclass(frozen=True, eq=False)
class Answer:
    """Of one image: what was found, what became of it, and where it was taken."""

    name: str
    image: np.ndarray
    query: Query
    closures: ClosureSelection
    localisation: Localisation

    @property
    def compared(self) -> list[Match]:
        """The matches that were compared by geometry, best first."""
        return [
            each for each in self.query.matches if each.keyframe.name in self.closures.geometries
        ]

    @property
    def best(self) -> Match | None:
        """The match with most inliers, or else the most similar one."""
        geometries = self.closures.geometries
        return max(
            self.query.matches,
            key=lambda each: geometries.get(each.keyframe.name, Geometry()).inliers,
            default=None,
        )


class MapLookUp:
    """Localises images one by one, by a file that is only read."""

    def __init__(self, path: Path, extractor: Extractor, config: Config) -> None:
        """Raises DatabaseError."""
        self._config = replace(config, database=replace(config.database, mode=LOCALISATION))
        self._extractor = extractor
        self.database = KeyframeDatabase.load(SqliteStore(path, read_only=True), self._config)

    def localise(self, name: str, image: np.ndarray, camera: CameraModel | None) -> Answer:
        """image: uint8, RGB (H, W, 3) or grey (H, W). Raises NetVLADError."""
        descriptor = self._extractor.extract(image)
        data = ImageDataMaker(self._config.verification).make(image, Sensors(camera))
        query = self.database.look_up(descriptor, 0, self._extractor.fingerprint, data=data)
        selector = ClosureSelector(self._config)
        closures = selector.select(query)
        found = Localiser(self._config, selector.motion).localise(query, closures)
        return Answer(name, image, query, closures, found)


def draw_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Each image beside its best match, with lines between the points that agree. Raises NetVLADError."""
    figure = Figure(figsize=(11.0, 0.4 + 4.6 * len(answers)), dpi=DPI, layout="constrained")
    for axes, answer in zip(
        figure.subplots(len(answers), 1, squeeze=False).flat, answers, strict=True
    ):
        axes.set_axis_off()
        _draw(axes, answer)
    save_figure(figure, path)


def _draw(axes: Axes, answer: Answer) -> None:
    best = answer.best
    if best is None:
        axes.set_title(f"{answer.name}: {answer.localisation.summary}", fontsize=8.5, wrap=True)
        return
    geometry = answer.closures.geometries.get(best.keyframe.name, Geometry())
    left, right = _small(answer.image), _picture(best.data)
    width_px = best.data.camera.width_px if best.data.camera else _extent_px(best.data)[0]
    scales = left.shape[1] / answer.image.shape[1], right.shape[1] / width_px
    verdict = answer.localisation.summary or f"localised in {answer.localisation.frame_id}"
    draw_pair(axes, (left, right), scales, geometry)
    axes.set_title(
        f"{answer.name}; keyframe {best.keyframe}, {best.scores}\n{geometry.in_words}\n{verdict}",
        fontsize=8.5,
        wrap=True,
    )


def _small(image: np.ndarray) -> np.ndarray:
    height = max(1, round(image.shape[0] * PICTURE_WIDTH_PX / image.shape[1]))
    small = cv2.resize(image, (PICTURE_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_GRAY2RGB) if small.ndim == 2 else small


def _picture(data: ImageData) -> np.ndarray:
    """The thumbnail; a map without has the places of its features instead."""
    if data.thumbnail is not None:
        found = cv2.imdecode(np.frombuffer(data.thumbnail, np.uint8), cv2.IMREAD_COLOR)
        if found is not None:
            return _small(cv2.cvtColor(found, cv2.COLOR_BGR2RGB))
    width_px, height_px = _extent_px(data)
    blank = np.full((height_px, width_px, 3), BLANK, np.uint8)
    if data.features is not None:
        for x, y in data.features.keypoints_px.round().astype(int).tolist():
            cv2.circle(blank, (x, y), max(1, width_px // 300), POINT, -1)
    return _small(blank)


def _extent_px(data: ImageData) -> tuple[int, int]:
    if data.camera is not None:
        return data.camera.width_px, data.camera.height_px
    if data.features is None or not len(data.features):
        return PICTURE_WIDTH_PX, PICTURE_WIDTH_PX * 3 // 4
    width_px, height_px = (data.features.keypoints_px.max(0) + 1).astype(int).tolist()
    return width_px, height_px
