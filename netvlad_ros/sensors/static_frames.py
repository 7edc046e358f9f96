# SPDX-License-Identifier: MIT
"""Mounts out of the static transforms of a bag, as tf2 has them live."""

from collections.abc import Callable

import numpy as np

from netvlad_ros.config import SensorsConfig
from netvlad_ros.data.bags import Bag
from netvlad_ros.errors import BagError, MessageError
from netvlad_ros.sensors.mount import TF, mount_of
from netvlad_ros.verification.rigid import rigid, rotation_of

TOPIC = "/tf_static"


def recorded_mount(bag: Bag, config: SensorsConfig) -> Callable[[str], np.ndarray | None]:
    """From the name of an optical frame to base_from_camera (4, 4); None where it is not known.

    Raises ConfigError or BagError; what is returned raises MessageError.
    """
    mount = mount_of(config.base_from_camera)
    if config.base_from_camera.strip() != TF:
        return lambda frame_id: mount
    parents = _parents(bag)

    def look_up(frame_id: str) -> np.ndarray:
        frame, found, seen = frame_id, np.eye(4), {frame_id}
        while frame != config.base_frame:
            if frame not in parents or parents[frame][0] in seen:
                raise MessageError(
                    f"{TOPIC} of the bag does not say how {frame_id} is mounted on {config.base_frame}; set "
                    "sensors.base_frame, or give x y z qx qy qz qw in sensors.base_from_camera."
                )
            frame, matrix = parents[frame]
            seen.add(frame)
            found = matrix @ found
        return found

    return look_up


def _parents(bag: Bag) -> dict[str, tuple[str, np.ndarray]]:
    """Frame -> its parent, and the transform (4, 4) to it."""
    parents = {}
    topics = [TOPIC] if TOPIC in bag.topics else []
    for raw in bag.messages(topics):
        try:
            transforms = bag.deserialised(raw).transforms
        except Exception as error:  # rosbags raises whatever it runs into
            raise BagError(f"{bag.path}: a message on {TOPIC} can't be read ({error}).") from error
        for each in transforms:
            at, turned = each.transform.translation, each.transform.rotation
            rotation = rotation_of(np.array([turned.x, turned.y, turned.z, turned.w]))
            matrix = rigid(rotation, np.array([at.x, at.y, at.z]))
            parents[each.child_frame_id] = (each.header.frame_id, matrix)
    return parents
