# SPDX-License-Identifier: MIT
"""Sets of places are opened from a path, and what is wrong with them is told in a sentence."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from netvlad_ros.data.geodesy import headings_rad, local_metres
from netvlad_ros.data.read_places import PlaceOptions, join_places, read_places, read_sequence
from netvlad_ros.errors import DatasetError, ImageError, NetVLADError


def picture(path: Path, grey: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((8, 8, 3), grey, np.uint8))
    return path


def csv_file(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_folder_of_database_and_queries_named_by_utm(tmp_path: Path):
    for number in (2, 10):
        picture(
            tmp_path / "database" / f"@{500000 + number}.5@4500000@17@T@@@{number}@@90@@@@@@.jpg"
        )
    picture(tmp_path / "queries" / "night" / "@0500004.00@4500000.00@.jpg")
    picture(tmp_path / "queries" / "thumbnail.jpg")
    dataset = read_places(tmp_path)
    assert dataset.database.positions_m.tolist() == [[500002.5, 4500000.0], [500010.5, 4500000.0]]
    assert dataset.database.headings_rad is not None
    assert dataset.database.headings_rad.tolist() == [0.0, 0.0]  # 90 degrees from north is east
    assert dataset.queries.positions_m.tolist() == [[500004.0, 4500000.0]]
    assert dataset.queries.headings_rad is None
    assert dataset.queries.read(0).shape == (8, 8, 3)
    assert dataset.notes == (
        f"{tmp_path / 'queries'}: 1 of 2 images have no position in their name.",
    )
    assert dataset.with_radius(3.0).positives(0).tolist() == [0]


def test_one_folder_named_by_utm_is_a_sequence(tmp_path: Path):
    picture(tmp_path / "@1@2@a.png")
    picture(tmp_path / "@3@4@b.png")
    dataset = read_places(tmp_path)
    assert dataset.is_sequence
    assert dataset.database.positions_m.tolist() == [[1, 2], [3, 4]]


def test_folders_named_by_utm_are_found_in_whatever_depth(tmp_path: Path):
    picture(tmp_path / "database" / "000" / "a" / "@1@2@a.png")
    picture(tmp_path / "queries" / "001" / "@3@4@b.png")
    dataset = read_places(tmp_path)
    assert dataset.database.positions_m.tolist() == [[1, 2]]
    assert dataset.queries.positions_m.tolist() == [[3, 4]]
    picture(tmp_path / "drive" / "000" / "@5@6@a.png")
    assert read_sequence(tmp_path / "drive").positions_m.tolist() == [[5, 6]]


def degrees(root: Path, count: int = 12) -> Path:
    """Images 111 m apart on a meridian, with longitude and latitude in their names."""
    for number in range(count):
        picture(root / f"@8.0@{47.0 + number / 1000:.3f}@.png")
    return root


def test_degrees_taken_for_metres_are_asked_about(tmp_path: Path):
    (note,) = read_places(degrees(tmp_path / "drive")).notes
    assert note.startswith(
        "drive: nearly all images (100 %) are positives of every query within 25 m"
    )
    assert "are the positions degrees? Then --positions lat-lon or lon-lat" in note


def test_degrees_become_metres_if_asked_to(tmp_path: Path):
    dataset = read_places(degrees(tmp_path), PlaceOptions(positions="lon-lat"))
    assert dataset.notes == ()
    assert dataset.is_sequence
    np.testing.assert_allclose(dataset.database.positions_m[1], [0.0, 111.17], atol=0.01)
    assert [len(dataset.positives(query)) for query in range(12)] == [0] * 12


def test_queries_in_degrees_have_the_origin_of_their_database(tmp_path: Path):
    lines = ["image,x,y,role", "a.png,47,8,database", "b.png,47.001,8,query"]
    options = PlaceOptions(positions="lat-lon")
    dataset = read_places(csv_file(tmp_path / "p.csv", *lines), options)
    np.testing.assert_allclose(dataset.queries.positions_m, [[0.0, 111.17]], atol=0.01)


def test_queries_from_another_path_in_degrees_have_that_origin_too(tmp_path: Path):
    database = csv_file(tmp_path / "a.csv", "image,x,y", "a.png,8,47")
    queries = csv_file(tmp_path / "b.csv", "image,x,y", "b.png,8,47.001")
    dataset = read_places(database, PlaceOptions(positions="lon-lat"), queries)
    np.testing.assert_allclose(dataset.database.positions_m, [[0.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(dataset.queries.positions_m, [[0.0, 111.17]], atol=0.01)


def test_what_can_not_be_degrees_is_refused(tmp_path: Path):
    path = csv_file(tmp_path / "p.csv", "image,x,y", "a.png,47,120", "b.png,500000,4500000")
    with pytest.raises(DatasetError, match=r"got 47 and 120; is it the other order, or metres"):
        read_places(path, PlaceOptions(positions="lon-lat"))


def test_one_place_in_metres_is_no_question_of_degrees(tmp_path: Path):
    rows = [f"{number}.png,{500000 + number},4500000" for number in range(12)]
    (note,) = read_places(csv_file(tmp_path / "p.csv", "image,x,y", *rows)).notes
    assert note.endswith("so that any answer is right; a smaller radius (--radius) tells more.")


@pytest.mark.parametrize("cell", ["nan", "inf", "", "-Infinity"])
def test_rows_without_a_position_are_left_out_and_counted(tmp_path: Path, cell: str):
    rows = ["image,x,y,role", "a.png,1,2,database", f"b.png,{cell},2,database", "c.png,3,4,query"]
    path = csv_file(tmp_path / "p.csv", *rows)
    dataset = read_places(path)
    assert [*dataset.database.names] == ["a.png"]
    assert dataset.queries.positions_m.tolist() == [[3, 4]]
    assert dataset.notes == (f"{path}: 1 of 3 rows have no position (the first: row 3).",)
    with pytest.raises(DatasetError, match=r"row 4: expected database or query"):
        read_places(csv_file(path, *rows[:3], "c.png,3,4,neither"))


def test_rows_that_all_lack_a_position_are_refused(tmp_path: Path):
    with pytest.raises(DatasetError, match="got only rows where they are empty or NaN"):
        read_places(csv_file(tmp_path / "p.csv", "image,x,y", "a.png,nan,nan"))


def test_a_csv_file_of_poses_with_roles(tmp_path: Path):
    picture(tmp_path / "images" / "a.jpg", 30)
    path = csv_file(
        tmp_path / "poses.csv",
        "Role, image, x_m, y_m, z_m, heading_deg, time_s",
        "database, a.jpg, 1, 2, 0.5, 90, 1.5",
        "query, b.jpg, 3, 2, 0.5, -90, 2e9",
    )
    dataset = read_places(path)
    assert dataset.database.positions_m.tolist() == [[1.0, 2.0, 0.5]]
    assert dataset.queries.headings_rad is not None
    assert dataset.queries.headings_rad.tolist() == [-np.pi / 2]
    assert dataset.database.stamps_ns is not None
    assert dataset.database.stamps_ns.tolist() == [1_500_000_000]
    assert dataset.database.read(0)[0, 0].tolist() == [30, 30, 30]
    assert [*read_places(tmp_path).database.names] == ["a.jpg"]  # the folder will do


def test_latitude_and_longitude_become_metres_east_and_north(tmp_path: Path):
    path = csv_file(
        tmp_path / "drive.csv",
        "image,lat,lon",
        "1.jpg,47.0,8.0",
        "2.jpg,47.001,8.0",
        "3.jpg,47.0,8.001",
    )
    east, north = read_places(path).database.positions_m.T
    # One degree of the meridian is 111.17 km there, one of the parallel 76.06 km.
    np.testing.assert_allclose(east, [0.0, 0.0, 76.06], atol=0.01)
    np.testing.assert_allclose(north, [0.0, 111.17, 0.0], atol=0.01)


def test_up_is_away_from_the_earth():
    metres = local_metres(np.array([-33.0, -33.0]), np.array([151.0, 151.0]), np.array([5.0, 25.0]))
    np.testing.assert_allclose(metres[1], [0.0, 0.0, 20.0], atol=1e-6)


def test_quaternions_give_the_heading_of_the_x_axis():
    half = np.radians(120.0) / 2
    quaternion = np.array([[0.0, 0.0, np.sin(half), np.cos(half)]])
    np.testing.assert_allclose(np.degrees(headings_rad(quaternion)), [120.0])


def test_poses_of_a_recorded_flight_are_read(shared: Path):
    dataset = read_places(shared / "data" / "bags" / "euroc_v101_mono8_db3_body_poses.csv")
    assert dataset.is_sequence
    np.testing.assert_allclose(dataset.database.positions_m[0], [0.878895, 2.1834, 0.948427])
    assert dataset.database.headings_rad is not None
    with pytest.raises(ImageError, match=r"1403715273262142976\.png: its image is not beside"):
        dataset.database.read(0)


def write_kitti(root: Path, count: int = 4) -> Path:
    """Straight on for a metre an image, and turned to the right in the last one."""
    poses = np.tile(np.eye(4)[:3], (count, 1, 1))
    poses[:, 2, 3] = np.arange(count)
    poses[-1, :, :3] = [
        [0, 0, 1],
        [0, 1, 0],
        [-1, 0, 0],
    ]  # z of the camera points to x of the world
    (root / "poses").mkdir(parents=True)
    np.savetxt(root / "poses" / "07.txt", poses.reshape(count, 12))
    for number in range(count - 1):
        picture(root / "sequences" / "07" / "image_2" / f"{number:06d}.png", number)
    np.savetxt(root / "sequences" / "07" / "times.txt", np.arange(count) * 0.1)
    return root


@pytest.mark.parametrize("part", ["poses/07.txt", "sequences/07"])
def test_a_kitti_sequence_from_its_poses_or_its_folder(part: str, tmp_path: Path):
    dataset = read_places(write_kitti(tmp_path) / part)
    assert (dataset.name, dataset.is_sequence) == ("KITTI 07", True)
    assert dataset.notes == ("1 of 4 poses have no image.",)
    assert dataset.database.positions_m.tolist() == [[0, 0, 0], [1, 0, 0], [2, 0, 0]]
    assert dataset.database.stamps_ns is not None
    assert dataset.database.stamps_ns.tolist() == [0, 100_000_000, 200_000_000]
    assert dataset.database.read(2)[0, 0].tolist() == [2, 2, 2]


def test_a_camera_of_kitti_that_turns_right_turns_clockwise(tmp_path: Path):
    path = write_kitti(tmp_path) / "poses" / "07.txt"
    picture(tmp_path / "sequences" / "07" / "image_2" / "000003.png")
    headings = read_places(path).database.headings_rad
    assert headings is not None
    np.testing.assert_allclose(np.degrees(headings), [0, 0, 0, -90], atol=1e-9)


def test_real_kitti_poses_are_read_without_their_images(shared: Path):
    dataset = read_places(shared / "data" / "kitti" / "00.txt")
    assert len(dataset.database) == 4541
    poses = np.loadtxt(shared / "data" / "kitti" / "00.txt")
    assert dataset.database.positions_m[100].tolist() == [
        poses[100, 11],
        -poses[100, 3],
        -poses[100, 7],
    ]
    assert dataset.database.stamps_ns is not None
    assert dataset.database.stamps_ns[1] == 103_735_900
    assert np.linalg.norm(np.diff(dataset.database.positions_m, axis=0), axis=1).sum() > 3700
    with pytest.raises(ImageError, match="say where they are"):
        dataset.database.read(0)


def test_a_broken_image_is_named_when_it_is_read(tmp_path: Path):
    picture(tmp_path / "@1@2@.png")
    (tmp_path / "@3@4@.png").write_text("no image")
    dataset = read_places(tmp_path)
    with pytest.raises(ImageError, match=r"@3@4@\.png: expected an image"):
        dataset.database.read(1)


def test_two_drives_are_joined_to_a_database_and_queries(tmp_path: Path):
    first = csv_file(tmp_path / "1.csv", "image,x,y,z", "a.jpg,0,0,1", "b.jpg,100,0,1")
    second = csv_file(tmp_path / "2.csv", "image,x,y", "c.jpg,99,0")
    both = join_places(read_places(first), read_places(second))
    assert both.positives(0).tolist() == [1]
    assert both.name == "2 in 1"


def test_a_folder_of_images_is_a_sequence_without_positions(shared: Path):
    images = read_sequence(shared / "data" / "rtabmap_samples" / "images")
    assert (len(images), images.has_positions, images.names[:2]) == (84, False, ["1.jpg", "2.jpg"])


def test_a_database_with_queries_is_no_sequence(tmp_path: Path):
    path = csv_file(tmp_path / "x.csv", "image,x,y,role", "a,0,0,database", "b,0,0,query")
    with pytest.raises(DatasetError, match="use `netvlad evaluate`"):
        read_sequence(path)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("a,b,c", "1,2,3"), "expected a first line with the columns image, x_m and y_m"),
        (("image,x,y",), "at least one image"),
        (("image,x,y", "a,1"), "row 2: expected 3 values, as in the first line, got 2"),
        (("image,x,y", "a,1,2", "b,1,north"), "row 3: expected a number as y, got 'north'"),
        (("image,x,y", "a,nan,2"), "expected positions, got only rows where they are empty or NaN"),
        (("image,x,y,role", "a,1,2,train"), "row 2: expected database or query as the role"),
        (("image,x,y,role", "a,1,2,query"), "expected at least one database image, got none"),
        ((), "expected a first line"),
    ],
)
def test_a_wrong_csv_file_is_one_sentence(lines: tuple[str, ...], says: str, tmp_path: Path):
    with pytest.raises(DatasetError, match=says):
        read_places(csv_file(tmp_path / "x.csv", *lines))


def test_what_is_no_set_of_places_is_one_sentence(tmp_path: Path):
    folder = tmp_path / "folder"
    picture(folder / "1.jpg")
    several = tmp_path / "several"
    several.mkdir()
    for name in ("a.mat", "b.mat"):
        scipy.io.savemat(several / name, {"x": 1.0})
    kitti = write_kitti(tmp_path / "kitti")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00image")
    for path, says in (
        (tmp_path / "absent", "there is no such file or folder; expected a .mat file"),
        (folder, "found nothing of these in this folder"),
        (folder / "1.jpg", "got another kind of file"),
        (several, "choose one of a.mat, b.mat"),
        (tmp_path / "binary.csv", "expected a CSV file"),
    ):
        with pytest.raises(NetVLADError, match=says) as error:
            read_places(path)
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)
    times = kitti / "sequences" / "07" / "times.txt"
    times.write_text("0\n1\n")
    with pytest.raises(DatasetError, match=r"times.txt: expected 4 times.*got 2"):
        read_places(kitti / "poses" / "07.txt")
    times.unlink()
    with pytest.raises(DatasetError, match=r"expected images such as 000000\.png"):
        read_places(kitti / "poses" / "07.txt", PlaceOptions(images=several))
    (kitti / "poses" / "07.txt").write_text(f"{' '.join('1' * 12)}\n1 2 x\n")
    with pytest.raises(DatasetError, match="line 2: expected 12 numbers, got '1 2 x'"):
        read_places(kitti / "poses" / "07.txt")
