# SPDX-License-Identifier: MIT
"""Our nodes as processes of their own, and a ROS node of the test that talks with them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from netvlad_ros.verification.rigid import rigid, rotation_of

PATIENCE_S = 60.0  # a busy machine is slow; a broken node never gets there
RELIABLE = QoSProfile(depth=1000)

_numbers = count(1)


@dataclass(frozen=True)
class Status:
    """What a node said of itself last; of level -1 if it said nothing yet."""

    level: int = -1
    message: str = ""
    values: dict[str, str] = field(default_factory=dict)

    def count(self, name: str) -> int:
        """A counter without its rate."""
        return int(self.values.get(name, "0").split()[0])


class Ros:
    """The test's own ROS node."""

    def __init__(self) -> None:
        self._context = rclpy.context.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self.node = rclpy.create_node("test", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.statuses: dict[str, Status] = {}
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._keep_status, RELIABLE)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._context.shutdown()

    def publisher(self, kind: type, topic: str, qos: QoSProfile = RELIABLE) -> Publisher:
        return self.node.create_publisher(kind, topic, qos)

    def listen(self, kind: type, topic: str) -> list[Any]:
        """All messages from now on, as they come in."""
        messages: list[Any] = []
        self.node.create_subscription(kind, topic, messages.append, RELIABLE)
        return messages

    def until(
        self,
        condition: Callable[[], Any],
        meanwhile: Callable[[], Any] = lambda: None,
        every_s: float = 0.5,
        patience_s: float = PATIENCE_S,
    ) -> Any:
        """The value of the condition once it is true; meanwhile does something again and again."""
        next_s = time.monotonic()
        end_s = next_s + patience_s
        while not (value := condition()):
            now_s = time.monotonic()
            assert now_s < end_s, f"did not happen in {patience_s:.0f} s"
            if now_s >= next_s:
                meanwhile()
                next_s = max(next_s + every_s, now_s - every_s)
            self._executor.spin_once(timeout_sec=0.01)
        return value

    def spin(self, seconds: float, meanwhile: Callable[[], Any] = lambda: None) -> None:
        """Only for what must not happen: there is nothing to wait for."""
        end_s = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end_s, meanwhile, every_s=1 / 30)

    def call(self, kind: Any, service: str, request: Any) -> Any:
        client: Any = self.node.create_client(kind, service)
        self.until(client.service_is_ready)
        answer = self.answer(lambda: client.call_async(request))
        self.node.destroy_client(client)
        return answer

    def answer(self, ask: Callable[[], Any]) -> Any:
        """What a service says. It is asked again: one that has not yet found us can't answer."""
        futures: list[Any] = []
        done = self.until(
            lambda: next((future for future in futures if future.done()), None),
            lambda: futures.append(ask()),
            every_s=5.0,
        )
        return done.result()

    def _keep_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {each.key: each.value for each in status.values}
            level = int.from_bytes(status.level, "little")
            self.statuses[f"/{status.name}"] = Status(level, status.message, values)


