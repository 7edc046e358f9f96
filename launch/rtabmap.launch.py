# SPDX-License-Identifier: MIT
"""Camera topic in, links between RTAB-Map's nodes out; RTAB-Map is started apart, see docs/backends.md.

ros2 launch netvlad_ros rtabmap.launch.py image_topic:=/camera/color/image_raw rtabmap:=/rtabmap/rtabmap
"""

import os

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

OURS = os.path.join(
    get_package_share_directory("netvlad_ros"), "launch", "place_recognition.launch.py"
)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for; all arguments of place_recognition.launch.py hold here too."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "rtabmap",
                default_value="/rtabmap/rtabmap",
                description="Full name of RTAB-Map's node.",
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(OURS),
                launch_arguments={"keyframes_requested": "true"}.items(),
            ),
            OpaqueFunction(function=_adapter),
        ]
    )


def _adapter(context: LaunchContext) -> list[Node]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    given = {}
    if value("robot"):
        given["camera.robot"] = value("robot")
    if value("use_sim_time"):
        given["use_sim_time"] = value("use_sim_time") == "true"
    node = value("rtabmap")
    names = {
        "keyframe_requests": value("keyframe_requests_topic"),
        "rtabmap/info": f"{os.path.dirname(node)}/info".replace("//", "/"),
        "rtabmap/rtabmap/add_link": f"{node}/add_link",
        "rtabmap/rtabmap/get_map_data": f"{node}/get_map_data",
    }
    return [
        Node(
            package="netvlad_ros",
            executable="rtabmap_adapter",
            namespace=value("namespace"),
            parameters=[os.path.expanduser(value("config_file")), given],
            remappings=list(names.items()),
            output="screen",
            on_exit=Shutdown(reason="rtabmap_adapter ended"),
        )
    ]
