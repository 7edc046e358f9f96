# SPDX-License-Identifier: MIT
"""Specifications of Pittsburgh and Tokyo are read as the NetVLAD authors and pytorch-NetVlad read them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from netvlad_ros.data.dbstruct import read_dbstruct
from netvlad_ros.errors import DatasetError

RNG = np.random.default_rng(0)
NAMES = [f"000/000{i:03d}_pitch1_yaw1.jpg" for i in range(6)]
QUERY_NAMES = ["000/q0.jpg", "000/q1.jpg", "001/query_of_a_longer_name.jpg"]
UTM = 5e5 + RNG.uniform(0, 100, (2, 6))
UTM_Q = 5e5 + RNG.uniform(0, 100, (2, 3))


def cell(values: list[Any]) -> np.ndarray:
    """A row of cells, as savemat takes it."""
    cells = np.empty((1, len(values)), object)
    cells[0, :] = values
    return cells


def pittsburgh() -> dict[str, Any]:
    """The fields in their order, as Matlab saves them."""
    return {
        "whichSet": "val",
        "dbImageFns": cell([*NAMES]).reshape(-1, 1),
        "utmDb": UTM,
        "qImageFns": cell([*QUERY_NAMES]).reshape(-1, 1),
        "utmQ": UTM_Q,
        "numImages": 6.0,
        "numQueries": 3.0,
        "posDistThr": 25.0,
        "posDistSqThr": 625.0,
        "nonTrivPosDistSqThr": 100.0,
    }


def tokyo() -> dict[str, Any]:
    """With the two fields that shift the others."""
    fields = {}
    for name, value in pittsburgh().items():
        fields[name] = value
        if name == "utmDb":
            fields["dbTimeStamp"] = np.array([[200907, 201301, 201512, 200907, 200907, 201301]])
        if name == "utmQ":
            fields["qTimeStamp"] = np.array([[200907, 201301, 196912]])
    return fields


def write(path: Path, fields: dict[str, Any], compressed: bool = False) -> Path:
    scipy.io.savemat(path, {"dbStruct": fields}, do_compression=compressed)
    return path


def as_pytorch_netvlad_reads(path: Path, shift: bool) -> tuple[list[str], np.ndarray, list[str]]:
    """By position, as its two files do."""
    struct = scipy.io.loadmat(path)["dbStruct"].item()
    names = [each[0].item() for each in struct[1]]
    queries = [each[0].item() for each in struct[4 if shift else 3]]
    return names, struct[2].T, queries


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("shift", [False, True])
def test_both_kinds_are_read_as_pytorch_netvlad_reads_them(
    shift: bool, compressed: bool, tmp_path: Path
):
    path = write(tmp_path / "pitts30k_val.mat", tokyo() if shift else pittsburgh(), compressed)
    dataset = read_dbstruct(path)
    names, utm, queries = as_pytorch_netvlad_reads(path, shift)
    assert list(dataset.database.names) == names == NAMES
    assert list(dataset.queries.names) == queries == QUERY_NAMES
    np.testing.assert_array_equal(dataset.database.positions_m, utm)
    np.testing.assert_array_equal(dataset.queries.positions_m, UTM_Q.T)
    assert (dataset.name, dataset.positive_radius_m, dataset.nontrivial_radius_m) == (
        "pitts30k_val",
        25.0,
        10.0,
    )
    assert dataset.notes == ()


def test_months_of_tokyo_become_stamps_and_keep_the_same_panorama_out_of_training(tmp_path: Path):
    dataset = read_dbstruct(write(tmp_path / "tokyoTM_train.mat", tokyo()))
    assert dataset.database.stamps_ns is not None
    july = np.datetime64("2009-07-01", "ns").astype(np.int64)
    assert dataset.database.stamps_ns[0] == july
    assert dataset.other_time_only
    assert dataset.trivial_radius_m == 1.0
    for query in range(3):
        for index in dataset.nontrivial_positives(query):
            assert tokyo()["dbTimeStamp"][0, index] != tokyo()["qTimeStamp"][0, query]


def squeezed(**changed: Any) -> dict[str, Any]:
    return pittsburgh() | changed


@pytest.mark.parametrize(
    "fields",
    [
        squeezed(dbImageFns=cell([*NAMES])),
        squeezed(dbImageFns=np.array(NAMES)),
        squeezed(dbImageFns=cell([cell([name]) for name in NAMES])),
        squeezed(utmDb=UTM.T),
        squeezed(whichSet="", numImages=6, numQueries=3),
    ],
)
def test_what_was_squeezed_or_transposed_since_matlab_wrote_it_is_read(
    fields: dict[str, Any], tmp_path: Path
):
    dataset = read_dbstruct(write(tmp_path / "x.mat", fields))
    assert list(dataset.database.names) == NAMES
    np.testing.assert_array_equal(dataset.database.positions_m, UTM.T)


def test_a_file_of_fields_without_a_struct_and_one_query_are_read(tmp_path: Path):
    fields = squeezed(qImageFns="q.jpg", utmQ=np.array([[1.0, 2.0]]))
    scipy.io.savemat(tmp_path / "x.mat", fields)
    dataset = read_dbstruct(tmp_path / "x.mat")
    assert list(dataset.queries.names) == ["q.jpg"]
    assert dataset.queries.positions_m.tolist() == [[1.0, 2.0]]


@pytest.mark.slow
def test_as_many_names_as_pittsburgh_250k_are_read(tmp_path: Path):
    count = 91_464
    fields = squeezed(
        dbImageFns=cell([f"{i // 1000:03d}/{i:06d}_pitch1_yaw1.jpg" for i in range(count)]),
        utmDb=RNG.uniform(0, 1e4, (2, count)),
    )
    fields["qImageFns"] = cell([f"q{i}.jpg" for i in range(7_824)])
    fields["utmQ"] = RNG.uniform(0, 1e4, (2, 7_824))
    dataset = read_dbstruct(write(tmp_path / "pitts250k_train.mat", fields, compressed=True))
    assert (len(dataset.database), len(dataset.queries)) == (91_464, 7_824)
    assert dataset.database.names[-1] == "091/091463_pitch1_yaw1.jpg"


@pytest.mark.parametrize(
    ("specification", "database", "queries"),
    [
        ("datasets", "", "queries_real"),  # pytorch-NetVlad, Open Model Zoo
        ("", "images", "queries"),  # Relja/netvlad, Pittsburgh
        ("specs", "images", "query"),  # Tokyo 24/7
    ],
)
def test_images_are_found_where_the_authors_keep_them(
    specification: str, database: str, queries: str, tmp_path: Path
):
    for folder, name in ((database, NAMES[1]), (queries, QUERY_NAMES[0])):
        file = tmp_path / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    (tmp_path / specification).mkdir(exist_ok=True)
    dataset = read_dbstruct(write(tmp_path / specification / "x.mat", pittsburgh()))
    assert dataset.database.images.file(1).resolve() == (tmp_path / database / NAMES[1]).resolve()
    assert (
        dataset.queries.images.file(0).resolve() == (tmp_path / queries / QUERY_NAMES[0]).resolve()
    )


def test_images_that_were_distributed_as_png_are_found(tmp_path: Path):
    file = (tmp_path / "images" / NAMES[0]).with_suffix(".png")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert read_dbstruct(write(tmp_path / "x.mat", pittsburgh())).database.images.file(0) == file


def test_folders_can_be_given_and_missing_ones_are_told_when_an_image_is_read(tmp_path: Path):
    (tmp_path / "elsewhere" / "000").mkdir(parents=True)
    (tmp_path / "elsewhere" / NAMES[0]).write_bytes(b"")
    path = write(tmp_path / "x.mat", pittsburgh())
    dataset = read_dbstruct(path, database_root=tmp_path / "elsewhere")
    assert dataset.database.images.file(0) == tmp_path / "elsewhere" / NAMES[0]
    with pytest.raises(Exception, match="say where the images are") as error:
        dataset.queries.read(0)
    assert QUERY_NAMES[0] in str(error.value)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"utmDb": UTM}, "expected a struct dbStruct with"),
        (squeezed(dbImageFns=np.arange(6.0)), "expected dbImageFns to be a cell array of file"),
        (squeezed(dbImageFns=cell([*NAMES[:5], 3.0])), "got ndarray as number 6"),
        (squeezed(utmDb=UTM[:, :5]), r"expected utmDb of shape \(2, 6\)"),
        (squeezed(utmQ=np.full((2, 3), np.nan)), "finite"),
        (squeezed(utmQ="somewhere"), "got str"),
    ],
)
def test_what_is_no_specification_is_one_sentence(
    fields: dict[str, Any], says: str, tmp_path: Path
):
    with pytest.raises(DatasetError, match=says) as error:
        read_dbstruct(write(tmp_path / "x.mat", fields))
    assert str(error.value).startswith(str(tmp_path / "x.mat"))


def test_a_file_cut_short_is_one_sentence(tmp_path: Path):
    path = write(tmp_path / "x.mat", pittsburgh())
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DatasetError, match="can't be read"):
        read_dbstruct(path)


def test_missing_radii_are_said_to_be_assumed(tmp_path: Path):
    fields = pittsburgh()
    del fields["posDistThr"], fields["nonTrivPosDistSqThr"]
    dataset = read_dbstruct(write(tmp_path / "x.mat", fields))
    assert (dataset.positive_radius_m, dataset.nontrivial_radius_m) == (25.0, 10.0)
    assert len(dataset.notes) == 2
