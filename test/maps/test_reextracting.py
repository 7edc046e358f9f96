# SPDX-License-Identifier: MIT
"""A map is described anew by another model, from thumbnails or from bags; all else of it stays."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up_extractors import MadeUpExtractor
from made_up_maps import SECOND, content, drive, save
from made_up_views import standing
from recording import image, write_bag

from netvlad_ros import cli
from netvlad_ros.config import Config, VerificationConfig
from netvlad_ros.errors import DatabaseError
from netvlad_ros.maps import reextracting
from netvlad_ros.maps.reextracting import Picture, of_bags, of_thumbnails, re_extract
from netvlad_ros.store.keyframe_store import StoredKeyframes
from netvlad_ros.store.sqlite_store import SqliteStore


class Corners(MadeUpExtractor):
    """An image by the brightness of its sixteen parts; counts how many it described."""

    dims = 16
    fingerprint = "corners"

    def __init__(self) -> None:
        self.described = 0

    def extract(self, image: np.ndarray) -> np.ndarray:
        """Of unit length."""
        self.described += 1
        grey = image if image.ndim == 2 else image.mean(axis=2).astype(np.uint8)
        parts = (
            cv2.resize(grey, (4, 4), interpolation=cv2.INTER_AREA).astype(np.float32).reshape(-1)
        )
        return parts / np.linalg.norm(parts)


def picture(place: int, width_px: int = 320) -> np.ndarray:
    """A grey picture that no other place has."""
    blocks = np.random.default_rng(place).integers(1, 256, (9, 12), np.uint8)
    size = (width_px, width_px * 3 // 4)
    return cv2.resize(blocks, size, interpolation=cv2.INTER_NEAREST)


def pictured(block: StoredKeyframes, missing: int = -1, broken: int = -1) -> StoredKeyframes:
    """With thumbnails of the places, but for two keyframes."""
    data = []
    for number, (name, known) in enumerate(block.data):
        jpeg = cv2.imencode(".jpg", picture(number))[1].tobytes()
        thumbnail = None if number == missing else b"\xff\xd8" if number == broken else jpeg
        data.append((name, replace(known, thumbnail=thumbnail)))
    return replace(block, data=data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "a.db", pictured(drive(range(6), standing(2.0), start_s=100)))


def descriptors(path: Path) -> np.ndarray:
    return np.concatenate([block.descriptors for block in SqliteStore(path).load()[1]])


def test_thumbnails_are_described_and_all_else_stays(path: Path) -> None:
    out, extractor = path.with_name("b.db"), Corners()
    done = re_extract(path, out, extractor, of_thumbnails(path))
    assert (done.described, done.before, done.without) == (6, 0, 0)
    store = SqliteStore(out)
    assert (store.header().fingerprint, store.header().dims) == ("corners", 16)
    expected = np.array([extractor.extract(picture(place)) for place in range(6)])
    assert np.einsum("nd,nd->n", descriptors(out), expected) == pytest.approx([1] * 6, abs=1e-3)
    for (name, before), (again, after) in zip(
        content(path).items(), content(out).items(), strict=True
    ):
        assert name == again
        assert after.thumbnail == before.thumbnail
        assert before.features is not None
        assert after.features is not None
        assert np.array_equal(before.features.keypoints_px, after.features.keypoints_px)
        assert before.map_pose is not None
        assert after.map_pose is not None
        assert np.array_equal(before.map_pose.pose.position_m, after.map_pose.pose.position_m)
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.db", "b.db"]


def test_keyframes_without_a_usable_picture_are_left_out_and_counted(tmp_path: Path) -> None:
    path = save(tmp_path / "a.db", pictured(drive(range(6)), missing=1, broken=4))
    done = re_extract(path, tmp_path / "b.db", Corners(), of_thumbnails(path))
    assert (done.described, done.without) == (4, 2)
    assert [number for _, number in content(tmp_path / "b.db")] == [0, 2, 3, 5]


def test_an_interrupted_run_goes_on_where_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reextracting, "SAVED_EVERY", 2)
    out, source = path.with_name("b.db"), of_thumbnails(path)

    def interrupted(done: set[tuple[str, int]]) -> Iterator[Picture]:
        for count, each in enumerate(source(done)):
            if count == 5:
                raise KeyboardInterrupt
            yield each

    with pytest.raises(KeyboardInterrupt):
        re_extract(path, out, Corners(), interrupted)
    assert not out.exists()
    extractor = Corners()
    done = re_extract(path, out, extractor, source)
    assert (done.described, done.before, done.without) == (2, 4, 0)
    assert extractor.described == 2
    assert content(out).keys() == content(path).keys()
    assert sorted(each.name for each in path.parent.iterdir()) == ["a.db", "b.db"]


def test_what_another_model_began_is_not_gone_on_with(path: Path) -> None:
    out = path.with_name("b.db")
    save(out.with_name("b.db.partial"), drive(range(2)))
    with pytest.raises(DatabaseError, match="is of another map, model or kind of features"):
        re_extract(path, out, Corners(), of_thumbnails(path))


def test_a_map_without_pictures_is_refused(tmp_path: Path) -> None:
    block = drive(range(3))
    bare = replace(block, data=[(name, replace(k, thumbnail=None)) for name, k in block.data])
    path = save(tmp_path / "a.db", bare)
    with pytest.raises(DatabaseError, match="no keyframe has an image"):
        re_extract(path, tmp_path / "b.db", Corners(), of_thumbnails(path))
    assert [each.name for each in tmp_path.iterdir()] == ["a.db"]


def test_features_of_thumbnails_lie_in_pixels_of_the_camera(path: Path) -> None:
    """Which is twice as wide; how far away they are is lost."""
    out = path.with_name("b.db")
    re_extract(path, out, Corners(), of_thumbnails(path), VerificationConfig(max_features=500))
    for known in content(out).values():
        assert known.features is not None
        assert known.features.points_m is None
        assert known.features.keypoints_px[:, 0].max() > 400
        assert (known.features.keypoints_px < [640, 480]).all()


def test_images_of_a_bag_are_found_by_their_stamps(path: Path, tmp_path: Path) -> None:
    """Those between keyframes are passed over."""
    stamps = [(100 + second) * SECOND for second in range(10)]
    images = [
        (stamp_ns, image(stamp_ns, picture(number // 2 if number % 2 == 0 else 99, 640)))
        for number, stamp_ns in enumerate(stamps)
    ]
    bag = write_bag(tmp_path / "bag", {"/camera": images})
    out, extractor = path.with_name("b.db"), Corners()
    source = of_bags(path, [bag], "", Config())
    done = re_extract(path, out, extractor, source, VerificationConfig())
    assert (done.described, done.without) == (5, 1)
    expected = np.array([extractor.extract(picture(place, 640)) for place in range(5)])
    assert np.einsum("nd,nd->n", descriptors(out), expected) == pytest.approx([1] * 5, abs=1e-5)
    assert all(each.features is not None for each in content(out).values())


def test_a_damaged_image_of_a_bag_is_left_out_and_counted(path: Path, tmp_path: Path) -> None:
    images = [
        ((100 + 2 * place) * SECOND, image((100 + 2 * place) * SECOND, picture(place, 640)))
        for place in range(5)
    ]
    images[1][1].data = images[1][1].data[:10]
    bag = write_bag(tmp_path / "bag", {"/camera": images})
    source = of_bags(path, [bag], "", Config())
    done = re_extract(path, path.with_name("b.db"), Corners(), source)
    assert (done.described, done.without) == (4, 2)


def test_the_command_takes_the_model_that_comes_with_the_package(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "b.db"
    assert cli.main(["map", "re-extract", str(path), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "6 keyframes" in said
    assert "what is finer than their pixels is lost" in said
    assert descriptors(out).shape == (6, 640)
    assert cli.main(["map", "re-extract", str(path), "-o", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err
