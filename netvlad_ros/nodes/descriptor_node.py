# SPDX-License-Identifier: MIT
"""The node that turns camera images into global descriptors."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rclpy.serialization import deserialize_message
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from netvlad_ros.config import Config
from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import MessageError, NetVLADError
from netvlad_ros.extraction.extractor import NetVLADExtractor
from netvlad_ros.image_data import NOTHING_KNOWN, ImageData
from netvlad_ros.keyframe import NO_EXTERNAL_ID, Stream
from netvlad_ros.msg import GlobalDescriptor
from netvlad_ros.msg import Keyframe as KeyframeMessage
from netvlad_ros.nodes.conversions import calibration_messages, descriptor_message
from netvlad_ros.nodes.diagnostics import Health
from netvlad_ros.nodes.image_converter import image_converter
from netvlad_ros.nodes.mailbox import Mailbox
from netvlad_ros.nodes.mounts import Mount, mount_lookup
from netvlad_ros.nodes.parameters import NodeParameters
from netvlad_ros.nodes.process import run
from netvlad_ros.nodes.sensor_topics import SensorTopics, stamp_of
from netvlad_ros.nodes.stamps import to_ns
from netvlad_ros.nodes.subscriptions import subscribe
from netvlad_ros.retrieval.keyframe_chooser import KeyframeChooser
from netvlad_ros.retrieval.keyframe_selector import Choice
from netvlad_ros.sensors.camera_info import camera_model
from netvlad_ros.sensors.requested_images import RequestedImages
from netvlad_ros.srv import Describe
from netvlad_ros.verification.image_data_maker import ImageDataMaker
from netvlad_ros.verification.sensors import Sensors

# An image takes less; a runtime that takes longer hangs.
EXTRACT_S = 10.0
QOS = QoSProfile(depth=100)
# Images that a back-end asked for all become keyframes, so that the newest must not win.
REQUESTED_IMAGES = 100
# Cameras whose images come on one topic; each keeps its last keyframes.
MAX_CAMERAS = 16
SECTIONS = ("camera", "extractor", "keyframes", "sensors", "verification", "diagnostics")


@dataclass(frozen=True)
class _Arrival:
    """An image as it came.

    time:        by the node's clock; the other two by clocks that are not set.
    external_id: what a back-end that asked for it calls it; None if nobody asked.
    """

    serialised: bytes
    time: Time
    received_s: float
    received_ns: int
    external_id: int | None = None


@dataclass(frozen=True)
class _Camera:
    """What is remembered of one camera's images."""

    chooser: KeyframeChooser
    maker: ImageDataMaker


