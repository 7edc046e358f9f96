# SPDX-License-Identifier: MIT
"""Images in, descriptors out: every kind of image, bad ones too, and more of them than can be worked on."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from live_nodes import (
    RELIABLE,
    Camera,
    NodeProcess,
    Ros,
    Start,
    compressed_image,
    picture,
    raw_image,
    stamp_ns,
)
from sensor_msgs.msg import CompressedImage, Image

from netvlad_ros.data.image_messages import to_image
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.msg import GlobalDescriptor

pytestmark = pytest.mark.needs("rclpy")

GREY = cv2.cvtColor(picture(), cv2.COLOR_RGB2GRAY)
LAST_ROW_CUT = raw_image(picture()).data[:-1]
WHOLE = bytes(compressed_image(picture()).data)
WITH_A_HOLE = WHOLE[: len(WHOLE) // 2] + b"\xff" * 50 + WHOLE[len(WHOLE) // 2 + 50 :]
NAN = np.full((48, 64), np.nan, np.float32)


@pytest.fixture(scope="module")
def extractor(model: Path) -> NetVLADExtractor:
    return NetVLADExtractor(model)


@pytest.fixture(scope="module")
def nodes(start_shared: Start, model: Path) -> list[NodeProcess]:
    """One for raw and one for compressed images; both start at the same time."""
    parameters = {"extractor.model": str(model), "camera.robot": "spot"}
    nodes = [
        start_shared("descriptor_node", parameters | {"camera.compressed": compressed})
        for compressed in (False, True)
    ]
    for node in nodes:
        node.until_ready()
    return nodes


@pytest.fixture(scope="module")
def node(nodes: list[NodeProcess]) -> NodeProcess:
    return nodes[0]


@pytest.fixture(scope="module")
def descriptors(ros: Ros, node: NodeProcess) -> list[Any]:
    return ros.listen(GlobalDescriptor, node.topic("global_descriptor"))


@pytest.fixture(scope="module")
def camera(node: NodeProcess) -> Camera:
    return Camera(node)


@pytest.fixture(scope="module")
def compressed_node(nodes: list[NodeProcess]) -> NodeProcess:
    return nodes[1]


@pytest.fixture(scope="module")
def compressed_descriptors(ros: Ros, compressed_node: NodeProcess) -> list[Any]:
    return ros.listen(GlobalDescriptor, compressed_node.topic("global_descriptor"))


@pytest.fixture(scope="module")
def compressed_camera(compressed_node: NodeProcess) -> Camera:
    return Camera(compressed_node)


def padded(rgb: np.ndarray) -> Image:
    rows = np.pad(rgb.reshape(len(rgb), -1), ((0, 0), (0, 8)), constant_values=99)
    return raw_image(rgb, step=rows.shape[1], data=rows.tobytes())


def test_a_descriptor_says_when_where_by_whom_and_by_which_model_it_was_seen(
    camera: Camera, descriptors: list[Any], extractor: NetVLADExtractor
) -> None:
    message = camera.send_until_described(raw_image(picture()), descriptors)
    assert message.header.frame_id == "front_camera"
    assert message.robot == "spot"
    assert message.fingerprint == extractor.fingerprint
    assert len(message.descriptor) == extractor.dims
    assert np.linalg.norm(message.descriptor) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(raw_image(picture(1)), id="rgb8"),
        pytest.param(raw_image(picture(2)[:, :, ::-1], "bgr8"), id="bgr8"),
        pytest.param(raw_image(GREY, "mono8"), id="mono8"),
        pytest.param(raw_image(GREY.astype(np.uint16) * 257, "mono16"), id="mono16"),
        pytest.param(
            raw_image(GREY.astype(">u2") * 257, "mono16", is_bigendian=1), id="big endian"
        ),
        pytest.param(raw_image(GREY, "bayer_rggb8"), id="bayer"),
        pytest.param(raw_image(picture(3)[:, :, :2], "yuv422"), id="yuv422"),
        pytest.param(padded(picture(4)), id="padded rows"),
    ],
)
def test_every_kind_of_image_gives_the_descriptor_that_the_library_gives(
    message: Image, camera: Camera, descriptors: list[Any], extractor: NetVLADExtractor
) -> None:
    described = camera.send_until_described(message, descriptors)
    expected = extractor.extract(to_image(message))
    assert np.allclose(described.descriptor, expected, atol=1e-5)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_compressed_images_are_described_where_the_parameter_says_so(
    extension: str,
    compressed_camera: Camera,
    compressed_descriptors: list[Any],
    extractor: NetVLADExtractor,
) -> None:
    message = compressed_image(picture(5), extension)
    described = compressed_camera.send_until_described(message, compressed_descriptors)
    assert np.allclose(described.descriptor, extractor.extract(to_image(message)), atol=1e-5)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (raw_image(picture(), data=LAST_ROW_CUT), "cuts it off"),
        (raw_image(picture(), step=100), "step is 100 bytes"),
        (Image(encoding="rgb8"), "at least one pixel"),
        (raw_image(picture()[:2, :2]), "at least 32 pixels"),
        (raw_image(picture(), "rgb88"), "did you mean rgb8"),
        (raw_image(np.zeros_like(picture())), "lens covered"),
        (raw_image(NAN, "32FC1"), "measurements such as depth"),
        (raw_image(GREY.astype(np.uint16), "16UC1"), "set camera.depth_is_picture"),
        (raw_image(np.full_like(GREY, 9, np.uint16), "mono16"), "16-bit values from 9 to 9"),
    ],
    ids=[
        *("truncated", "wrong step", "no pixels", "2x2", "unknown encoding", "black", "depth, NaN"),
        *("depth", "black of 16 bits"),
    ],
)
def test_a_bad_image_is_refused_with_its_reason_and_the_next_good_one_described(
    message: Image,
    words: str,
    node: NodeProcess,
    camera: Camera,
    descriptors: list[Any],
) -> None:
    def refused() -> bool:
        return node.says(words) and any(words in line for line in node.lines("ERROR"))

    node.until(refused, lambda: camera.send(message))
    assert node.status().level == 2
    camera.send_until_described(raw_image(picture()), descriptors)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes(compressed_image(picture()).data)[:-200], "cut off"),
        (b"\xff\xd8\xff" + bytes(300) + b"\xff\xd9", "got a damaged one"),
        (WITH_A_HOLE, "Corrupt JPEG data"),
        (b"", "is empty"),
    ],
    ids=["cut off", "corrupt", "with a hole", "empty"],
)
def test_a_bad_jpeg_is_refused_with_its_reason_and_the_next_good_one_described(
    data: bytes,
    words: str,
    compressed_node: NodeProcess,
    compressed_camera: Camera,
    compressed_descriptors: list[Any],
) -> None:
    def refused() -> bool:
        in_log = any(words in line for line in compressed_node.lines("ERROR"))
        return in_log and compressed_node.says(words)

    message = CompressedImage(format="jpeg", data=data)
    compressed_node.until(refused, lambda: compressed_camera.send(message))
    compressed_camera.send_until_described(compressed_image(picture()), compressed_descriptors)


def test_a_camera_that_is_always_wrong_does_not_flood_the_log(
    node: NodeProcess, camera: Camera
) -> None:
    lines, refused = len(node.lines("ERROR")), node.count("refused")
    bad = [raw_image(picture(), f"colour{number}") for number in range(100)]
    node.until(
        lambda: node.count("refused") > refused + 60, lambda: camera.send(bad.pop()), every_s=1 / 30
    )
    assert len(node.lines("ERROR")) - lines < 20


def test_a_problem_is_forgotten_a_while_after_it_was_solved(
    node: NodeProcess, camera: Camera, descriptors: list[Any]
) -> None:
    node.until(lambda: node.says("not supported"), lambda: camera.send(raw_image(GREY, "grey")))
    good = raw_image(picture())
    node.until(lambda: node.status().level == 0, lambda: camera.send(good))
    assert node.status().message == "working"


def test_images_without_a_stamp_get_the_time_of_their_arrival(
    node: NodeProcess, camera: Camera, descriptors: list[Any], ros: Ros
) -> None:
    now_ns = ros.node.get_clock().now().nanoseconds
    publisher = ros.publisher(Image, camera.topic)
    node.until(
        lambda: any(stamp_ns(each.header) >= now_ns for each in descriptors),
        lambda: publisher.publish(raw_image(picture())),
    )
    node.until(lambda: node.says("no stamp"))


def test_when_images_come_too_fast_the_newest_wins_and_every_other_is_counted(
    start: Start, model: Path, ros: Ros
) -> None:
    topic = "qos_overrides./robot_5/image.subscription"
    node = start(
        "descriptor_node",
        {
            "extractor.model": str(model),
            f"{topic}.reliability": "reliable",
            f"{topic}.depth": 1000,
        },
        namespace="/robot_5",
    )
    node.until_ready()
    descriptors = ros.listen(GlobalDescriptor, node.topic("global_descriptor"))
    camera = Camera(node, qos=RELIABLE)
    camera.send_until_described(raw_image(picture()), descriptors)
    number = 300
    for _ in range(number):
        camera.send(raw_image(picture()))
    node.until(lambda: stamp_ns(descriptors[-1].header) == camera.stamp_ns)
    node.until(lambda: node.count("received") > number)

    def all_are_counted() -> bool:
        counts = [node.count(name) for name in ("published", "dropped", "refused")]
        return node.count("received") == sum(counts)

    node.until(all_are_counted)
    assert node.count("published") == len(descriptors)
    assert node.count("dropped") > 0
    stamps = [stamp_ns(each.header) for each in descriptors]
    assert stamps == sorted(stamps)


def test_without_a_name_the_model_of_the_package_runs(start: Start) -> None:
    node = start("descriptor_node")
    node.until_ready()
    digest = NetVLADExtractor().fingerprint
    assert any(f"with model {digest} in " in line for line in node.lines("INFO"))
    assert node.status().values["runtime"] in node.output


@pytest.mark.needs("ai_edge_litert")
def test_the_model_of_the_package_runs_in_litert_and_the_node_says_why(start: Start) -> None:
    node = start("descriptor_node", environment={"CUDA_VISIBLE_DEVICES": ""})
    node.until_ready()
    assert node.status().values["runtime"] == "litert, as no GPU is to be used"
    libraries = Path(f"/proc/{node.pid}/maps").read_text()
    assert "libtensorflow" not in libraries
    assert "faiss" not in libraries


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such model file"), (b"no model", "import-weights")],
    ids=["missing", "foreign"],
)
def test_without_a_usable_model_the_node_ends_with_one_sentence(
    content: bytes | None, words: str, start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "model.keras"
    if content is not None:
        path.write_bytes(content)
    node = start("descriptor_node", {"extractor.model": str(path)})
    assert node.exit_code() == 1
    assert len(node.lines("FATAL")) == 1
    assert words in node.lines("FATAL")[0]
    assert str(path) in node.lines("FATAL")[0]
    assert "Traceback" not in node.output
