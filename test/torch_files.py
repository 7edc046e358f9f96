# SPDX-License-Identifier: MIT
"""Files of torch.save written without torch, and made-up weights of the networks that are saved so."""

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20261121
VGG16 = [
    (0, 3, 64),
    (2, 64, 64),
    (5, 64, 128),
    (7, 128, 128),
    (10, 128, 256),
    (12, 256, 256),
    (14, 256, 256),
    (17, 256, 512),
    (19, 512, 512),
    (21, 512, 512),
    (24, 512, 512),
    (26, 512, 512),
    (28, 512, 512),
]
# Place, inputs, filters and kernel of each convolution.
ALEXNET = [(0, 3, 64, 11), (3, 64, 192, 5), (6, 192, 384, 3), (8, 384, 256, 3), (10, 256, 256, 3)]
STORAGES = {
    "<f4": "FloatStorage",
    "<f8": "DoubleStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
}
SAFETENSORS_TYPES = {"<f4": "F32", "<f8": "F64", "<f2": "F16", "<i8": "I64"}
LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03."


def draw(name: str, shape: tuple[int, ...], std: float) -> np.ndarray:
    """float32 normal values; every name has its own."""
    rng = np.random.default_rng([SEED, *name.encode()])
    return (std * rng.standard_normal(shape, dtype=np.float32)).astype(np.float32)


def encoder(arch: str, prefix: str = "encoder.") -> dict[str, np.ndarray]:
    """Convolutions of torchvision's vgg16 or alexnet, up to the last."""
    layers = ALEXNET if arch == "alexnet" else [(*layer, 3) for layer in VGG16]
    tensors = {}
    for place, inputs, filters, kernel in layers:
        std = (2 / (kernel * kernel * inputs)) ** 0.5
        shape = (filters, inputs, kernel, kernel)
        tensors[f"{prefix}{place}.weight"] = draw(f"{place}.weight", shape, std)
        tensors[f"{prefix}{place}.bias"] = draw(f"{place}.bias", (filters,), 0.05)
    return tensors


def pool(clusters: int, depth: int, vladv2: bool = False) -> dict[str, np.ndarray]:
    """NetVLAD layer of pytorch-NetVlad."""
    tensors = {
        "pool.centroids": draw("centroids", (clusters, depth), 0.05),
        "pool.conv.weight": draw("conv", (clusters, depth, 1, 1), 10.0),
    }
    if vladv2:
        tensors["pool.conv.bias"] = draw("conv.bias", (clusters,), 0.5)
    return tensors


def networks() -> dict[str, dict[str, np.ndarray]]:
    """A state dict for each layout whose descriptors data/torch_networks.npz holds as torch made them."""
    vgg16, clusters, dims = encoder("vgg16"), 4, 24
    whitening = draw("whitening", (dims, clusters * 512), 1.0)
    bias = draw("whitening.bias", (dims,), 0.05)
    v1 = pool(clusters, 512)
    return {
        "alexnet": encoder("alexnet") | pool(8, 256),
        "alexnet_vladv2": encoder("alexnet") | pool(8, 256, vladv2=True),
        "max": vgg16,
        "avg": vgg16,
        "patch_netvlad": vgg16
        | v1
        | {"WPCA.0.weight": whitening[:, :, None, None], "WPCA.0.bias": bias},
        "hloc": encoder("vgg16", "backbone.")
        | {
            "netvlad.score_proj.weight": v1["pool.conv.weight"][..., 0],
            "netvlad.centers": np.ascontiguousarray(v1["pool.centroids"].T),
            "whiten.weight": whitening,
            "whiten.bias": bias,
        },
        "openibl": encoder("vgg16", "base_model.base.")
        | {
            "net_vlad.centroids": v1["pool.centroids"],
            "net_vlad.conv.weight": v1["pool.conv.weight"],
            "pca_layer.weight": whitening[:, :, None, None],
            "pca_layer.bias": bias,
        },
    }


def picture() -> np.ndarray:
    """(1, 72, 104, 3) uint8 RGB values."""
    rng = np.random.default_rng(SEED)
    return rng.integers(0, 256, (1, 72, 104, 3), dtype=np.uint8)


