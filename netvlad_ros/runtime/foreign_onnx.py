# SPDX-License-Identifier: MIT
"""ONNX files of other projects, such as exports of MixVPR, EigenPlaces, SALAD or MegaLoc, run as they are.

Their weights and operations stay as they were exported. What is added is the way from a uint8 RGB image to
their input, which their files do not say, a last L2 norm, and a description.
"""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from netvlad_ros.errors import ModelError, WeightsError
from netvlad_ros.runtime.model import DESCRIPTION, ModelDescription
from netvlad_ros.runtime.onnxruntime_model import ONNXRuntimeModel, attach_description, open_model

INPUT, OUTPUT = "netvlad_ros/image_rgb", "netvlad_ros/descriptor"
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE}
# From here on, what is added to a graph means the same in all versions.
OLDEST_OPSET = 7
MOST_DIMS = 1_000_000
# By how much descriptors of a batch may differ from those of its images alone.
BATCH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Preprocessing:
    """What a network wants of an image: (value * scale - mean) / std of values 0 to 255.

    size_px:       (width, height); None takes that of the file.
    channel_order: rgb or bgr; mean and std are in this order.
    interpolation: how images are resized, one of runtime.model.INTERPOLATIONS.
    input_name, output_name: of the file, where it has several.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channel_order: str = "rgb"
    size_px: tuple[int, int] | None = None
    interpolation: str = "area"
    input_name: str = ""
    output_name: str = ""

    def __post_init__(self) -> None:
        if not all(self.std):
            raise WeightsError(
                "--std: expected numbers other than 0, as values are divided by them."
            )

    @property
    def in_words(self) -> str:
        """Such as: RGB, times 0.00392157, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225)."""
        mean, std = (f"({', '.join(f'{one:g}' for one in each)})" for each in (self.mean, self.std))
        return f"{self.channel_order.upper()}, times {self.scale:g}, minus {mean}, divided by {std}"


# Name of --input -> what it stands for. imagenet: torchvision's ToTensor and Normalize.
PRESETS = {
    "imagenet": Preprocessing(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


@dataclass(frozen=True)
class _Image:
    """The input that takes images.

    is_nchw: (B, 3, H, W), otherwise (B, H, W, 3).
    """

    name: str
    element_type: int
    is_nchw: bool
    size_px: tuple[int, int]


def import_onnx(source: Path, preprocessing: Preprocessing, output: Path) -> ModelDescription:
    """Writes output (.onnx), which the extractor takes. Raises WeightsError.

    source: one input of shape (B, 3, H, W) or (B, H, W, 3) and one output (B, dims), or those that are named.
    """
    model = _read(source)
    image = _image(source, model, preprocessing)
    description = ModelDescription(
        fingerprint=_fingerprint(model, preprocessing),
        descriptor_dims=0,
        input_width_px=image.size_px[0],
        input_height_px=image.size_px[1],
        has_fixed_size=True,
        interpolation=preprocessing.interpolation,
        preprocessing=preprocessing.in_words,
    )
    _end_with_descriptor(source, model, preprocessing.output_name)
    _begin_with_image(model, image, preprocessing)
    try:
        with tempfile.TemporaryDirectory(prefix=".import-", dir=output.parent) as folder:
            draft = Path(folder) / output.name
            dims = _tried(source, model, draft, description)
            description = dataclasses.replace(description, descriptor_dims=dims)
            attach_description(draft, description)
            draft.replace(output)
    except OSError as error:
        raise WeightsError(
            f"{output}: can't write the model ({error.strerror or error})."
        ) from None
    return description


def _read(source: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(source)  # with the weights that lie beside it
    except Exception as error:  # of protobuf, of onnx, of the file system
        raise WeightsError(
            f"{source}: is no ONNX file, or not all of one ({_line(error)})."
        ) from None
    opset = max((each.version for each in model.opset_import if not each.domain), default=0)
    if not model.graph.node or opset < OLDEST_OPSET:
        raise WeightsError(
            f"{source}: expected an ONNX network of opset {OLDEST_OPSET} or later, got opset {opset} with "
            f"{len(model.graph.node)} operations; export it again."
        )
    if any(each.key == DESCRIPTION for each in model.metadata_props):
        raise WeightsError(f"{source}: is a file of this package already; it runs as it is.")
    return model


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:150]


def _image(source: Path, model: onnx.ModelProto, wanted: Preprocessing) -> _Image:
    weights = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in weights]
    value = _named(source, inputs, wanted.input_name, "input")
    if len(inputs) > 1:
        raise WeightsError(
            f"{source}: expected a network that takes an image only, got inputs {_listed(inputs)}; export it "
            "without the others."
        )
    sides, kind = _sides(value), value.type.tensor_type.elem_type
    channels = [axis for axis in (1, 3) if len(sides) == 4 and sides[axis] == 3]
    if not channels or sides[0] not in (0, 1) or kind not in FLOATS | {TensorProto.UINT8}:
        raise WeightsError(
            f"{source}: expected an input of shape (batch, 3, height, width) or (batch, height, width, 3), "
            f"batch 1 or any, got {_listed([value])}."
        )
    is_nchw = channels[0] == 1
    height, width = (sides[2], sides[3]) if is_nchw else (sides[1], sides[2])
    return _Image(value.name, kind, is_nchw, _size(source, (width, height), wanted.size_px))


def _size(source: Path, own: tuple[int, int], wanted: tuple[int, int] | None) -> tuple[int, int]:
    """own: 0 where the file takes any."""
    if wanted is None and not all(own):
        raise WeightsError(
            f"{source}: takes images of any size; say with --size WIDTHxHEIGHT which one it was trained at."
        )
    size = wanted or own
    if any(side not in (0, given) for side, given in zip(own, size, strict=True)):
        raise WeightsError(
            f"{source}: takes images of {own[0]}x{own[1]} pixels, not {size[0]}x{size[1]}; leave --size out."
        )
    return size


def _named(source: Path, values: Any, name: str, what: str) -> Any:
    found = [each for each in values if name in ("", each.name)]
    if len(found) != 1:
        raise WeightsError(
            f"{source}: expected --{what}-name, one of {_listed(values)}"
            f"{f', got {name}' if name else ''}."
        )
    return found[0]


def _sides(value: Any) -> list[int]:
    """Of an input or output; 0 for those that may be any."""
    return [max(dim.dim_value, 0) for dim in value.type.tensor_type.shape.dim]


def _listed(values: Any) -> str:
    words = [
        f"{each.name} ({', '.join(str(side or 'any') for side in _sides(each))})" for each in values
    ]
    return ", ".join(words[:5]) or "none"


def _fingerprint(model: onnx.ModelProto, preprocessing: Preprocessing) -> str:
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(preprocessing), sort_keys=True).encode())
    digest.update(model.SerializeToString(deterministic=True))
    return digest.hexdigest()[:16]


def _end_with_descriptor(source: Path, model: onnx.ModelProto, name: str) -> None:
    """The network's only output is a descriptor of unit length, in float32."""
    graph = model.graph
    value = _named(source, graph.output, name, "output")
    if value.type.tensor_type.elem_type not in FLOATS:
        raise WeightsError(
            f"{source}: expected descriptors, got an output {value.name} that is no float."
        )
    cast = f"{OUTPUT}/float"
    graph.node.append(helper.make_node("Cast", [value.name], [cast], cast, to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("LpNormalization", [cast], [OUTPUT], OUTPUT, axis=-1, p=2))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None))


