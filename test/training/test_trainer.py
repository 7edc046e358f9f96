# SPDX-License-Identifier: MIT
"""A run keeps what it has learned, goes on where it was killed, and is the same in one process or in two."""

import csv
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_networks import tiny_network

from netvlad_ros.errors import TrainingError
from netvlad_ros.model.network import load_model
from netvlad_ros.training.checkpoints import (
    Progress,
    read_checkpoint,
    write_checkpoint,
)
from netvlad_ros.training.config import load_training_config
from netvlad_ros.training.optimisers import make_optimiser

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
data: {source: places.csv, validation: "", image_width_px: 48, image_height_px: 32, positive_radius_m: 6.0}
network: {backbone: mobilenet, backbone_width: 0.25, cut_layer: conv_pw_2_relu, clusters: 4,
          input_offset: [127.5], input_scale: [0.0078]}
clusters: {descriptors: 300, per_image: 20, iterations: 5}
tuples: {tuples_per_batch: 2, positives: 1, negatives: 3}
mining: {refresh_every_queries: 12, pool: 8, remembered: 3}
loss: {name: multi_similarity}
optimiser: {name: adam, learning_rate: 1e-4, weight_decay: 0.0, schedule: constant}
augmentation: {level: basic}
run: {epochs: 2, steps_per_epoch: 10, batch_norm: frozen, chunk_images: 4, checkpoint_every_steps: 4,
      pictures_every_steps: 7, whitening_dims: 4, whitening_images: 12}
"""


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder with a configuration and a walk past 12 places, two images of each."""
    import cv2

    rng = np.random.default_rng(0)
    rows = ["image,x,y"]
    for place in range(12):
        picture = cv2.resize(rng.integers(0, 256, (4, 6, 3), np.uint8), (48, 32))
        for visit in range(2):
            name = f"{place}_{visit}.png"
            noisy = np.clip(picture + rng.normal(0, 10, picture.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / name), noisy)
            rows.append(f"{name},{20 * place},{2 * visit}")
    (tmp_path / "places.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "train.yaml").write_text(CONFIG)
    return tmp_path


def start(folder: Path, *arguments: str, tf_config: str = "") -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "netvlad_ros.cli", "train", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    environment |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"TF_CONFIG": tf_config} if tf_config else {}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finished(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def losses(run: Path) -> dict[int, float]:
    with (run / "log.csv").open() as file:
        return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)}


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(places):
    finished(start(places, "train.yaml", "-o", "whole"))
    killed = start(places, "train.yaml", "-o", "killed")
    end = time.monotonic() + 60
    log = places / "killed/log.csv"
    while not log.is_file() or log.read_text().count("\n") < 11:
        assert killed.poll() is None, killed.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert "resumed after step" in finished(start(places, "-o", "killed", "--resume"))
    whole, resumed = losses(places / "whole"), losses(places / "killed")
    assert list(resumed) == list(whole) == list(range(20))
    np.testing.assert_allclose([*resumed.values()], [*whole.values()], rtol=1e-3, atol=1e-5)
    assert load_model(places / "killed/model.keras").descriptor_dims == 4
    assert "holds a training run" in refused(start(places, "train.yaml", "-o", "whole"))


@pytest.mark.slow
def test_a_whitening_from_places_begins_and_ends_a_run(places):
    words = ("network.whitening_dims=6", "initial.whitening_images=24", "run.whitening=places")
    settings = [word for each in words for word in ("--set", each)]
    output = finished(start(places, "train.yaml", "-o", "run", *settings))
    assert "a whitening of 12 places" in output
    assert "a whitening to 4 dimensions" in output
    model = load_model(places / "run/model.keras")
    assert model.descriptor_dims == model.network.whitening_dims == 4


def test_no_epochs_leave_the_network_as_it_begins(places):
    words = ("network.whitening_dims=6", "initial.whitening_images=24", "run.whitening_dims=0")
    settings = [word for each in (*words, "run.epochs=0") for word in ("--set", each)]
    output = finished(start(places, "train.yaml", "-o", "run", *settings))
    assert "a whitening of 12 places" in output
    assert "that after 0 steps" in output
    assert losses(places / "run") == {}
    assert load_model(places / "run/model.keras").descriptor_dims == 6


def refused(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    return output


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(places):
    settings = ["--set", "run.whitening_dims=0", "--set", "run.epochs=1"]
    finished(start(places, "train.yaml", "-o", "one", *settings))
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    both = [
        start(
            places,
            "train.yaml",
            "-o",
            "two",
            *settings,
            tf_config=json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index in range(2)
    ]
    for process in both:
        finished(process)
    one, two = (
        read_checkpoint(places / name / "checkpoints/latest.npz").network for name in ("one", "two")
    )
    for alone, together in zip(one, two, strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(
        [*losses(places / "two").values()], [*losses(places / "one").values()], rtol=1e-3
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_a_checkpoint_gives_back_network_optimiser_and_source(tmp_path):
    model, path = tiny_network(), tmp_path / "latest.npz"
    optimiser = make_optimiser(load_training_config().optimiser, "float32")
    optimiser.build(model.trainable_variables)
    optimiser.iterations.assign(7)
    source = {"negatives": np.arange(5)}
    write_checkpoint(path, model, optimiser, Progress(step=7, best_recall=0.5), source)
    before = [weight.numpy() for weight in model.weights]
    for weight in model.weights:
        weight.assign(weight * 0.0)
    optimiser.iterations.assign(0)

    checkpoint = read_checkpoint(path)
    checkpoint.restore(model, optimiser)
    assert checkpoint.progress == Progress(step=7, best_recall=0.5)
    assert int(optimiser.iterations) == 7
    np.testing.assert_array_equal(checkpoint.source["negatives"], np.arange(5))
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    assert [file.name for file in tmp_path.iterdir()] == ["latest.npz"]


def test_a_checkpoint_that_can_t_be_used_is_refused(tmp_path):
    path = tmp_path / "latest.npz"
    with pytest.raises(TrainingError, match="no such checkpoint"):
        read_checkpoint(path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(TrainingError, match="damaged"):
        read_checkpoint(path)
    model = tiny_network()
    optimiser = make_optimiser(load_training_config().optimiser, "float32")
    optimiser.build(model.trainable_variables)
    write_checkpoint(path, model, optimiser, Progress())
    with pytest.raises(TrainingError, match=r"was config\.yaml changed"):
        read_checkpoint(path).restore_network(tiny_network(clusters=5))


def test_values_of_a_configuration_are_checked():
    from netvlad_ros.errors import ConfigError

    config = load_training_config(None, ["optimiser.learning_rate=1e-3", "data.kinds=[room]"])
    assert config.optimiser.learning_rate == 1e-3
    assert config.data.kinds == ("room",)
    with pytest.raises(ConfigError, match=r"did you mean loss\.margin"):
        load_training_config(None, ["loss.margn=1"])
    with pytest.raises(ConfigError, match="expected some of town"):
        load_training_config(None, ["data.kinds=[beach]"])