def save_zip(path: Path, content: Any, compression: int = zipfile.ZIP_STORED) -> None:
    """As torch.save does since 1.6."""
    storages: list[np.ndarray] = []
    pickled = b"\x80\x02" + pickle(content, storages) + b"."
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        for key, array in enumerate(storages):
            archive.writestr(_padded(archive, f"archive/data/{key}"), array.tobytes())
        archive.writestr("archive/version", b"3\n")


def _padded(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """A member whose content starts at a multiple of 64 bytes."""
    member = zipfile.ZipInfo(name)
    member.compress_type = archive.compression
    assert archive.fp
    missing = -(archive.fp.tell() + 30 + len(name) + 4) % 64
    member.extra = struct.pack("<2sH", b"FB", missing) + b"Z" * missing
    return member


class LegacyStorages(list[np.ndarray]):
    """Those of a legacy file."""


def save_legacy(path: Path, content: Any) -> None:
    """As torch.save did before 1.6."""
    storages = LegacyStorages()
    machine = {"protocol_version": 1001, "little_endian": True}
    pickled = pickle(machine, []), pickle(content, storages)
    keys = pickle([str(key) for key in range(len(storages))], [])
    with path.open("wb") as file:
        file.write(LEGACY_START)
        for each in (*pickled, keys):
            file.write(b"\x80\x02" + each + b".")
        for array in storages:
            file.write(struct.pack("<q", array.size) + array.tobytes())


def save_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """As safetensors does."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, array in tensors.items():
        place, end = end, end + array.nbytes
        kind = SAFETENSORS_TYPES[array.dtype.str]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (place, end)}
    write_safetensors(path, json.dumps(header), b"".join(a.tobytes() for a in tensors.values()))


def write_safetensors(path: Path, header: str, values: bytes) -> None:
    """A header of any text, and values."""
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + values)


def pickle(value: Any, storages: list[np.ndarray]) -> bytes:
    """The operations that leave this value; arrays become tensors whose values are added to storages.

    bytes are taken for operations, so that a test can write what it likes.
    """
    if isinstance(value, dict):
        items = (pickle(each, storages) for pair in value.items() for each in pair)
        return b"}(" + b"".join(items) + b"u"
    if isinstance(value, list | tuple):
        start, end = (b"](", b"e") if isinstance(value, list) else (b"(", b"t")
        return start + b"".join(pickle(each, storages) for each in value) + end
    if isinstance(value, np.ndarray):
        return _stored(value, storages)
    return WRITERS[type(value)](value)


WRITERS: dict[type, Callable[[Any], bytes]] = {
    bytes: lambda operations: operations,
    type(None): lambda _: b"N",
    bool: lambda value: b"\x88" if value else b"\x89",
    int: lambda value: b"\x8a\x09" + value.to_bytes(9, "little", signed=True),
    float: lambda value: b"G" + struct.pack(">d", value),
    str: lambda text: b"X" + struct.pack("<I", len(text.encode())) + text.encode(),
}


def call(name: str, arguments: tuple[Any, ...]) -> bytes:
    """The operations that call module.name with these arguments."""
    module, _, function = name.rpartition(".")
    return f"c{module}\n{function}\n".encode() + pickle(arguments, []) + b"R"


def storage(kind: str, key: str, count: int, *view: None) -> bytes:
    """The operations that leave a storage; legacy files say that it is no view of another."""
    return pickle(("storage", f"ctorch\n{kind}\n".encode(), key, "cpu", count, *view), []) + b"Q"


def tensor(stored: bytes, offset: Any, shape: Any, strides: Any) -> bytes:
    """The operations that leave a tensor on a storage."""
    hooks = call("collections.OrderedDict", ())
    return call("torch._utils._rebuild_tensor_v2", (stored, offset, shape, strides, False, hooks))


def _stored(array: np.ndarray, storages: list[np.ndarray]) -> bytes:
    array = np.asarray(array, order="C")
    view = (None,) if isinstance(storages, LegacyStorages) else ()
    kept = storage(STORAGES[array.dtype.str], str(len(storages)), array.size, *view)
    storages.append(array)
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return tensor(kept, 0, array.shape, strides)
