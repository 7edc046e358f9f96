# SPDX-License-Identifier: MIT
"""Files of torch.save: read as torch reads them, without torch, or refused in one sentence."""

import contextlib
import io
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_files import call, save_legacy, save_zip, storage, tensor
from torch_files import pickle as operations

from netvlad_ros.errors import WeightsError
from netvlad_ros.importers import torch_file
from netvlad_ros.importers.torch_file import Tensor

DATA = Path(__file__).parent / "data"
BASE = np.arange(24, dtype="f4")
Save = Callable[[Path, Any], None]

# What data/make_torch_files.py saved with torch.
GENUINE = {
    "contiguous": BASE.reshape(4, 6),
    "transposed": BASE.reshape(4, 6).T,
    "part": BASE[5:11:2],
    "expanded": np.full((1, 1), 7.0),
    "empty": np.zeros((0, 3)),
    "scalar": np.array(3.5),
    "half": BASE[:6].reshape(2, 3).T,
    "bfloat16": BASE[:6] / 8,
    "double": (BASE[:3].astype("f8") / 3).astype("f4"),
    "long": np.array([1, 2, 2**20]),
    "parameter": np.ones(2),
}


def refusal(path: Path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(WeightsError) as error:
        read(path)
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: expected ")
    assert sentence[-1] in ".?"
    assert "\n" not in sentence
    return sentence.removeprefix(f"{path}: ")


def read(path: Path) -> Any:
    """What a file holds, with all its values."""
    return with_arrays(torch_file.load(path), path)


def with_arrays(value: Any, path: Path) -> Any:
    match value:
        case Tensor():
            return value.array()
        case dict():
            return {key: with_arrays(each, path) for key, each in value.items()}
        case _:
            return value


def write_pickle(path: Path, pickled: bytes, **storages: bytes) -> None:
    """A zip file of torch with this pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key.removeprefix('_')}", content)


def peak_bytes(action: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_what_torch_saved_is_read_as_torch_reads_it(name: str):
    content = read(DATA / name)
    assert content["state_dict"].keys() == GENUINE.keys()
    for key, expected in GENUINE.items():
        array = content["state_dict"][key]
        assert array.dtype == np.float32, key
        assert array.shape == expected.shape, key
        np.testing.assert_array_equal(array, expected, key)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_what_a_checkpoint_holds_besides_does_not_disturb(name: str):
    content = torch_file.load(DATA / name)
    assert (content["epoch"], content["parallel"]) == (17, True)
    assert list(content["recalls"]) == [
        1,
        5,
    ]  # numpy numbers, which torch's own weights_only refuses
    assert content["optimizer"]["param_groups"][0]["momentum"] == 0.9
    assert content["optimizer"]["state"][0]["momentum_buffer"].shape == (2, 1, 1, 1)
    assert list(content["parallel_state_dict"]) == [
        "encoder.module.0.weight",
        "encoder.module.0.bias",
    ]


def test_values_are_not_read_before_they_are_asked_for(tmp_path: Path):
    large = np.zeros(1 << 22, "f4")
    save_zip(tmp_path / "large.pth", {"large": large})
    assert peak_bytes(lambda: torch_file.load(tmp_path / "large.pth")["large"].array()) < 8 << 20


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_torch_reads_what_these_tests_write(save: Save, tmp_path: Path):
    torch = pytest.importorskip("torch")
    written = {"a": BASE.reshape(2, 12), "half": BASE.astype("f2"), "long": np.arange(3)}
    save(tmp_path / "file.pth", {"state_dict": written, "epoch": 3})
    content = torch.load(tmp_path / "file.pth", weights_only=True)
    assert content["epoch"] == 3
    for key, array in written.items():
        np.testing.assert_array_equal(content["state_dict"][key].numpy(), array)


@pytest.mark.parametrize("save", [save_zip, save_legacy])
def test_what_these_tests_write_is_read(save: Save, tmp_path: Path):
    written = {"a": BASE.reshape(2, 12), "half": BASE.astype("f2"), "long": np.arange(3)}
    save(tmp_path / "file.pth", {"state_dict": written, "other": [None, 1.5, ("x", -(2**40))]})
    content = read(tmp_path / "file.pth")
    assert content["other"] == [None, 1.5, ("x", -(2**40))]
    for key, array in written.items():
        np.testing.assert_array_equal(content["state_dict"][key], array)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_binary_protocol_are_read(protocol: int, tmp_path: Path):
    content = {"a": [1, -2, 2**70, 1.5, True, None, "ü", (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]}
    write_pickle(tmp_path / "file.pth", pickle.dumps(content, protocol))
    assert torch_file.load(tmp_path / "file.pth") == content


def test_an_ordered_dict_of_python_2_is_read(tmp_path: Path):
    ordered = call("collections.OrderedDict", ([["a", 1], ["b", 2]],))
    write_pickle(tmp_path / "file.pth", b"\x80\x02" + ordered + b".")
    assert torch_file.load(tmp_path / "file.pth") == {"a": 1, "b": 2}


def test_storages_of_a_gpu_are_read(tmp_path: Path):
    gpu = storage("FloatStorage", "0", 3).replace(b"ctorch\n", b"ctorch.cuda\n")
    pickled = b"\x80\x02" + tensor(gpu, 0, (3,), (1,)) + b"."
    write_pickle(tmp_path / "file.pth", pickled, _0=BASE[:3].tobytes())
    np.testing.assert_array_equal(read(tmp_path / "file.pth"), [0, 1, 2])


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_a_file_cut_anywhere_is_refused(name: str, tmp_path: Path):
    content = (DATA / name).read_bytes()
    path = tmp_path / "cut.pth"
    for end in range(0, len(content), 7):
        path.write_bytes(content[:end])
        refusal(path)


@pytest.mark.parametrize("name", [pytest.param("zip.pth", marks=pytest.mark.slow), "legacy.pth"])
def test_a_file_with_a_wrong_byte_is_read_or_refused(name: str, tmp_path: Path):
    content = bytearray((DATA / name).read_bytes())
    path = tmp_path / "damaged.pth"
    rng = np.random.default_rng(3)
    for place in range(0, len(content), 3):
        damaged = content.copy()
        damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(WeightsError):
            read(path)


class Intruder:
    """Calls something when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("where", ["value", "key of the state dict", "instead of everything"])
def test_code_inside_a_file_is_named_and_not_run(protocol: int, where: str, tmp_path: Path):
    traces = tmp_path / "traces"
    intruder: Any = Intruder(Path.touch, traces)
    if where == "value":
        intruder = {"state_dict": {}, "best_score": intruder}
    elif where == "key of the state dict":
        intruder = {"state_dict": {intruder: 1}}
    write_pickle(tmp_path / "file.pth", pickle.dumps(intruder, protocol))
    sentence = refusal(tmp_path / "file.pth")
    assert "got pathlib.Path.touch: a module saved whole or other code" in sentence or (
        protocol == 2 and "got builtins.getattr" in sentence.replace("__builtin__", "builtins")
    )
    assert not traces.exists()


@pytest.mark.parametrize("name", ["posix.system", "builtins.eval", "torch.hub.load", "numpy.load"])
def test_a_function_that_torch_would_call_is_named(name: str, tmp_path: Path):
    write_pickle(tmp_path / "file.pth", b"\x80\x02" + call(name, ("echo",)) + b".")
    assert f"got {name}: a module saved whole or other code" in refusal(tmp_path / "file.pth")


@pytest.mark.parametrize("pickled", [b"(S'x'\niposix\nsystem\n.", b"c__builtin__\neval\n(S'x'\no."])
def test_operations_that_only_old_pickles_have_are_refused(pickled: bytes, tmp_path: Path):
    write_pickle(tmp_path / "file.pth", pickled)
    assert "which no data needs" in refusal(tmp_path / "file.pth")


def test_a_module_saved_whole_is_refused_with_what_to_run():
    sentence = refusal(DATA / "module.pth")
    assert "got torch.nn.modules.linear.Linear: a module saved whole" in sentence
    assert "run torch.save(model.state_dict(), 'weights.pth')" in sentence


def test_a_legacy_module_that_carries_its_source_is_refused_with_what_to_run(tmp_path: Path):
    source = (b"c__main__\nNet\n", "net.py", "class Net: ...")
    save_legacy(tmp_path / "file.pth", operations(("module", *source), []) + b"Q")
    assert "got __main__.Net: a module saved whole" in refusal(tmp_path / "file.pth")


@pytest.mark.parametrize("extra", ["archive/code/__torch__.py", "archive/constants.pkl"])
def test_a_torchscript_program_is_refused_with_what_to_run(extra: str, tmp_path: Path):
    save_zip(tmp_path / "file.pt", {})
    with zipfile.ZipFile(tmp_path / "file.pt", "a") as archive:
        archive.writestr(extra, b"")
    sentence = refusal(tmp_path / "file.pt")
    assert "got a TorchScript program (torch.jit.load opens it)" in sentence


def pickled(*operation: bytes) -> bytes:
    return b"\x80\x02" + b"".join(operation) + b"."


FOUR = storage("FloatStorage", "0", 4)


@pytest.mark.parametrize(
    "spoilt",
    [
        tensor(FOUR, 1, (4,), (1,)),
        tensor(FOUR, 0, (5,), (1,)),
        tensor(FOUR, 0, (2, 2), (3, 1)),
        tensor(FOUR, 0, (10**6, 10**6), (0, 0)),
        tensor(FOUR, 2**40, (1,), (1,)),
        tensor(FOUR, 0, (2**61, 2**61), (2**61, 1)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(spoilt: bytes, tmp_path: Path):
    write_pickle(tmp_path / "file.pth", pickled(spoilt), _0=bytes(16))
    assert "a tensor that reaches outside its storage" in refusal(tmp_path / "file.pth")


@pytest.mark.parametrize(
    "spoilt",
    [
        tensor(FOUR, 3, (4,), (-1,)),
        tensor(FOUR, -1, (4,), (1,)),
        tensor(FOUR, 0, (-4,), (1,)),
        tensor(FOUR, 0, (4,), (1, 1)),
        tensor(FOUR, 0, (1.5,), (1,)),
        tensor(FOUR, 0, [4], [1]),
        tensor(FOUR, 0, (1,) * 99, (1,) * 99),
        tensor(FOUR, None, (4,), (1,)),
        tensor(operations("0", []), 0, (4,), (1,)),
        call("torch._utils._rebuild_tensor_v2", (FOUR, 0)),
    ],
)
def test_a_tensor_of_impossible_shape_is_refused(spoilt: bytes, tmp_path: Path):
    write_pickle(tmp_path / "file.pth", pickled(spoilt), _0=bytes(16))
    assert "a damaged one" in refusal(tmp_path / "file.pth")


@pytest.mark.parametrize("content", [b"", bytes(15)])
def test_a_storage_shorter_than_its_tensor_is_refused(content: bytes, tmp_path: Path):
    write_pickle(tmp_path / "file.pth", pickled(tensor(FOUR, 0, (4,), (1,))), _0=content)
    assert f"4 values in {len(content)} bytes" in refusal(tmp_path / "file.pth")


@pytest.mark.parametrize(
    "identity",
    [
        5,
        "0",
        (),
        ("storage",),
        ("storage", "FloatStorage", "0", "cpu", 4),
        ("storage", b"ctorch\nFloatStorage\n", 0, "cpu", 4),
        ("storage", b"ctorch\nFloatStorage\n", "0", "cpu", -4),
        ("storage", b"ctorch\nFloatStorage\n", "0", "cpu", "4"),
        ("storage", b"ctorch\nFloatStorage\n", "0", "cpu", 4, ("0", 0, 4)),
        ("storage", b"ctorch\nQInt8Storage\n", "0", "cpu", 4),
        ("module", "x"),
    ],
)
def test_a_storage_described_in_another_way_is_refused(identity: Any, tmp_path: Path):
    write_pickle(tmp_path / "file.pth", pickled(operations(identity, []), b"Q"), _0=bytes(16))
    assert "a storage that is described in an unknown way" in refusal(tmp_path / "file.pth")


def test_two_descriptions_of_a_storage_are_refused(tmp_path: Path):
    both = operations([FOUR, storage("DoubleStorage", "0", 4)], [])
    write_pickle(tmp_path / "file.pth", pickled(both), _0=bytes(32))
    assert "storage 0 described in two ways" in refusal(tmp_path / "file.pth")


NESTED = b"]" + b"\x85" * 150_000


@pytest.mark.parametrize(
    "bomb",
    [
        pytest.param(b"]" * 2_000_000, id="more operations than any checkpoint"),
        pytest.param(b"X\xff\xff\xff\x7f", id="a text of 2 GB that is not there"),
        pytest.param(b"\x8d" + struct.pack("<Q", 1 << 60), id="a text of an exabyte"),
        pytest.param(b"\x96" + struct.pack("<Q", 1 << 40), id="a bytearray of a terabyte"),
        pytest.param(b"\x8b" + struct.pack("<i", (1 << 31) - 1), id="a number of 2 GB"),
        pytest.param(b"\x8a\xff" + bytes(254) + b"\x7f" + b"\x8a\xff", id="numbers cut short"),
        pytest.param(b"I" + b"9" * 5000 + b"\n", id="a number of 5000 digits"),
        pytest.param(b"(" * 500_000, id="marks"),
        pytest.param(b"t", id="a tuple without a mark"),
        pytest.param(b"R", id="a call of nothing"),
        pytest.param(b"h\x07", id="what was never put into the memo"),
        pytest.param(b"}]]s", id="a list as key"),
        pytest.param(b"}" + NESTED + b"Ns", id="a deep tuple as key"),
        pytest.param(b"}(Nu", id="a key without a value"),
        pytest.param(b"NNa", id="values appended to nothing"),
        pytest.param(b"c" + b"x" * 3_000_000 + b"\ny\n", id="an endless name"),
        pytest.param(b"\x93", id="a global without a name"),
    ],
)
def test_a_pickle_bomb_is_refused_in_little_memory(bomb: bytes, tmp_path: Path):
    write_pickle(tmp_path / "file.pth", b"\x80\x02" + bomb + b".")
    refusal(tmp_path / "file.pth")
    assert peak_bytes(lambda: refusal(tmp_path / "file.pth")) < 50 << 20


@pytest.mark.parametrize(
    "bomb", [b"N\x72\xff\xff\xff\x7f", NESTED, b"]" + b"q\x00" + b"(h\x00h\x00e" * 30]
)
def test_a_pickle_that_only_looks_like_a_bomb_takes_little_memory(bomb: bytes, tmp_path: Path):
    write_pickle(tmp_path / "file.pth", b"\x80\x02" + bomb + b".")
    assert peak_bytes(lambda: torch_file.load(tmp_path / "file.pth")) < 50 << 20


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_refused_in_little_memory(compression: int, tmp_path: Path):
    save_zip(tmp_path / "file.pth", {"a": np.zeros(1 << 22, "f4")}, compression)
    assert (tmp_path / "file.pth").stat().st_size < 100_000
    assert peak_bytes(lambda: refusal(tmp_path / "file.pth")) < 8 << 20
    assert "is compressed, which torch.save never does" in refusal(tmp_path / "file.pth")


def test_an_archive_of_too_many_members_is_refused_in_little_memory(tmp_path: Path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
    whole = buffer.getvalue()
    directory = whole.index(b"PK\x01\x02")
    entry = whole[directory : whole.rindex(b"PK\x05\x06")]
    count = 200_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, count * len(entry), directory, 0)
    (tmp_path / "file.pth").write_bytes(whole[:directory] + entry * count + end)
    assert peak_bytes(lambda: refusal(tmp_path / "file.pth")) < 20 << 20
    assert "too many members in the archive" in refusal(tmp_path / "file.pth")


def test_a_member_that_claims_more_than_the_file_is_refused(tmp_path: Path):
    save_zip(tmp_path / "file.pth", {"a": BASE})
    content = (tmp_path / "file.pth").read_bytes()
    size = struct.pack("<L", BASE.nbytes)
    (tmp_path / "file.pth").write_bytes(
        content.replace(size + size, struct.pack("<2L", *(2**31,) * 2))
    )
    assert "ends before the end of archive/data/0" in refusal(tmp_path / "file.pth")


def test_values_in_big_endian_order_are_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "file.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickled(b"N"))
        archive.writestr("archive/byteorder", b"big")
    assert "big-endian" in refusal(tmp_path / "file.pth")


@pytest.mark.parametrize("content", [b"", b"text", bytes(5000), b"PK\x03\x04" + bytes(5000)])
def test_a_file_of_another_kind_is_not_recognised(content: bytes, tmp_path: Path):
    (tmp_path / "file.pth").write_bytes(content)
    assert not torch_file.recognises(tmp_path / "file.pth")
    assert "expected a file that torch.save wrote" in refusal(tmp_path / "file.pth")
