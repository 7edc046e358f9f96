# SPDX-License-Identifier: MIT
"""The two commands that evaluate measure real models on real images, and refuse in a sentence."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cartwheel(netvlad: Run, shared: Path, tmp_path: Path) -> Path:
    """A genuinely trained model."""
    path = tmp_path / "model.keras"
    source = shared / "reference" / "cartwheel" / "mobilenet_color_raw_8192.h5"
    assert netvlad("import-weights", source, "--input", "cartwheel-raw", "-o", path)[0] == 0
    return path


@pytest.fixture
def samples(shared: Path) -> Path:
    return shared / "data" / "rtabmap_samples"


def pattern(place: int) -> np.ndarray:
    blocks = np.random.default_rng(place).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(blocks, (64, 48), interpolation=cv2.INTER_NEAREST)


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Five places 50 m apart, and queries at the first four; one file of each is broken."""
    for part, count in (("database", 5), ("queries", 4)):
        (tmp_path / "set" / part).mkdir(parents=True)
        for place in range(count):
            path = tmp_path / "set" / part / f"@{50 * place}@0@{part}.png"
            cv2.imwrite(str(path), pattern(place))
        (tmp_path / "set" / part / "@999@0@broken.png").write_text("no image")
    return tmp_path / "set"


def test_a_table_a_page_and_figures_come_out(netvlad: Run, places: Path, tmp_path: Path):
    words = ("evaluate", "baseline:thumbnails", places, "-o", tmp_path / "out")
    code, out, err = netvlad(*words)
    assert code == 0
    assert "thumbnails on set" in out
    assert "Recall@1 " in out
    assert "100.00 %" in out
    assert "positives within 25 m, any heading; 4 queries, 0 of them without a positive" in out
    assert "database: 5 images described now, 0 before" in out
    assert "database: @999@0@broken.png skipped: expected an image" in err
    assert "queries: @999@0@broken.png skipped" in err
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "report.html",
        "results.json",
    ]
    assert "database: 0 images described now, 5 before" in netvlad(*words)[1]


def test_radius_and_headings_change_what_is_a_positive(netvlad: Run, places: Path, tmp_path: Path):
    words = ("evaluate", "baseline:thumbnails", places, "-o", tmp_path / "out")
    assert "positives within 60 m" in netvlad(*words, "--radius", 60)[1]
    code, _, err = netvlad(*words, "--heading-tolerance", 20)
    assert (code, "has no headings" in err) == (1, True)


def test_a_second_drive_is_looked_up_in_the_first(netvlad: Run, places: Path):
    code, out, _ = netvlad(
        "evaluate", "baseline:thumbnails", places / "database", "--queries", places / "queries"
    )
    assert code == 0
    assert "thumbnails on queries in database" in out


def test_a_trained_model_finds_the_second_lap_in_the_first(
    netvlad: Run, cartwheel: Path, samples: Path, tmp_path: Path
):
    """The image of a query lies in the middle of those that the ground truth names."""
    rows = (samples / "loop_closures.csv").read_text(encoding="utf-8").splitlines()[1:]
    truth = {query: list(map(int, one.split())) for query, one in (row.split(",") for row in rows)}
    lines = ["image,x_m,y_m,role", *(f"{i}.jpg,{i},0,database" for i in range(1, 41))]
    lines += [f"{query}.jpg,{np.mean(named)},0,query" for query, named in truth.items()]
    (tmp_path / "laps.csv").write_text("\n".join(lines), encoding="utf-8")
    words = (tmp_path / "laps.csv", "--images", samples / "images", "--radius", 2.5)
    code, _, _ = netvlad("evaluate", cartwheel, *words, "-o", tmp_path / "out")
    assert code == 0
    recall = json.loads((tmp_path / "out" / "results.json").read_text())["recall"]
    assert recall["1"] > 0.7
    assert recall["20"] > 0.9


