# SPDX-License-Identifier: MIT
"""Place recognition between the robots of cslam (Swarm-SLAM), once for each robot; cslam is started apart.

ros2 launch netvlad_ros cslam.launch.py robot:=r0 image_topic:=/r0/camera/image_raw
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
from launch_ros.actions import Node, SetRemap

OURS = os.path.join(
    get_package_share_directory("netvlad_ros"), "launch", "place_recognition.launch.py"
)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for; all arguments of place_recognition.launch.py hold here too."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "robot", description="The robot's namespace in cslam: r0, r1, ..."
            ),
            # Each robot has the keyframes of all.
            SetRemap("global_descriptor", "/netvlad/global_descriptor"),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(OURS),
                launch_arguments={
                    "keyframes_requested": "true",
                    "namespace": LaunchConfiguration("robot"),
                }.items(),
            ),
            OpaqueFunction(function=_adapter),
        ]
    )


def _adapter(context: LaunchContext) -> list[Node]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    given = {"camera.robot": value("robot")}
    if value("use_sim_time"):
        given["use_sim_time"] = value("use_sim_time") == "true"
    return [
        Node(
            package="netvlad_ros",
            executable="cslam_adapter",
            namespace=value("namespace"),
            parameters=[os.path.expanduser(value("config_file")), given],
            remappings=[("keyframe_requests", value("keyframe_requests_topic"))],
            output="screen",
            on_exit=Shutdown(reason="cslam_adapter ended"),
        )
    ]
