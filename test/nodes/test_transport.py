# SPDX-License-Identifier: MIT
"""Large images get from a camera's process to ours, and if they do not, somebody says so."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from live_nodes import NodeProcess, Start

from netvlad_ros.nodes.transport import large_message_transport

pytestmark = pytest.mark.needs("rclpy")

PROFILE, PROFILE_FILE = large_message_transport()
WITHOUT_PROFILE: Mapping[str, str | None] = {PROFILE: None}
IMAGES = 90

# Publishes 1280 x 720 rgb8 images at 30 Hz for three seconds, once it has a subscriber.
CAMERA = f"""
import sys, time
import numpy as np
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

rclpy.init()
node = rclpy.create_node("hd_camera")
publisher = node.create_publisher(Image, sys.argv[1], qos_profile_sensor_data)
pixels = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)
image = Image(height=720, width=1280, encoding="rgb8", step=3840, data=pixels.tobytes())
image.header.stamp.sec = 1
while not publisher.get_subscription_count():
    time.sleep(0.02)
time.sleep(0.5)
start_s = time.monotonic()
for number in range({IMAGES}):
    time.sleep(max(0.0, start_s + number / 30 - time.monotonic()))
    publisher.publish(image)
time.sleep(1.0)
"""


def environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    merged: dict[str, str | None] = {**os.environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


@pytest.fixture
def film() -> Iterator[Callable[..., None]]:
    """Lets a camera process with these variables publish all its images to a node."""
    running: list[subprocess.Popen[bytes]] = []

    def film(node: NodeProcess, variables: Mapping[str, str | None]) -> None:
        command = [sys.executable, "-c", CAMERA, node.topic("image")]
        running.append(subprocess.Popen(command, env=environment(variables)))
        node.until(lambda: running[-1].poll() is not None)
        assert running[-1].returncode == 0

    yield film
    for one in running:
        one.kill()
        one.wait()


def test_hd_images_at_30_hz_arrive_when_both_sides_have_the_profile(
    start: Start, model: Path, film: Callable[..., None]
) -> None:
    """The node finds the profile by itself. A busy machine loses some; without it, nine of ten are lost."""
    node = start("descriptor_node", {"extractor.model": str(model)}, environment=WITHOUT_PROFILE)
    node.until_ready()
    film(node, {PROFILE: PROFILE_FILE})
    node.until(lambda: node.count("received") >= IMAGES / 2)
    assert node.count("received") + node.count("lost") <= IMAGES


def test_a_camera_without_the_profile_loses_images_which_are_counted_and_explained(
    start: Start, model: Path, film: Callable[..., None]
) -> None:
    node = start("descriptor_node", {"extractor.model": str(model), "diagnostics.silence_s": 1.0})
    node.until_ready()
    explained = False

    def is_explained() -> bool:
        nonlocal explained
        explained = explained or node.says("lost", f"{PROFILE}={PROFILE_FILE}")
        return explained

    film(node, WITHOUT_PROFILE)
    node.until(is_explained)


def variable_in_our_processes(variables: Mapping[str, str | None]) -> str:
    program = (
        "import os; from netvlad_ros.nodes import transport; transport.use_large_message_transport(); "
        f"print(os.environ.get({PROFILE!r}, 'unset'))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment({**WITHOUT_PROFILE, **variables}),
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


def test_our_processes_take_our_profile() -> None:
    assert variable_in_our_processes({}) == PROFILE_FILE
    assert Path(PROFILE_FILE).is_file()


@pytest.mark.parametrize(
    ("variable", "then"),
    [
        (PROFILE, "/mine"),
        ("FASTRTPS_DEFAULT_PROFILES_FILE", "unset"),
        ("FASTDDS_BUILTIN_TRANSPORTS", "unset"),
    ],
)
def test_a_transport_that_the_user_chose_is_left_alone(variable: str, then: str) -> None:
    assert variable_in_our_processes({variable: "/mine"}) == then
