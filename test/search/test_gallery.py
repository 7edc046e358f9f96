# SPDX-License-Identifier: MIT
"""A gallery is embedded once, whatever happens to the process, its cache or its files in between."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from netvlad_ros.data.image_files import Picture, pictures
from netvlad_ros.errors import ImageError
from netvlad_ros.extraction import descriptor_cache
from netvlad_ros.extraction.descriptor_cache import DescriptorCache
from netvlad_ros.extraction.many_images import BATCH
from netvlad_ros.search.gallery import Gallery, Times, embed_gallery, search_all

DIMS = 48
COUNTING = threading.Lock()


class Extractor(SimpleNamespace):
    """The picture itself at 4 x 4 pixels, and how many of them it was asked for."""

    dims = DIMS
    calls = 0

    def extract(self, image: np.ndarray) -> np.ndarray:
        with COUNTING:
            self.calls += 1
        if image.max() == 0:
            raise ImageError("expected an image with something to see.")
        descriptor = cv2.resize(image, (4, 4), interpolation=cv2.INTER_AREA).ravel() - 127.5
        return (descriptor / np.linalg.norm(descriptor)).astype(np.float32)

    def extract_batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([self.extract(image) for image in images])


def extractor(fingerprint: str = "abc@4x4") -> Any:
    return Extractor(fingerprint=fingerprint)


def place(number: int, noise: int = 0) -> np.ndarray:
    rng = np.random.default_rng(number)
    image = rng.integers(0, 256, (4, 4, 3)).repeat(8, axis=0).repeat(8, axis=1)
    return np.clip(image + noise * rng.normal(size=image.shape), 0, 255).astype(np.uint8)


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gallery of six places in two folders."""
    for number in range(6):
        write(tmp_path / "gallery" / ("a", "b")[number % 2] / f"{number}.png", place(number))
    return tmp_path / "gallery"


def embed(folder: Path, model: Any, cache_folder: Path | None = None) -> tuple[Gallery, str]:
    """The gallery and what its cache complains of."""
    where = cache_folder or folder.parent / "cache"
    with DescriptorCache(where, folder, model.fingerprint, DIMS) as cache:
        return embed_gallery(folder, model, cache), cache.problem


def cache_file(folder: Path) -> Path:
    [file] = (folder.parent / "cache").iterdir()
    return file


