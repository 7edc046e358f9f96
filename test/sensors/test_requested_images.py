# SPDX-License-Identifier: MIT
"""Images and a back-end's requests find each other, whichever comes first; what finds none is told."""

import pytest

from netvlad_ros.sensors import requested_images
from netvlad_ros.sensors.requested_images import RequestedImages

SECOND = 1_000_000_000


def waiting(*stamps_s: float) -> RequestedImages[str]:
    images: RequestedImages[str] = RequestedImages(2 * SECOND, 5_000_000)
    for stamp_s in stamps_s:
        assert images.add_image(int(stamp_s * SECOND), f"image {stamp_s}", 10) is None
    return images


def test_an_image_that_waits_is_found_by_its_stamp():
    images = waiting(1.0, 1.5, 2.0)
    assert images.add_request(int(1.503 * SECOND), 7) == ("image 1.5", 7)
    assert images.add_request(int(1.5 * SECOND), 8) is None  # it is taken


def test_a_request_waits_for_its_image():
    images = waiting(1.0)
    assert images.add_request(2 * SECOND, 7) is None
    assert images.add_image(2 * SECOND, "late", 10) == ("late", 7)


def test_a_request_between_images_is_of_none_and_told_once():
    images = waiting(1.0, 1.1)
    assert images.add_request(int(1.05 * SECOND), 7) is None
    assert images.missed() == []
    images.add_image(3 * SECOND, "next", 10)
    assert images.missed() == [int(1.05 * SECOND)]
    assert images.missed() == []


def test_images_wait_for_as_long_as_configured_and_as_there_is_memory(
    monkeypatch: pytest.MonkeyPatch,
):
    images = waiting(1.0, 2.0, 3.5)
    assert images.add_request(1 * SECOND, 7) is None
    assert images.add_request(2 * SECOND, 8) == ("image 2.0", 8)
    monkeypatch.setattr(requested_images, "MAX_BYTES", 25)
    images = waiting(1.0, 1.1, 1.2)
    assert images.add_request(1 * SECOND, 7) is None
    assert images.add_request(int(1.1 * SECOND), 7) == ("image 1.1", 7)


def test_one_image_larger_than_all_memory_does_not_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(requested_images, "MAX_BYTES", 5)
    assert waiting(1.0, 2.0).add_request(2 * SECOND, 7) is None


def test_a_recording_that_begins_anew_forgets_what_waited():
    images = waiting(100.0)
    images.add_request(101 * SECOND, 7)
    images.add_image(SECOND, "first", 10)
    assert images.missed() == []
    assert images.add_request(100 * SECOND, 8) is None
