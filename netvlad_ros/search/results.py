# SPDX-License-Identifier: MIT
"""The outcome of a search as a folder: results.json, and sheets that are drawn while queries come in."""

import json
from pathlib import Path
from typing import Any

from netvlad_ros.errors import NetVLADError
from netvlad_ros.evaluation.report import make_folder
from netvlad_ros.extraction.many_images import Skipped
from netvlad_ros.search import sheets
from netvlad_ros.search.gallery import Answer, Gallery, Times

# A camera may run for days.
MAX_SHEETS = 100


class SearchResults:
    """Collects answers, and writes them into a folder if there is one.

    answers: what was found, without the pictures of the queries.
    written: files so far.
    """

    def __init__(self, gallery: Gallery, folder: Path | None) -> None:
        """Raises NetVLADError if the folder can't be made."""
        self.gallery = gallery
        self.times = Times()
        self.queries: list[dict[str, Any]] = []
        self.skipped: list[Skipped] = []
        self.written: list[Path] = []
        self._folder = folder
        self._page: list[Answer] = []
        if folder is not None:
            make_folder(folder)

    def add(self, answer: Answer) -> None:
        """Keeps an answer; draws a sheet when there are enough for one."""
        if answer.skipped is not None:
            self.skipped.append(answer.skipped)
            return
        self.queries.append(_query(answer))
        if self._folder is not None and len(self.written) < MAX_SHEETS:
            self._page.append(answer)
            if len(self._page) == sheets.ROWS_PER_SHEET:
                self._draw_page(self._folder)

    def finish(self) -> list[Path]:
        """Writes what is left to write; returns all files. Raises NetVLADError."""
        if self._folder is None:
            return []
        if len(self.queries) == 1:
            path = self._folder / "matches.png"
            sheets.draw_query(path, self._page[0], self.gallery)
            self.written.append(path)
        elif self._page:
            self._draw_page(self._folder)
        path = self._folder / "results.json"
        try:
            path.write_text(self._json(), encoding="utf-8")
        except OSError as error:
            raise NetVLADError(f"{path}: can't write the results ({error.strerror}).") from None
        return [path, *self.written]

    def _draw_page(self, folder: Path) -> None:
        number = len(self.written) + 1
        first = len(self.queries) - len(self._page) + 1
        last = len(self.queries)
        title = (
            f"queries {first} to {last}, each with the most similar images in {self.gallery.name}"
        )
        path = folder / f"matches_{number:03d}.png"
        sheets.draw_queries(path, self._page, title)
        self.written.append(path)
        self._page.clear()

    def _json(self) -> str:
        gallery = self.gallery
        document = {
            "fingerprint": gallery.fingerprint,
            "gallery": {
                "folder": str(gallery.folder),
                "images": len(gallery.paths),
                "skipped": [_skipped(each) for each in gallery.told.skipped],
            },
            "means_ms": {step: round(ms, 3) for step, ms in self.times.means_ms().items()},
            "queries": self.queries,
            "skipped": [_skipped(each) for each in self.skipped],
        }
        return json.dumps(document, indent=1) + "\n"


def _query(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"query": answer.query.name}
    if answer.query.time_s is not None:
        found["time_s"] = round(answer.query.time_s, 3)
    found["matches"] = [
        {"rank": each.rank, "path": each.name, "similarity": round(each.similarity, 6)}
        for each in answer.matches
    ]
    return found


def _skipped(each: Skipped) -> dict[str, str]:
    return {"image": each.name, "reason": each.problem}