class TestCache:
    """Nothing is computed twice, and nothing is taken for what it is not."""

    def test_the_second_time_nothing_is_computed(self, folder: Path):
        first, _ = embed(folder, extractor())
        model = extractor()
        second, problem = embed(folder, model)
        assert (model.calls, second.told.reused, second.told.extracted, problem) == (0, 6, 0, "")
        assert second.paths == first.paths
        query = extractor().extract(place(3, noise=9))
        assert second.search(query, 6, None) == first.search(query, 6, None)

    def test_the_gallery_itself_is_not_written_to(self, folder: Path):
        before = sorted(folder.rglob("*"))
        embed(folder, extractor())
        assert sorted(folder.rglob("*")) == before

    def test_another_fingerprint_computes_everything_anew_and_forgets_nothing(self, folder: Path):
        embed(folder, extractor())
        other, again = extractor("other@4x4"), extractor()
        embed(folder, other)
        embed(folder, again)
        assert (other.calls, again.calls) == (6, 0)

    def test_only_images_that_changed_or_are_new_are_computed(self, folder: Path):
        embed(folder, extractor())
        write(folder / "a" / "0.png", place(70))
        os.utime(folder / "b" / "1.png", ns=(0, 0))
        write(folder / "a" / "new.png", place(71))
        model = extractor()
        gallery, _ = embed(folder, model)
        assert (model.calls, gallery.told.reused) == (3, 4)
        best = gallery.search(extractor().extract(place(70)), 1, None)[0]
        assert best.name == "a/0.png"
        assert best.similarity == pytest.approx(1.0)

    def test_images_that_are_gone_are_forgotten(self, folder: Path):
        embed(folder, extractor())
        (folder / "a" / "0.png").rename(folder.parent / "0.png")
        assert len(embed(folder, extractor())[0].paths) == 5
        (folder.parent / "0.png").rename(folder / "a" / "0.png")
        model = extractor()
        embed(folder, model)
        assert model.calls == 1

    def test_two_galleries_of_one_name_are_kept_apart(self, folder: Path, tmp_path: Path):
        write(tmp_path / "other" / "gallery" / "a" / "0.png", place(50))
        embed(folder, extractor())
        other, _ = embed(tmp_path / "other" / "gallery", extractor(), folder.parent / "cache")
        assert other.told.reused == 0

    @pytest.mark.parametrize("damage", [b"no database at all" * 100, b""])
    def test_a_damaged_file_is_started_anew(self, folder: Path, damage: bytes):
        embed(folder, extractor())
        cache_file(folder).write_bytes(damage)
        model = extractor()
        assert embed(folder, model)[1] == ""
        assert model.calls == 6
        assert embed(folder, model)[1] == ""
        assert model.calls == 6

    def test_damaged_descriptors_are_computed_anew(self, folder: Path):
        embed(folder, extractor())
        with sqlite3.connect(cache_file(folder)) as connection:
            short, long = b"\0" * 8, np.full(DIMS, 9.0, np.float32).tobytes()
            update = "UPDATE descriptor SET content = ? WHERE name = ?"
            connection.executemany(update, [(short, "a/0.png"), (long, "b/1.png")])
        connection.close()
        model = extractor()
        embed(folder, model)
        assert model.calls == 2

    def test_without_a_place_to_keep_them_descriptors_are_computed_each_time(self, folder: Path):
        blocked = folder.parent / "file"
        blocked.write_text("in the way")
        for _ in range(2):
            model = extractor()
            gallery, problem = embed(folder, model, blocked)
            assert (model.calls, len(gallery.paths)) == (6, 6)
            assert "are not kept for the next time" in problem

    def test_a_full_disk_does_not_stop_the_search(self, folder: Path):
        embed(folder, extractor())
        write(folder / "new.png", place(80))
        model = extractor()
        with DescriptorCache(folder.parent / "cache", folder, model.fingerprint, DIMS) as cache:
            assert cache._connection is not None
            pages = cache._connection.execute("PRAGMA page_count").fetchone()[0]
            cache._connection.execute(f"PRAGMA max_page_count = {pages}")
            for number in range(100):
                cache.keep(f"{number}.png", folder / "new.png", extractor().extract(place(number)))
            gallery = embed_gallery(folder, model, cache)
        assert "full" in cache.problem
        assert len(gallery.paths) == 7

    def test_what_was_done_when_the_process_was_killed_is_kept(self, folder: Path):
        for number in range(6, 40):
            write(folder / f"{number}.png", place(number))
        code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_gallery as test
from pathlib import Path
test.descriptor_cache.WRITE_EVERY_S = 0.0
class Killed(test.Extractor):
    def extract(self, image):
        if self.calls >= 30:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().extract(image)
