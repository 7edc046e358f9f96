# SPDX-License-Identifier: MIT
"""Sheets of pictures: queries beside the images of the gallery that look most like them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from netvlad_ros.data.image_files import read_image
from netvlad_ros.errors import ImageError
from netvlad_ros.figures import save_figure
from netvlad_ros.search.gallery import Answer, Gallery, GalleryMatch

DPI = 100
POINT_PX = DPI / 72
GAP_PX, TITLE_PX, CAPTION_PX, FRAME_PX = 12, 44, 38, 4
TITLE_PT, CAPTION_PT, NAME_PT = 12, 9, 7
# Width of a character of the font, as a share of its size.
CHARACTER_WIDTH = 0.62
QUERY_COLOUR, MATCH_COLOUR, ABSENT_COLOUR = (30, 120, 255), (150, 150, 150), (225, 225, 225)
# One query has large pictures; of many, each has a row.
SINGLE_PX, ROW_PX = (300, 225), (160, 120)
SINGLE_COLUMNS = 5
ROWS_PER_SHEET, MATCHES_PER_ROW = 6, 10


@dataclass(frozen=True)
class _Tile:
    """A picture in a cell of the sheet, with a line about it and its name below; no picture is grey."""

    column: int
    row: int
    image: np.ndarray | None
    caption: str
    name: str
    colour: tuple[int, int, int]


def draw_query(path: Path, answer: Answer, gallery: Gallery) -> None:
    """Draws a query above its matches. Raises NetVLADError if the file can't be written."""
    matches = [
        _match_tile(match, i % SINGLE_COLUMNS, 1 + i // SINGLE_COLUMNS)
        for i, match in enumerate(answer.matches)
    ]
    title = f"{answer.query.name}, and the most similar of {len(gallery.paths)} images in {gallery.name}"
    _draw(path, title, [_query_tile(answer, 0), *matches], SINGLE_PX)


def draw_queries(path: Path, answers: Sequence[Answer], title: str) -> None:
    """Draws a row for each query: itself, then its matches. Raises NetVLADError."""
    tiles = []
    for row, answer in enumerate(answers):
        tiles.append(_query_tile(answer, row))
        shown = answer.matches[:MATCHES_PER_ROW]
        tiles += [_match_tile(match, match.rank, row) for match in shown]
    _draw(path, title, tiles, ROW_PX)


def _query_tile(answer: Answer, row: int) -> _Tile:
    query = answer.query
    time = "" if query.time_s is None else f" at {query.time_s:.2f} s"
    return _Tile(0, row, query.image, f"query{time}", query.name, QUERY_COLOUR)


def _match_tile(match: GalleryMatch, column: int, row: int) -> _Tile:
    try:
        image = read_image(match.path)
    except ImageError:  # gone or changed since it was embedded
        image = None
    caption = f"{match.rank}: {match.similarity:.3f}"
    return _Tile(column, row, image, caption, match.name, MATCH_COLOUR)


def _draw(path: Path, title: str, tiles: Sequence[_Tile], size_px: tuple[int, int]) -> None:
    step_x, step_y = size_px[0] + GAP_PX, size_px[1] + CAPTION_PX + GAP_PX
    width = GAP_PX + step_x * max(3, 1 + max(tile.column for tile in tiles))
    height = TITLE_PX + step_y * (1 + max(tile.row for tile in tiles))
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    for tile in tiles:
        x, y = GAP_PX + step_x * tile.column, TITLE_PX + step_y * tile.row
        canvas[y : y + size_px[1], x : x + size_px[0]] = _framed(tile, size_px)
        below = y + size_px[1] + 3
        _write(figure, canvas, (x, below), tile.caption, CAPTION_PT, size_px[0])
        _write(figure, canvas, (x, below + 18), tile.name, NAME_PT, size_px[0])
    _write(figure, canvas, (GAP_PX, 14), title, TITLE_PT, width - 2 * GAP_PX)
    figure.figimage(canvas)
    save_figure(figure, path)


def _framed(tile: _Tile, size_px: tuple[int, int]) -> np.ndarray:
    """The picture as large as it fits into a cell, on grey, with a frame."""
    width, height = size_px
    cell = np.full((height, width, 3), ABSENT_COLOUR, np.uint8)
    if tile.image is not None:
        scale = min(width / tile.image.shape[1], height / tile.image.shape[0])
        w, h = (max(1, round(side * scale)) for side in (tile.image.shape[1], tile.image.shape[0]))
        x, y = (width - w) // 2, (height - h) // 2
        cell[y : y + h, x : x + w] = cv2.resize(tile.image, (w, h), interpolation=cv2.INTER_AREA)
    return cv2.rectangle(cell, (0, 0), (width - 1, height - 1), tile.colour, FRAME_PX)


def _write(
    figure: Figure,
    canvas: np.ndarray,
    at_px: tuple[int, int],
    text: str,
    size_pt: int,
    room_px: int,
) -> None:
    """Writes a line below a point, shortened in its middle to the room there is."""
    height, width = canvas.shape[:2]
    shown = _shortened(text, int(room_px / (size_pt * POINT_PX * CHARACTER_WIDTH)))
    x, y = at_px[0] / width, 1.0 - at_px[1] / height
    figure.text(x, y, shown, fontsize=size_pt, va="top", ha="left", parse_math=False)


def _shortened(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[:half]}…{text[len(text) - half :]}"
