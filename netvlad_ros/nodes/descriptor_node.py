# SPDX-License-Identifier: MIT
"""The node that turns camera images into global descriptors."""

import threading
import time
from collections.abc import Sequence

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from netvlad_ros.config import Config
from netvlad_ros.errors import MessageError, NetVLADError
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.keyframe import Stream
from netvlad_ros.msg import GlobalDescriptor
from netvlad_ros.nodes.conversions import calibration_messages, descriptor_message
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.image_converter import image_converter
from netvlad_ros.nodes.mailbox import Mailbox
from netvlad_ros.nodes.parameters import NodeParameters
from netvlad_ros.nodes.process import run
from netvlad_ros.nodes.stamps import to_ns
from netvlad_ros.nodes.subscriptions import subscribe

# An image takes less; a runtime that takes longer hangs.
EXTRACT_S = 10.0


class DescriptorNode(Node):
    """image -> global_descriptor.

    The executor's thread only receives; a second one converts, extracts and publishes, so that a network
    slower than the camera drops old images, counted, and services and diagnostics answer meanwhile.
    """

    def __init__(self) -> None:
        super().__init__("descriptor_node")
        parameters = NodeParameters(
            self, ("camera", "extractor", "sensors", "verification", "diagnostics"), self._configure
        )
        config = parameters.config
        self._camera = config.camera
        self._message_type = CompressedImage if config.camera.compressed else Image
        self._to_image = image_converter(config.camera.converter)
        self._extractor = _load(config)
        self._calibration = calibration_messages(self._extractor.calibration)
        self._mailbox: Mailbox[tuple[bytes, Time, float]] = Mailbox()
        counts = ("received", "lost", "published", "dropped", "refused")
        self._health = Health(self, config.diagnostics, counts, self._gauges)
        self._publisher = self.create_publisher(GlobalDescriptor, "global_descriptor", 10)
        # Raw, because an image that is dropped need not be deserialised.
        subscription = subscribe(
            self,
            self._message_type,
            "image",
            self._receive,
            qos_profile_sensor_data,
            on_lost=self._health.lost,
            raw=True,
        )
        self._health.watch(subscription)
        self._worker = threading.Thread(target=self._work, name="extract", daemon=True)
        self._worker.start()
        self.get_logger().info(
            f"extracting from {subscription.topic_name} with model {self._extractor.fingerprint}"
        )

    def close(self) -> None:
        """Waits for the image at hand: an interpreter that ends while TensorFlow computes may crash."""
        self._mailbox.close()
        self._worker.join(EXTRACT_S)

    def _configure(self, config: Config) -> None:
        self._extractor.config = config.extractor
        self._health.config = config.diagnostics

    def _gauges(self) -> dict[str, object]:
        return {
            "model": self._extractor.fingerprint,
            "dimensions": self._extractor.dims,
            "subscribers": self._publisher.get_subscription_count(),
        }

    def _receive(self, serialised: bytes) -> None:
        self._health.arrived()
        if self._mailbox.put((serialised, self.get_clock().now(), time.perf_counter())):
            self._health.count("dropped")

    def _work(self) -> None:
        while (item := self._mailbox.take()) is not None:
            try:
                self._process(*item)
            except NetVLADError as error:
                self._refuse(str(error))
            except Exception as error:  # a bad image must not end the node
                if rclpy.ok():
                    self._refuse(f"{type(error).__name__}: {error}")

    def _process(self, serialised: bytes, arrival: Time, received_s: float) -> None:
        with self._health.timed("convert"):
            message = deserialize_message(serialised, self._message_type)
            header = self._stamped(message.header, arrival)
            image = self._to_image(message, self._camera)
        with self._health.timed("extract"):
            descriptor = self._extractor.extract(image)
        stream = Stream(self._camera.robot, self._camera.name or header.frame_id)
        fingerprint, calibration = self._extractor.fingerprint, self._calibration
        self._publisher.publish(
            descriptor_message(header, stream, fingerprint, descriptor, calibration)
        )
        self._health.took("receive to publish", time.perf_counter() - received_s)
        self._health.count("published")

    def _stamped(self, header: Header, arrival: Time) -> Header:
        """Raises MessageError for a stamp that no clock shows, or none while simulated time stands at 0."""
        if to_ns(header.stamp):
            return header
        if not arrival.nanoseconds:
            raise MessageError(
                "it has no stamp, and nothing on /clock gives the time of its arrival; let the driver set "
                "header.stamp, or publish /clock."
            )
        header.stamp = arrival.to_msg()
        self._health.problem(
            "stamp", "images have no stamp; the time of their arrival is taken instead"
        )
        return header

    def _refuse(self, reason: str) -> None:
        self._health.count("refused")
        self._health.problem("image", f"image refused: {reason}")


def _load(config: Config) -> NetVLADExtractor:
    extractor = NetVLADExtractor(config.extractor.model, config.extractor)
    extractor.warm_up()
    return extractor


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to end."""
    return run([DescriptorNode], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