class NodeProcess:
    """A program of netvlad_ros.nodes in a process and a namespace of its own."""

    def __init__(
        self,
        ros: Ros,
        folder: Path,
        program: str,
        parameters: Mapping[str, Any] | None = None,
        remap: Mapping[str, str] | None = None,
        namespace: str = "",
        environment: Mapping[str, str | None] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        """environment: None takes a variable out."""
        number = next(_numbers)
        self.ros, self.program = ros, program
        self.namespace = namespace or f"/test{number}"
        self._output = folder / f"{number}_{program}.log"
        given = {"diagnostics.period_s": 0.1} | dict(parameters or {})
        rules = {"__ns": self.namespace} | dict(remap or {})
        command = [sys.executable, "-m", f"netvlad_ros.nodes.{program}", "--ros-args"]
        for name, value in given.items():
            command += ["-p", f"{name}:={_yaml(value)}"]
        for name, other in rules.items():
            command += ["-r", f"{name}:={other}"]
        variables = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment or {})
        with self._output.open("wb") as output:
            self._popen = subprocess.Popen(
                [*command, *arguments],
                env={name: value for name, value in variables.items() if value is not None},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def output(self) -> str:
        """What it wrote so far, to stdout and stderr."""
        return self._output.read_text(errors="replace")

    def lines(self, level: str) -> list[str]:
        """What it logged at this level."""
        return [line for line in self.output.splitlines() if line.startswith(f"[{level}]")]

    def topic(self, name: str) -> str:
        return f"{self.namespace}/{name}"

    def until(
        self, condition: Callable[[], Any], meanwhile: Callable[[], Any] = lambda: None, **how: Any
    ) -> Any:
        """As Ros.until(); a failure shows what the process wrote."""

        def with_process() -> Any:
            value = condition()
            assert value or self._popen.poll() is None, f"ended:\n{self.output}"
            return value

        try:
            return self.ros.until(with_process, meanwhile, **how)
        except AssertionError as error:
            pytest.fail(f"{error}; {self.program} is at {self.status()} and wrote:\n{self.output}")

    def until_ready(self, *nodes: str) -> None:
        """Every node in it has reported on itself."""
        self.until(lambda: all(self.status(node).level >= 0 for node in nodes or (self.program,)))

    def status(self, node: str = "") -> Status:
        return self.ros.statuses.get(self.topic(node or self.program), Status())

    def count(self, name: str, node: str = "") -> int:
        return self.status(node).count(name)

    def says(self, *words: str, node: str = "") -> bool:
        """Whether its diagnostic message has all these words in it."""
        return all(word in self.status(node).message for word in words)

    def call(self, service: str) -> Trigger.Response:
        return self.ros.call(Trigger, self.topic(f"{self.program}/{service}"), Trigger.Request())

    def set(self, name: str, value: Any, node: str = "") -> Any:
        """A SetParametersResult."""
        parameters = [Parameter(name, value=value)]
        return self._of_parameters(node, lambda client: client.set_parameters(parameters)).results[
            0
        ]

    def parameter_names(self, node: str = "") -> list[str]:
        answer = self._of_parameters(node, lambda client: client.list_parameters())
        return list(answer.result.names)

    def describe(self, names: list[str], node: str = "") -> list[Any]:
        """ParameterDescriptors."""
        answer = self._of_parameters(node, lambda client: client.describe_parameters(names))
        return list(answer.descriptors)

    def _of_parameters(self, node: str, ask: Callable[[AsyncParameterClient], Any]) -> Any:
        client = AsyncParameterClient(self.ros.node, self.topic(node or self.program))
        self.until(client.services_are_ready)
        return self.ros.answer(lambda: ask(client))

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def exit_code(self, meanwhile: Callable[[], Any] = lambda: None, every_s: float = 0.5) -> int:
        """Waits for its end."""
        try:
            self.ros.until(lambda: self._popen.poll() is not None, meanwhile, every_s)
        except AssertionError:
            pytest.fail(f"{self.program} still runs; it wrote:\n{self.output}")
        return self._popen.returncode

    def end(self) -> int:
        """Ends it as `ros2 launch` would; returns the exit code."""
        self.send(signal.SIGINT)
        return self.exit_code()

    def kill(self) -> None:
        """Ends it whatever it does: asks first, insists after a while."""
        self._popen.terminate()
        try:
            self._popen.wait(10.0)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value!r}"


Start = Callable[..., NodeProcess]


class Camera:
    """Publishes images, each with a stamp of its own."""

    def __init__(self, node: NodeProcess, topic: str = "image", qos: QoSProfile = RELIABLE) -> None:
        self._node = node
        self.topic = node.topic(topic)
        self._qos = qos
        self._publishers: dict[type, Publisher] = {}
        self.stamp_ns = 1_000_000_000_000

    def send(self, message: Any) -> Any:
        """Publishes it with the next stamp."""
        self.stamp_ns += 1_000_000_000
        message.header.stamp = stamp(self.stamp_ns)
        message.header.frame_id = "front_camera"
        kind = type(message)
        if kind not in self._publishers:
            self._publishers[kind] = self._node.ros.publisher(kind, self.topic, self._qos)
        self._publishers[kind].publish(message)
        return message

    def send_until_described(self, message: Any, descriptors: list[Any]) -> Any:
        """The descriptor of this image. It is sent again: best effort may lose any one."""
        sent: list[int] = []

        def send() -> None:
            self.send(message)
            sent.append(self.stamp_ns)

        return self._node.until(
            lambda: next((each for each in descriptors if stamp_ns(each.header) in sent), None),
            send,
        )


def stamp(nanoseconds: int) -> Time:
    return Time(sec=nanoseconds // 1_000_000_000, nanosec=nanoseconds % 1_000_000_000)


def stamp_ns(header: Any) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def matrix_of(transform: Any) -> np.ndarray:
    """(4, 4) of a geometry_msgs/Transform."""
    at, turned = transform.translation, transform.rotation
    rotation = rotation_of(np.array([turned.x, turned.y, turned.z, turned.w]))
    return rigid(rotation, np.array([at.x, at.y, at.z]))


def picture(seed: int = 0, width: int = 64, height: int = 48) -> np.ndarray:
    """RGB with coarse structure, another one for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def raw_image(pixels: np.ndarray, encoding: str = "rgb8", **fields: Any) -> Image:
    """An Image message of pixels that are in this encoding."""
    rows = pixels.reshape(len(pixels), -1)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
    message.step = rows.nbytes // len(rows)
    message.data = rows.tobytes()
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def compressed_image(rgb: np.ndarray, extension: str = ".jpg") -> CompressedImage:
    data = cv2.imencode(extension, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
    return CompressedImage(format=extension[1:], data=data)