def _begin_with_image(model: onnx.ModelProto, image: _Image, wanted: Preprocessing) -> None:
    """The network's only input is a uint8 RGB image, (B, H, W, 3)."""
    graph, nodes, last = model.graph, [], INPUT
    for number, (operation, other, attributes) in enumerate(_steps(image, wanted)):
        made, names = f"{INPUT}/{number}", [last]
        if other is not None:
            names.append(f"{made}/{operation}")
            graph.initializer.append(numpy_helper.from_array(other, names[1]))
        nodes.append(helper.make_node(operation, names, [made], made, **attributes))
        last = made
    nodes[-1].output[0] = image.name
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *own])
    width, height = image.size_px
    shape: list[str | int | None] = ["batch", height, width, 3]
    kept = [each for each in graph.input if each.name != image.name]  # weights of old files
    del graph.input[:]
    graph.input.extend([helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape), *kept])


def _steps(
    image: _Image, wanted: Preprocessing
) -> Iterator[tuple[str, np.ndarray | None, dict[str, Any]]]:
    """Operations from the image to the network's own input: name, second operand, attributes."""
    if wanted.channel_order == "bgr":
        yield "Gather", np.array([2, 1, 0], np.int64), {"axis": 3}
    yield "Cast", None, {"to": TensorProto.FLOAT}
    yield "Mul", np.array(wanted.scale, np.float32), {}
    yield "Sub", np.array(wanted.mean, np.float32), {}
    yield "Div", np.array(wanted.std, np.float32), {}
    if image.is_nchw:
        yield "Transpose", None, {"perm": [0, 3, 1, 2]}
    yield "Cast", None, {"to": image.element_type}


def _tried(source: Path, model: onnx.ModelProto, draft: Path, description: ModelDescription) -> int:
    """The length of its descriptors. draft: where the file is written, for one image at once if need be."""
    size = (2, description.input_height_px, description.input_width_px, 3)
    images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    alone = _descriptors(source, _saved(source, model, draft, description), images)
    if not np.all(np.isfinite(alone)) or np.abs(alone[0] - alone[1]).max() == 0.0:
        raise WeightsError(
            f"{source}: expected descriptors that differ from image to image, got the same or none for two "
            "images of noise; what network is it?"
        )
    try:
        together = _saved(source, model, draft, description).forward(images)
        takes_batches = together.shape == alone.shape and np.allclose(
            together, alone, 0, BATCH_TOLERANCE
        )
    except Exception:  # a size is written into its operations
        takes_batches = False
    if not takes_batches:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        _saved(source, model, draft, description)
    return alone.shape[1]


def _saved(
    source: Path, model: onnx.ModelProto, draft: Path, description: ModelDescription
) -> ONNXRuntimeModel:
    try:
        onnx.save(model, draft)
        return open_model(draft, "cpu", 0, description)
    except (ModelError, ValueError) as error:  # above 2 GB
        raise WeightsError(f"{source}: {_line(error).removeprefix(f'{draft}: ')}") from None


def _descriptors(source: Path, runs: ONNXRuntimeModel, images: np.ndarray) -> np.ndarray:
    """Of each image alone."""
    try:
        found = [runs.forward(image[None]) for image in images]
    except Exception as error:  # of ONNX Runtime, without a common base
        height, width = images.shape[1:3]
        raise WeightsError(
            f"{source}: does not run on an image of {width}x{height} pixels ({_line(error)}); was it "
            "trained at another size (--size)?"
        ) from None
    if found[0].ndim != 2 or len(found[0]) != 1 or not 2 <= found[0].shape[1] <= MOST_DIMS:
        raise WeightsError(
            f"{source}: expected an output of shape (1, dims), a descriptor, got {found[0].shape}; "
            "--output-name takes another output, if there is one."
        )
    return np.concatenate(found)