test.embed(Path({str(folder)!r}), Killed(fingerprint="abc@4x4"))
"""
        done = subprocess.run([sys.executable, "-c", code], check=False)
        assert done.returncode == -9
        model = extractor()
        gallery, _ = embed(folder, model)
        # Of thirty, a few batches may have been at work at that moment.
        assert 30 - 5 * BATCH <= gallery.told.reused <= 30
        assert model.calls + gallery.told.reused == 40

    def test_descriptors_are_written_every_few_seconds(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ):
        now_s = [100.0]
        monkeypatch.setattr(descriptor_cache, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
        descriptor, file = extractor().extract(place(0)), folder / "a" / "0.png"
        with DescriptorCache(folder.parent / "cache", folder, "abc", DIMS) as cache:
            cache.keep("a/0.png", file, descriptor)
            assert cache.find("a/0.png", file) is None
            now_s[0] += 3.0
            cache.keep("b/1.png", file, descriptor)
            np.testing.assert_array_equal(cache.find("a/0.png", file), descriptor)

    def test_two_searches_at_a_time_share_the_file(self, folder: Path):
        where = folder.parent / "cache"
        models = extractor(), extractor()
        with (
            DescriptorCache(where, folder, "abc@4x4", DIMS) as one,
            DescriptorCache(where, folder, "abc@4x4", DIMS) as two,
        ):
            embed_gallery(folder, models[0], one)
            embed_gallery(folder, models[1], two)
        assert (one.problem, two.problem) == ("", "")
        assert (models[0].calls, models[1].calls) == (6, 0)


class TestGallery:
    """Images that can't be used are named, the others are searched."""

    def test_broken_and_black_images_are_skipped_each_with_its_reason(self, folder: Path):
        (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
        write(folder / "black.png", np.zeros((32, 32, 3), np.uint8))
        gallery, _ = embed(folder, extractor())
        assert len(gallery.paths) == 6
        assert [(each.name, each.problem[:25]) for each in gallery.told.skipped] == [
            ("black.png", "expected an image with so"),
            ("broken.jpg", "expected a whole JPEG fil"),
        ]

    def test_a_gallery_without_a_usable_image_is_refused(self, tmp_path: Path):
        write(tmp_path / "gallery" / "black.png", np.zeros((32, 32, 3), np.uint8))
        with pytest.raises(ImageError, match="none of 1 images can be used; the first: expected"):
            embed(tmp_path / "gallery", extractor())

    def test_progress_sees_every_image(self, folder: Path):
        seen: list[int] = []

        def progress(numbers: Sequence[int]) -> Iterable[int]:
            for number in numbers:
                seen.append(number)
                yield number

        with DescriptorCache(folder.parent / "cache", folder, "abc@4x4", DIMS) as cache:
            gallery = embed_gallery(folder, extractor(), cache, progress)
        assert len(gallery.paths) == 6
        assert seen == list(range(6))


class TestSearch:
    """Queries are answered one after another."""

    def test_the_place_of_each_query_is_found(self, folder: Path):
        gallery, _ = embed(folder, extractor())
        queries = iter([Picture(f"query {i}", place(i, noise=20)) for i in (4, 1)])
        times = Times()
        answers = list(search_all(queries, gallery, extractor(), 3, times))
        assert [each.matches[0].name for each in answers] == ["a/4.png", "b/1.png"]
        for answer in answers:
            assert [match.rank for match in answer.matches] == [1, 2, 3]
            similarities = [match.similarity for match in answer.matches]
            assert similarities == sorted(similarities, reverse=True)
        assert times.pictures == 2
        assert min(times.means_ms().values()) > 0.0

    def test_an_image_does_not_match_itself_but_its_copy(self, folder: Path):
        write(folder / "copy.png", place(0))
        gallery, _ = embed(folder, extractor())
        answers = list(search_all(pictures(str(folder)), gallery, extractor(), 10, Times()))
        assert len(answers) == 7
        assert all(len(each.matches) == 6 for each in answers)
        first = next(each for each in answers if each.query.name == "a/0.png")
        assert first.matches[0].name == "copy.png"

    def test_an_image_of_several_names_matches_none_of_them_and_as_many_others(self, folder: Path):
        for name in ("one.png", "two.png"):
            (folder / name).hardlink_to(folder / "a" / "0.png")
        gallery, _ = embed(folder, extractor())
        assert len(gallery.paths) == 8
        queries = pictures(str(folder / "a" / "0.png"))
        (answer,) = search_all(queries, gallery, extractor(), 3, Times())
        assert len(answer.matches) == 3
        assert not {"a/0.png", "one.png", "two.png"} & {each.name for each in answer.matches}

    def test_queries_that_can_not_be_used_are_passed_over(self, folder: Path):
        gallery, _ = embed(folder, extractor())
        black = np.zeros((32, 32, 3), np.uint8)
        queries = [Picture("1", None, "broken."), Picture("2", black), Picture("3", place(2))]
        times = Times()
        answers = list(search_all(iter(queries), gallery, extractor(), 3, times))
        assert [each.skipped.problem[:8] if each.skipped else "" for each in answers] == [
            "broken.",
            "expected",
            "",
        ]
        assert times.pictures == 1

    def test_reading_is_timed_apart_from_the_rest(self, folder: Path):
        def slow() -> Iterator[Picture]:
            time.sleep(0.05)
            yield Picture("1", place(1))

        gallery, _ = embed(folder, extractor())
        times = Times()
        list(search_all(slow(), gallery, extractor(), 1, times))
        assert times.reading_s >= 0.05 > times.embedding_s + times.search_s
