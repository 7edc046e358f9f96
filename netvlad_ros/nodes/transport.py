# SPDX-License-Identifier: MIT
"""The FastDDS profile with which images get from one process to another."""

import os
from pathlib import Path

PROFILE_VARIABLE = "FASTDDS_DEFAULT_PROFILES_FILE"
# By any of these the user has decided on the transport.
_USERS_OWN_TRANSPORT = (
    PROFILE_VARIABLE,
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_BUILTIN_TRANSPORTS",
)


def use_large_message_transport() -> None:
    """Gives FastDDS shared memory that images fit into, unless the user chose a transport.

    To be called before rclpy.init(). With the 0.5 MB that FastDDS takes by itself, larger messages silently
    never reach a best-effort subscriber of another process.
    """
    if not chosen_transport():
        name, value = large_message_transport()
        os.environ[name] = value


def chosen_transport() -> str:
    """The environment variable by which the user chose a transport; empty if there is none."""
    return next((name for name in _USERS_OWN_TRANSPORT if name in os.environ), "")


def large_message_transport() -> tuple[str, str]:
    """Name and value of the environment variable that makes FastDDS use our profile."""
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        share = Path(get_package_share_directory("netvlad_ros"))
    except PackageNotFoundError:  # run from a source tree
        share = Path(__file__).resolve().parents[2]
    return PROFILE_VARIABLE, str(share / "config" / "fastdds.xml")
