# SPDX-License-Identifier: MIT
"""Shards of rendered worlds: complete or not there, resumable after any end, and named when broken."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from netvlad_ros.errors import WorldError
from netvlad_ros.worlds import rendering
from netvlad_ros.worlds.camera import Camera, Pose, overlap
from netvlad_ros.worlds.groups import GroupConfig, groups
from netvlad_ros.worlds.rendering import Rendering, render_missing, shards
from netvlad_ros.worlds.world import World

pytestmark = pytest.mark.needs("panda3d")

CAMERA = Camera(64, 48)
GROUP = GroupConfig(positives=2, negatives=3, conditions=1)
RENDERING = Rendering(3, 2, ("room", "corridor"), 5, CAMERA, GROUP)

RENDER = """
import sys
from pathlib import Path
from netvlad_ros.worlds.rendering import Rendering, render_missing
from netvlad_ros.worlds.camera import Camera
from netvlad_ros.worlds.groups import GroupConfig
if __name__ == "__main__":
    config = GroupConfig(positives=2, negatives=3, conditions=1)
    forty = Rendering(40, 2, ("room",), 0, Camera(64, 48), config)
    for done in render_missing(forty, Path(sys.argv[1]), 1):
        print(done.world, flush=True)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shards of RENDERING."""
    folder = tmp_path_factory.mktemp("cache")
    done = list(render_missing(RENDERING, folder, processes=2))
    assert sorted(each.world for each in done) == ["corridor-6", "room-5", "room-7"]
    assert not any(each.problem for each in done)
    return folder


def test_a_shard_holds_what_was_rendered_but_for_the_compression(cache):
    rendered = []
    for seed, kind in ((5, "room"), (6, "corridor"), (7, "room")):
        with World(seed, kind, CAMERA) as world:
            rendered += list(groups(world, np.random.default_rng([seed, 1]), 2, GROUP))
    found = shards(RENDERING, cache)
    assert [shard.world for shard in found] == ["room-5", "corridor-6", "room-7"]
    read = [shard.images(number, range(6)) for shard in found for number in range(2)]
    for images, group in zip(read, rendered, strict=True):
        assert images.shape == group.images.shape
        assert np.abs(images.astype(int) - group.images).mean() < 6
    some = found[1].images(1, [4, 0])
    assert np.array_equal(some, read[3][[4, 0]])


def test_relations_follow_from_the_poses(cache):
    for shard in shards(RENDERING, cache):
        for group in shard.groups:
            poses = [Pose(*values) for values in group.poses]
            shared = np.array([[overlap(CAMERA, a, b) for a in poses] for b in poses])
            np.fill_diagonal(shared, 0.5)
            assert (group.relation == group.relation.T).all()
            assert (group.relation[0, 1 : 1 + group.positives] == 1).all()
            assert (group.relation[0, 1 + group.positives :] == -1).all()
            assert ((group.relation == -1) == (shared == 0)).all()
            assert (shared[group.relation == 1] >= GROUP.min_overlap - 0.02).all()


def test_what_is_there_is_not_rendered_again_and_what_is_broken_is(cache):
    assert list(render_missing(RENDERING, cache)) == []
    folder = RENDERING.folder(cache)
    before = (folder / "room-7.jpegs").read_bytes()
    (folder / "room-7.jpegs").write_bytes(before[:-1])
    (folder / "corridor-6.json").write_text("{")
    assert [shard.world for shard in shards(RENDERING, cache)] == ["room-5"]
    again = sorted(done.world for done in render_missing(RENDERING, cache, processes=1))
    assert again == ["corridor-6", "room-7"]
    assert len((folder / "room-7.jpegs").read_bytes()) == len(before)


def test_other_settings_have_another_folder_and_more_worlds_the_same_one(cache):
    more = Rendering(9, 2, ("street",), 100, CAMERA, GROUP)
    other = Rendering(3, 2, ("room", "corridor"), 5, CAMERA, GroupConfig(positives=3))
    assert more.folder(cache) == RENDERING.folder(cache) != other.folder(cache)
    assert json.loads((RENDERING.folder(cache) / "rendering.json").read_text())["version"] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [({"kinds": ("sea",)}, "expected some of town"), ({"worlds": 0}, "at least one world")],
)
def test_what_cannot_be_rendered_is_refused(values, message):
    with pytest.raises(WorldError, match=message):
        Rendering(**({"worlds": 1} | values))


def test_a_world_that_fails_is_told_and_the_others_are_there(tmp_path):
    folder = RENDERING.folder(tmp_path)
    (folder / "room-5.json").mkdir(parents=True)  # so that its index can't be written
    done = {each.world: each.problem for each in render_missing(RENDERING, tmp_path, 1)}
    assert "IsADirectoryError" in done["room-5"]
    assert [shard.world for shard in shards(RENDERING, tmp_path)] == ["corridor-6", "room-7"]


def test_a_killed_rendering_leaves_whole_shards_and_no_processes_and_is_completed(tmp_path):
    script = tmp_path / "render.py"
    script.write_text(RENDER)
    command = [sys.executable, str(script), str(tmp_path)]
    forty = Rendering(40, 2, ("room",), 0, CAMERA, GROUP)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(3)]
        children = _children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert children
    _wait_until_gone(children)
    found = [shard.world for shard in shards(forty, tmp_path)]
    assert set(told) <= set(found)
    assert len(found) < 40
    rest = Rendering(len(found) + 1, 2, ("room",), 0, CAMERA, GROUP)
    assert [done.world for done in render_missing(rest, tmp_path, 1)] == [f"room-{len(found)}"]


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in found.split()]


def _wait_until_gone(pids: list[int]) -> None:
    end = time.monotonic() + 5.0
    while any(Path(f"/proc/{pid}/cmdline").exists() and _runs(pid) for pid in pids):
        assert time.monotonic() < end, "a process goes on rendering for nobody"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_process_that_dies_costs_the_world_it_was_at_only(tmp_path, monkeypatch):
    spawn = multiprocessing.get_context("spawn")

    class Context:
        """Processes that die at the second of their worlds."""

        def __init__(self) -> None:
            self.real = spawn
            self.Pipe = self.real.Pipe

        def Process(self, target, args, daemon):  # noqa: N802
            return self.real.Process(target=_dies_at_corridors, args=args, daemon=daemon)

    monkeypatch.setattr(multiprocessing, "get_context", lambda _: Context())
    done = {each.world: each.problem for each in render_missing(RENDERING, tmp_path, 1)}
    assert "ended by itself (exit code 9)" in done["corridor-6"]
    assert not done["room-5"]
    assert not done["room-7"]


def _dies_at_corridors(pipe, wanted, folder, jobs) -> None:
    for job in jobs:
        if job[1] == "corridor":
            os._exit(9)
        rendering._work(pipe, wanted, folder, [job])
