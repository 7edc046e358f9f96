# SPDX-License-Identifier: MIT
"""cv_bridge is used where it works, and it never makes a difference to the picture."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from netvlad_ros.config import CameraConfig
from netvlad_ros.data.image_messages import ENCODINGS, to_image
from netvlad_ros.errors import ConfigError, ImageError
from netvlad_ros.nodes.image_converter import image_converter

PLAIN = [name for name, pixel in ENCODINGS.items() if pixel.planes == 1]


def message(encoding: str, /, padding: int = 0, big_endian: bool = False, **fields: Any) -> Any:
    """An Image message of 12 x 8 pixels of smooth noise."""
    pixel = ENCODINGS[encoding]
    noise = np.random.default_rng(3).integers(0, 256, (8, 12 * pixel.size), np.uint8)
    step = 12 * pixel.size + padding
    values = {
        "height": 8,
        "width": 12,
        "encoding": encoding,
        "is_bigendian": big_endian,
        "step": step,
    }
    data = np.pad(noise, ((0, 0), (0, padding))).tobytes()
    return SimpleNamespace(**values | {"data": data} | fields)


@pytest.fixture
def fake_cv_bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a cv_bridge of this source text importable, here and in child processes."""

    def make(source: str) -> None:
        (tmp_path / "cv_bridge.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)

    yield make
    sys.modules.pop("cv_bridge", None)


CRASHES = """
import os, signal
class CvBridge:
    def imgmsg_to_cv2(self, message, encoding):
        os.kill(os.getpid(), signal.SIGSEGV)
"""
RAISES = "raise ImportError('numpy.core.multiarray failed to import')"
SWAPS_COLOURS = """
import numpy as np
class CvBridge:
    def imgmsg_to_cv2(self, message, encoding):
        return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)[..., ::-1]
"""


def test_opencv_needs_no_cv_bridge() -> None:
    assert image_converter("opencv") is to_image


@pytest.mark.parametrize("source", [CRASHES, RAISES, "class CvBridge: pass"])
def test_auto_is_opencv_where_cv_bridge_is_broken(fake_cv_bridge: Any, source: str) -> None:
    fake_cv_bridge(source)
    assert image_converter("auto") is to_image


@pytest.mark.parametrize(
    ("source", "says"),
    [(CRASHES, "crashes with the installed numpy"), (RAISES, "failed to import")],
)
def test_a_broken_cv_bridge_that_is_asked_for_is_an_error(
    fake_cv_bridge: Any, source: str, says: str
) -> None:
    fake_cv_bridge(source)
    with pytest.raises(ConfigError, match=f"{says}.*set camera.converter to opencv"):
        image_converter("cv_bridge")


@pytest.mark.parametrize("name", ["auto", "cv_bridge"])
def test_a_cv_bridge_that_works_is_used(fake_cv_bridge: Any, name: str) -> None:
    fake_cv_bridge(SWAPS_COLOURS)
    convert = image_converter(name)
    assert convert is not to_image
    assert np.array_equal(convert(message("bgr8")), to_image(message("bgr8")))


def test_what_cv_bridge_gets_wrong_is_left_to_opencv(fake_cv_bridge: Any) -> None:
    """Its rows are whole pixels, its swap of bytes needs numpy 1, and it does not know the rest."""
    fake_cv_bridge(SWAPS_COLOURS)
    convert = image_converter("cv_bridge")
    for one in (message("rgb8", padding=1), message("bgr8", big_endian=True), message("8UC1")):
        assert np.array_equal(convert(one), to_image(one))


def test_the_range_in_use_of_sixteen_bits_is_not_left_to_cv_bridge(fake_cv_bridge: Any) -> None:
    """It takes all of them to be in use."""
    fake_cv_bridge(SWAPS_COLOURS)
    counts = (np.arange(96, dtype="<u2") * 10).tobytes()
    image = image_converter("cv_bridge")(message("mono16", data=counts))
    assert (image.min(), image.max()) == (0, 255)


@pytest.mark.parametrize(
    "fields", [{"width": 0}, {"step": 3}, {"data": b""}, {"encoding": "rgb"}, {"encoding": "32FC1"}]
)
def test_the_errors_are_the_same_with_cv_bridge(fake_cv_bridge: Any, fields: Any) -> None:
    fake_cv_bridge(SWAPS_COLOURS)
    with pytest.raises(ImageError) as expected:
        to_image(message("bgr8", **fields))
    with pytest.raises(ImageError) as received:
        image_converter("cv_bridge")(message("bgr8", **fields))
    assert str(received.value) == str(expected.value)


@pytest.mark.parametrize("padding", [0, 1, 48])
@pytest.mark.parametrize("big_endian", [False, True])
def test_the_real_cv_bridge_gives_the_same_pixels(padding: int, big_endian: bool) -> None:
    convert = image_converter("auto")
    if convert is to_image:
        pytest.skip("needs a cv_bridge that works")
    camera = CameraConfig(depth_is_picture=True)
    for encoding in PLAIN:
        one = message(encoding, padding, big_endian)
        assert np.array_equal(convert(one, camera), to_image(one, camera)), encoding


@pytest.mark.parametrize(
    "encoding", [name for name in PLAIN if not name[0].isdigit() and not name.endswith("16")]
)
def test_rosbags_image_gives_the_same_pixels(encoding: str) -> None:
    """Where there is no cv_bridge: an implementation that is not ours. It rounds 16 bits down."""
    message_to_cvimage = pytest.importorskip("rosbags.image").message_to_cvimage
    one = message(encoding)
    target = "mono8" if encoding == "mono8" else "rgb8"
    assert np.array_equal(message_to_cvimage(one, target), to_image(one))
