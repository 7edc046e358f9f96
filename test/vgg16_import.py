# SPDX-License-Identifier: MIT
"""What test_vgg16_parity.py runs in processes of their own, whose memory is free again afterwards.

python vgg16_import.py write REFERENCE_WEIGHTS FOLDER           all formats
python vgg16_import.py run FOLDER EXPECTED.npz OUTPUT.npz       imports the checkpoint, describes images
python vgg16_import.py digest FILE                              canonical tensors of another format
"""

import hashlib
import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import vgg16_files

IMAGES = {
    "small_rgb": "small_descriptor",
    "street_rgb": "street_descriptor",
    "noise_rgb": "noise_descriptors",
}


def write(reference: str, folder: str) -> None:
    """The reference weights in each project's format."""
    drawn = runpy.run_path(reference)["netvlad_tf_open"]()
    tensors = {name.removeprefix(vgg16_files.SCOPE): array for name, array in drawn.items()}
    vgg16_files.write_checkpoint(Path(folder) / "checkpoint/vd16", tensors)
    vgg16_files.write_frozen(Path(folder) / "frozen.pb", tensors)
    vgg16_files.write_matlab(Path(folder) / "struct.mat", tensors)
    vgg16_files.write_keras(Path(folder) / "keras.h5", tensors)


def run(folder: str, expected: str, output: str) -> None:
    """Descriptors and steps on the way to an .npz file; what the network says of itself to stdout."""
    import keras

    from netvlad_ros.importers.detect import import_weights

    network = import_weights(Path(folder) / "checkpoint")
    with np.load(expected) as stored:
        images = {name: stored[name].astype(np.float32) for name in IMAGES}
    found = {
        IMAGES[name]: keras.ops.convert_to_numpy(network(each.reshape(-1, *each.shape[-3:])))
        for name, each in images.items()
    }
    steps = {name: network.get_layer(name).output for name in ("block5_conv3", "intra_norm")}
    on_the_way = keras.Model(network.input, steps)(images["small_rgb"][None])
    found |= {name: keras.ops.convert_to_numpy(each)[0] for name, each in on_the_way.items()}
    np.savez(output, **found)
    weights = {each.path: keras.ops.convert_to_numpy(each) for each in network.weights}
    tell(
        digests=digests(weights),
        config=network.get_config()["network"],
        count=network.count_params(),
    )


def digest(file: str) -> None:
    """The tensors that an importer makes of a file, and its configuration, to stdout."""
    import dataclasses

    from netvlad_ros.importers.detect import IMPORTERS

    importer = next(each for each in IMPORTERS if each.recognises(Path(file)))
    weights = importer.read(Path(file), None)
    tell(digests=digests(weights.tensors), config=dataclasses.asdict(weights.network))


def digests(tensors: dict[str, np.ndarray]) -> dict[str, str]:
    """A hash of each tensor's shape and values."""
    found = {}
    for path, array in tensors.items():
        assert array.dtype == np.float32
        digest = hashlib.sha256(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
        found[path] = digest.hexdigest()
    return found


def tell(**facts: Any) -> None:
    """Everything, and the peak of this process's memory."""
    status = Path("/proc/self/status").read_text().splitlines()
    [peak_kib] = [int(line.split()[1]) for line in status if line.startswith("VmHWM:")]
    sys.stdout.write(json.dumps(facts | {"peak_bytes": 1024 * peak_kib}))


if __name__ == "__main__":
    JOBS: dict[str, Callable[..., None]] = {"write": write, "run": run, "digest": digest}
    JOBS[sys.argv[1]](*sys.argv[2:])
