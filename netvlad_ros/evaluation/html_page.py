# SPDX-License-Identifier: MIT
"""A page of text, tables, plots and pictures in one HTML file that needs no other file."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from netvlad_ros.errors import NetVLADError

PICTURE_WIDTH_PX = 200
JPEG_QUALITY = 88
RIGHT, WRONG, PLAIN = "right", "wrong", "plain"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1280px;
  padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse } th, td { padding: .25rem .9rem .25rem 0; text-align: left }
th { border-bottom: 1px solid #999 } td + td, th + th { text-align: right }
.conditions { color: #555; max-width: 60rem }
figure { display: inline-block; margin: .5rem 1rem .5rem 0; vertical-align: top }
figure img { max-width: 100% } figcaption { color: #555; font-size: .85rem; max-width: 40rem }
.row { display: flex; flex-wrap: wrap; gap: .5rem; margin: .6rem 0; border-top: 1px solid #ddd;
  padding-top: .6rem }
.tile { width: 206px; font-size: .75rem; overflow-wrap: anywhere }
.tile img { width: 200px; border: 3px solid #999 }
.right img { border-color: #1a9850 } .wrong img { border-color: #e3172d }
"""


@dataclass(frozen=True)
class Tile:
    """A picture with a caption; image is None where it can't be read any more."""

    image: np.ndarray | None
    caption: str
    verdict: str = PLAIN


@dataclass
class Page:
    """Collects the parts of a page in their order."""

    title: str
    _parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, kind: str = "") -> None:
        self._parts.append(f'<p class="{kind}">{html.escape(text)}</p>')

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        lines = [_cells(header, "th"), *(_cells(row, "td") for row in rows)]
        self._parts.append(f"<table>{''.join(lines)}</table>")

    def plot(self, figure: Figure, caption: str) -> None:
        """A figure as an embedded PNG; the caption says under which conditions it holds."""
        FigureCanvasAgg(figure)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
        image = _embedded(file.getvalue(), "png", caption)
        self._parts.append(
            f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    def pictures(self, tiles: Sequence[Tile]) -> None:
        """A row of pictures."""
        self._parts.append(f'<div class="row">{"".join(map(_tile, tiles))}</div>')

    def write(self, path: Path) -> None:
        """Raises NetVLADError if the file can't be written."""
        title = html.escape(self.title)
        text = (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f"<style>{_STYLE}</style></head><body><h1>{title}</h1>\n{chr(10).join(self._parts)}\n</body></html>\n"
        )
        try:
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise NetVLADError(f"{path}: can't write the report ({error.strerror}).") from None


def _cells(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _tile(tile: Tile) -> str:
    caption = html.escape(tile.caption)
    image = "" if tile.image is None else _embedded(_jpeg(tile.image), "jpeg", tile.caption)
    return f'<div class="tile {tile.verdict}">{image}<div>{caption}</div></div>'


def _embedded(content: bytes, kind: str, alternative: str) -> str:
    data = base64.b64encode(content).decode("ascii")
    return f'<img alt="{html.escape(alternative)}" src="data:image/{kind};base64,{data}">'


def _jpeg(image: np.ndarray) -> bytes:
    height = max(1, round(image.shape[0] * PICTURE_WIDTH_PX / image.shape[1]))
    small = cv2.resize(image, (PICTURE_WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    bgr = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR if small.ndim == 2 else cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
