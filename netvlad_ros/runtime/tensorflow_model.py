# SPDX-License-Identifier: MIT
"""A SavedModel folder or a frozen graph (.pb), run by TensorFlow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from netvlad_ros.errors import ModelError
from netvlad_ros.model.forward import prepare_tensorflow
from netvlad_ros.runtime.model import DESCRIPTION, ModelDescription, read_description

INPUT, OUTPUT = "image_rgb", "descriptor"
# Where a SavedModel keeps files of its user's.
SAVED_MODEL_EXTRAS = "assets.extra"


class TensorFlowModel:
    """See RunnableModel; the images of a batch run at once."""

    def __init__(self, run: Callable[[Any], Any], description: ModelDescription) -> None:
        self.description = description
        self._run = run

    def forward(self, images_rgb: np.ndarray) -> np.ndarray:
        return self._run(tf.convert_to_tensor(images_rgb)).numpy()


def open_model(
    path: Path, device: str, threads: int, description: ModelDescription | None
) -> TensorFlowModel:
    """See runtime.runtimes.open_model."""
    prepare_tensorflow(device, threads)
    if device == "gpu" and not tf.config.list_physical_devices("GPU"):
        raise ModelError(
            "extractor.device is gpu, but TensorFlow sees none; install its GPU build and driver, or set "
            "extractor.device to auto."
        )
    read = _saved_model if path.is_dir() else _frozen_graph
    try:
        run, stored = read(path)
    except ModelError:
        raise
    except Exception as error:  # TensorFlow, protobuf and the file system each have their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
        raise ModelError(
            f"{path}: TensorFlow can't load this model ({reason}); copy it or export it again."
        ) from None
    return TensorFlowModel(run, description or read_description(stored, path))


def _saved_model(path: Path) -> tuple[Callable[[Any], Any], bytes | None]:
    model = tf.saved_model.load(str(path))
    signature = model.signatures["serving_default"]
    stored = path / SAVED_MODEL_EXTRAS / DESCRIPTION

    def run(images: Any, model: Any = model) -> Any:  # the model must live as long as its function
        return signature(images)[OUTPUT]

    return run, stored.read_bytes() if stored.is_file() else None


def _frozen_graph(path: Path) -> tuple[Callable[[Any], Any], bytes | None]:
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(path.read_bytes())
    stored = next((node for node in graph.node if node.name == DESCRIPTION), None)
    function = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), []).prune(
        f"{INPUT}:0", f"{OUTPUT}:0"
    )
    return function, stored.attr["value"].tensor.string_val[0] if stored else None


def attach_description(path: Path, description: ModelDescription) -> None:
    """Stores it in the file or folder."""
    text = description.to_json().encode()
    if path.is_dir():
        extras = path / SAVED_MODEL_EXTRAS
        extras.mkdir(exist_ok=True)
        (extras / DESCRIPTION).write_bytes(text)
        return
    addition = tf.compat.v1.GraphDef()
    node = addition.node.add(name=DESCRIPTION, op="Const")
    node.attr["dtype"].type = tf.string.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))
    with path.open("ab") as file:  # serialised messages that follow each other are one message
        file.write(addition.SerializeToString())
