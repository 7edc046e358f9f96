# SPDX-License-Identifier: MIT
"""A camera, a descriptor node in a process of its own, and what comes back from it."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image

from netvlad_ros.errors import NetVLADError
from netvlad_ros.msg import GlobalDescriptor
from netvlad_ros.nodes.stamps import to_ns
from netvlad_ros.nodes.transport import use_large_message_transport

START_UP_S = 60.0  # TensorFlow on a slow disk


@dataclass
class Camera:
    """Publishes one picture again and again, and notes how old each image is when its descriptor arrives."""

    node: Node
    process: subprocess.Popen[bytes]
    log: Path
    message: Any
    ages_ms: list[float] = field(default_factory=list)
    diagnostics: dict[str, str] = field(default_factory=dict)
    published: int = 0

    def __post_init__(self) -> None:
        self.publisher = self.node.create_publisher(
            type(self.message), "image", qos_profile_sensor_data
        )
        self.node.create_subscription(GlobalDescriptor, "global_descriptor", self._descriptor, 100)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, 10)

    def wait_until_ready(self) -> None:
        """Until the node is there and has answered the first image. Raises NetVLADError if it does not."""
        end = time.monotonic() + START_UP_S
        while not self.ages_ms:
            self._refuse_dead(end)
            if self.publisher.get_subscription_count():
                self.shoot(1, 2.0)
            else:
                self._spin(0.1)
        self.ages_ms.clear()

    def shoot(self, images: int, rate_hz: float) -> None:
        """Publishes so many images at this rate."""
        due = time.perf_counter()
        for _ in range(images):
            self.message.header.stamp = self.node.get_clock().now().to_msg()
            self.publisher.publish(self.message)
            self.published += 1
            due += 1.0 / rate_hz
            self._spin(due - time.perf_counter())

    def settle(self, seconds: float) -> None:
        """Receives what is still under way."""
        self._spin(seconds)

    def memory_mb(self) -> float:
        """Resident memory of the node's process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def _refuse_dead(self, end: float) -> None:
        code = self.process.poll()
        if code is None and time.monotonic() < end:
            return
        state = f"does not answer after {START_UP_S:g} s" if code is None else f"ended with {code}"
        wrote = self.log.read_text(errors="replace").strip() or "nothing"
        raise NetVLADError(f"descriptor_node {state}; it wrote:\n{wrote}")

    def _spin(self, seconds: float) -> None:
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            rclpy.spin_once(self.node, timeout_sec=left)

    def _descriptor(self, message: GlobalDescriptor) -> None:
        self.ages_ms.append(
            (self.node.get_clock().now().nanoseconds - to_ns(message.header.stamp)) / 1e6
        )

    def _diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics |= {each.key: each.value for each in status.values}


@contextlib.contextmanager
def camera(model: Path, message: Any) -> Iterator[Camera]:
    """A camera that sends this message to a descriptor node with this model."""
    # Other ROS programs, on this machine and on the network, neither disturb nor are disturbed.
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    use_large_message_transport()
    compressed = str(isinstance(message, CompressedImage)).lower()
    parameters = [f"extractor.model:={model}", f"camera.compressed:={compressed}"]
    options = [word for parameter in parameters for word in ("-p", parameter)]
    command = [sys.executable, "-m", "netvlad_ros.nodes.descriptor_node", "--ros-args", *options]
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        rclpy.init(args=[])
        node = rclpy.create_node("benchmark_camera")
        try:
            yield Camera(node, process, Path(log.name), message)
        finally:
            process.terminate()
            process.wait(10)
            node.destroy_node()
            rclpy.try_shutdown()


def picture() -> np.ndarray:
    """A 640x480 RGB picture with something to see, and with the sharpness of a photograph."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)


def raw_message(image: np.ndarray) -> Image:
    """sensor_msgs/Image, rgb8."""
    data = array("B", image.tobytes())
    return Image(
        height=image.shape[0],
        width=image.shape[1],
        encoding="rgb8",
        step=3 * image.shape[1],
        data=data,
    )


def jpeg_message(image: np.ndarray) -> CompressedImage:
    """sensor_msgs/CompressedImage, JPEG."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
    return CompressedImage(format="jpeg", data=array("B", encoded.tobytes()))