def test_loops_of_a_bag_are_counted_under_stated_conditions(
    netvlad: Run, cartwheel: Path, samples: Path, shared: Path, tmp_path: Path
):
    bag = shared / "data" / "bags" / "rtabmap_loop_mcap"
    truth = ("--ground-truth", samples / "loop_closures.csv", "--exclude-images", 10)
    code, out, _ = netvlad("evaluate-sequence", cartwheel, bag, *truth, "-o", tmp_path / "out")
    assert code == 0
    assert "sequence: 84 images described now" in out
    [results] = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert results["loops"] == 44
    assert 38 <= results["right"] <= 43
    assert results["figures"]["average precision"]["value"] > 0.8
    assert results["conditions"] == (
        "listed in the ground truth, tolerance 0 images; the 10 images before excluded; earlier images "
        "only; all dimensions"
    )
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count('class="tile wrong"') >= 2
    assert (
        "sequence: 0 images described now, 84 before"
        in netvlad("evaluate-sequence", cartwheel, bag, *truth)[1]
    )


def test_the_named_protocol_takes_descriptors_of_kitti(netvlad: Run, shared: Path, tmp_path: Path):
    poses = shared / "data" / "kitti" / "00.txt"
    positions = np.loadtxt(poses)[:, [3, 11]]
    waves = np.random.default_rng(0).normal(0.0, 0.1, (2, 128))
    np.save(tmp_path / "descriptors.npy", np.cos(positions @ waves).astype(np.float32))
    words = ("evaluate-sequence", tmp_path / "descriptors.npy", poses)
    code, out, _ = netvlad(*words, "--protocol", "kitti00-netvlad_tf_open", "-o", tmp_path / "out")
    assert code == 0
    assert "4541 of 4541 images could be looked up" in out
    [results] = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert results["figures"]["AUC"]["value"] > 0.5
    assert results["protocol"]["exclude_images"] == 250
    code, out, _ = netvlad(*words, "--protocol", "kitti00-netvlad_tf_open", "--radius", 5, 10)
    assert "netvlad_tf_open, changed: nearer than" in " ".join(out.split())


def test_what_can_not_be_evaluated_is_one_sentence(
    netvlad: Run, places: Path, samples: Path, shared: Path, tmp_path: Path
):
    np.save(tmp_path / "few.npy", np.zeros((3, 8), np.float32))
    (tmp_path / "no.npy").write_text("no array")
    poses, images = shared / "data" / "kitti" / "00.txt", samples / "images"
    truth = ("--ground-truth", samples / "loop_closures.csv")
    for words, says in (
        (
            ("evaluate", "baseline:thumbnails", tmp_path / "absent"),
            "there is no such file or folder",
        ),
        (("evaluate", "baseline:thumbnails", places / "queries"), "give queries of the same frame"),
        (("evaluate", "baseline:pixels", places), "expected baseline:thumbnails"),
        (("evaluate", "absent.keras", places), "no such model file"),
        (
            ("evaluate", "baseline:thumbnails", places, "-o", samples / "README.md"),
            "can't make this",
        ),
        (("evaluate-sequence", "baseline:thumbnails", places), "use `netvlad evaluate`"),
        (("evaluate-sequence", "baseline:thumbnails", images, *truth), "--exclude-images N"),
        (
            ("evaluate-sequence", "baseline:thumbnails", images, "--exclude-images", 1),
            "--ground-truth",
        ),
        (("evaluate-sequence", "baseline:thumbnails", poses), "none of 4541 images can be used"),
        (("evaluate-sequence", tmp_path / "few.npy", poses), "of shape (4541, dimensions)"),
        (("evaluate-sequence", tmp_path / "no.npy", poses), "can't be read"),
        (
            ("evaluate-sequence", tmp_path / "no.npy", poses, "--protocol", "x"),
            "protocol x: expected",
        ),
    ):
        code, _, err = netvlad(*words)
        last = err.splitlines()[-1]
        assert (code, says in last, last.startswith("netvlad: ")) == (1, True, True), err


def test_numbers_that_can_not_be_are_refused(netvlad: Run, places: Path):
    for words in (("--radius", -1), ("--batch", 0), ("--heading-tolerance", "north")):
        with pytest.raises(SystemExit) as end:
            netvlad("evaluate", "baseline:thumbnails", places, *words)
        assert end.value.code == 2