class DescriptorNode(Node):
    """image -> global_descriptor; of keyframes with what else is known of them.

    Keyframes are chosen here, so that local features are extracted of them only, and only while somebody
    subscribes; without local features the database chooses. The executor's thread only receives; a second
    one converts, extracts and publishes, so that a network slower than the camera drops old images, counted,
    and services and diagnostics answer meanwhile.
    """

    def __init__(self) -> None:
        super().__init__("descriptor_node")
        config = NodeParameters(self, SECTIONS, self._configure).config
        self._config = config
        self._camera = config.camera
        self._message_type = CompressedImage if config.camera.compressed else Image
        self._to_image = image_converter(config.camera.converter)
        self._extractor = _load(config)
        self._calibration = calibration_messages(self._extractor.calibration)
        self._mailbox: Mailbox[_Arrival] = Mailbox(
            REQUESTED_IMAGES if config.keyframes.requested else 1
        )
        self._extracting = threading.Lock()
        self._cameras: dict[Stream, _Camera] = {}
        self._last_features = "none yet"
        counts = ("received", "lost", "published", "dropped", "refused")
        self._health = Health(self, config.diagnostics, counts, self._gauges)
        # Both declare parameters where topics are there already, which calls _configure().
        self._sensors: SensorTopics | None = None
        self._requests: RequestedImages[_Arrival] | None = None
        self._mount: Mount = lambda frame_id: None
        if config.verification.features != "none":
            self._mount = mount_lookup(self, config.sensors)
            self._sensors = SensorTopics(self, config, self._health, self._mount)
        if config.keyframes.requested:
            self._requests = RequestedImages(*_hold_ns(config))
            subscribe(
                self,
                KeyframeMessage,
                "keyframe_requests",
                self._receive_request,
                QOS,
                on_lost=partial(self._health.count, "requests lost"),
            )
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
        self.create_service(Describe, "~/describe", self._describe)
        self._worker = threading.Thread(target=self._work, name="extract", daemon=True)
        self._worker.start()
        self.get_logger().info(
            f"extracting from {subscription.topic_name} with model {self._extractor.fingerprint} in "
            f"{_runtime(self._extractor)}"
        )

    def close(self) -> None:
        """Waits for the image at hand: an interpreter that ends while TensorFlow computes may crash."""
        self._mailbox.close()
        self._worker.join(EXTRACT_S)

    def _configure(self, config: Config) -> None:
        self._config = config
        self._extractor.config = config.extractor
        for camera in list(self._cameras.values()):
            camera.chooser.configure(config.keyframes)
            camera.maker.config = config.verification
        if self._sensors is not None:
            self._sensors.configure(config.sensors)
        if self._requests is not None:
            self._requests.hold_ns, self._requests.tolerance_ns = _hold_ns(config)
        self._health.config = config.diagnostics

    def _gauges(self) -> dict[str, object]:
        return {
            "model": self._extractor.fingerprint,
            "runtime": _runtime(self._extractor),
            "dimensions": self._extractor.dims,
            "subscribers": self._publisher.get_subscription_count(),
            "local features": self._last_features,
            **{f"images {reason}": count for reason, count in self._passed_over().items()},
            **(self._sensors.gauges() if self._sensors is not None else {}),
        }

    def _passed_over(self) -> Counter[str]:
        """How many images are no keyframes, by reason."""
        total: Counter[str] = Counter()
        for each in list(self._cameras.values()):
            total.update(dict(each.chooser.passed_over))  # a copy: another thread counts
        return total

    def _receive(self, serialised: bytes) -> None:
        self._health.arrived()
        arrival = _Arrival(
            serialised, self.get_clock().now(), time.perf_counter(), time.monotonic_ns()
        )
        if self._requests is None:
            self._put(arrival)
            return
        stamp_ns = stamp_of(serialised) or arrival.time.nanoseconds
        self._put_requested(self._requests.add_image(stamp_ns, arrival, len(serialised)))
        for missed_ns in self._requests.missed():
            self._health.count("requests without image")
            self._health.problem(
                "request",
                f"a keyframe was requested at {missed_ns / NANOSECONDS:.6f} s, of which no image came; do "
                "both go by one clock? (keyframes.hold_s, sensors.tolerance_s)",
            )

    def _receive_request(self, message: KeyframeMessage) -> None:
        self._health.count("requests")
        assert self._requests is not None
        try:
            self._put_requested(
                self._requests.add_request(to_ns(message.stamp), message.external_id)
            )
        except MessageError as error:
            self._health.problem("request", f"a request is refused: {error}")

    def _put_requested(self, requested: tuple[_Arrival, int] | None) -> None:
        if requested is not None:
            arrival, external_id = requested
            self._put(replace(arrival, external_id=external_id))

    def _put(self, arrival: _Arrival) -> None:
        if self._mailbox.put(arrival):
            self._health.count("dropped")

    def _work(self) -> None:
        while (item := self._mailbox.take()) is not None:
            try:
                self._process(item)
            except NetVLADError as error:
                self._refuse(str(error))
            except Exception as error:  # a bad image must not end the node
                if rclpy.ok():
                    self._refuse(f"{type(error).__name__}: {error}")

    def _process(self, arrival: _Arrival) -> None:
        with self._health.timed("convert"):
            message = deserialize_message(arrival.serialised, self._message_type)
            header = self._stamped(message.header, arrival.time)
            image = self._to_image(message, self._camera)
        with self._health.timed("extract"), self._extracting:
            descriptor = self._extractor.extract(image)
        stream = Stream(self._camera.robot, self._camera.name or header.frame_id)
        choice, data = self._chosen(stream, image, descriptor, to_ns(header.stamp), arrival)
        self._publisher.publish(
            descriptor_message(
                header,
                stream,
                self._extractor.fingerprint,
                descriptor,
                self._calibration,
                choice,
                data,
                NO_EXTERNAL_ID if arrival.external_id is None else arrival.external_id,
            )
        )
        self._health.took("receive to publish", time.perf_counter() - arrival.received_s)
        self._health.count("published")

    def _describe(
        self, request: Describe.Request, response: Describe.Response
    ) -> Describe.Response:
        try:
            response.descriptor, response.success = self._described(request), True
        except Exception as error:  # a bad image must not end the node
            is_ours = isinstance(error, NetVLADError)
            response.message = str(error) if is_ours else f"{type(error).__name__}: {error}"
        return response

    def _described(self, request: Describe.Request) -> GlobalDescriptor:
        """Raises NetVLADError, and whatever else a bad image leads to."""
        header, config = request.image.header, self._config
        image, camera = self._to_image(request.image, self._camera), None
        for given in request.camera_info:
            camera = camera_model(given, config.sensors.rectified)
            with contextlib.suppress(MessageError):
                camera = replace(camera, base_from_camera=self._mount(camera.frame_id))
        with self._extracting:
            descriptor = self._extractor.extract(image)
        data = ImageDataMaker(config.verification).make(image, Sensors(camera))
        stream = Stream(self._camera.robot, self._camera.name or header.frame_id)
        return descriptor_message(
            header,
            stream,
            self._extractor.fingerprint,
            descriptor,
            self._calibration,
            Choice.KEYFRAME,
            data,
        )

    def _chosen(
        self,
        stream: Stream,
        image: np.ndarray,
        descriptor: np.ndarray,
        stamp_ns: int,
        arrival: _Arrival,
    ) -> tuple[Choice, ImageData]:
        """Whether the image becomes a keyframe, and what is known of it then."""
        choice = Choice.UNDECIDED if arrival.external_id is None else Choice.KEYFRAME
        if self._sensors is None:
            return choice, NOTHING_KNOWN
        if not self._publisher.get_subscription_count():
            self._cameras.clear()  # a database that comes later gets a keyframe first
            return choice, NOTHING_KNOWN
        camera = self._camera_of(stream)
        if choice is Choice.UNDECIDED:
            choice = camera.chooser.choose(descriptor, stamp_ns, arrival.received_ns)
        if choice is not Choice.KEYFRAME:
            return choice, NOTHING_KNOWN
        sensors = self._sensors.collect(image, stamp_ns, arrival.received_s).sensors
        try:
            with self._health.timed("local features"):
                data = camera.maker.make(image, sensors)
        except Exception as error:  # the place is found by its descriptor all the same
            self._health.problem("features", f"no local features: {type(error).__name__}: {error}")
            return choice, NOTHING_KNOWN
        self._last_features = _summary(data)
        return choice, data

    def _camera_of(self, stream: Stream) -> _Camera:
        if stream not in self._cameras:
            if len(self._cameras) >= MAX_CAMERAS:
                self._cameras.clear()
            self._cameras[stream] = _Camera(
                KeyframeChooser(self._config.keyframes), ImageDataMaker(self._config.verification)
            )
        return self._cameras[stream]

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


def _hold_ns(config: Config) -> tuple[int, int]:
    """How long images wait for requests, and how far stamps may differ."""
    seconds = config.keyframes.hold_s, config.sensors.tolerance_s
    hold_ns, tolerance_ns = (round(each * NANOSECONDS) for each in seconds)
    return hold_ns, tolerance_ns


def _summary(data: ImageData) -> str:
    """Of the last keyframe, for diagnostics."""
    if data.features is None:
        return "none"
    points_m, source = data.features.points_m, data.features.points_from
    known = 0 if points_m is None else int(np.isfinite(points_m[:, 2]).sum())
    return f"{len(data.features)}, {known} of them with points" + (
        f" from {source}" if known else ""
    )


def _runtime(extractor: NetVLADExtractor) -> str:
    return f"{extractor.choice.runtime}, as {extractor.choice.why}"


def _load(config: Config) -> NetVLADExtractor:
    extractor = NetVLADExtractor(config.extractor.model, config.extractor)
    extractor.warm_up()
    return extractor


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to end."""
    return run([DescriptorNode], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
