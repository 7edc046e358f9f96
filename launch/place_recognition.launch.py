# SPDX-License-Identifier: MIT
"""Camera topic (or bag) in, loop-closure candidates out.

ros2 launch netvlad_ros place_recognition.launch.py image_topic:=/camera/image_raw
"""

import os
from collections.abc import Callable

from ament_index_python.packages import get_package_share_directory
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
    TimerAction,
)
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from netvlad_ros.nodes.transport import chosen_transport, large_message_transport

SHARE = get_package_share_directory("netvlad_ros")
RESPAWN_DELAY_S = 2.0
# The last images of a bag are still on their way when it is over.
SETTLE_S = 2.0
THREE_NODES = ("descriptor_node", "keyframe_database_node", "loop_closure_node")
# What may come with the images.
BESIDE = {
    "camera_info": "the camera's calibration",
    "depth": "depth images that are aligned with the camera's",
    "right_image": "the right images of a stereo pair",
    "right_camera_info": "their camera's calibration",
    "odometry": "odometry",
    "keyframe_requests": "a back-end's choice of keyframes (keyframes.requested)",
}
# Arguments that are true or false, words, or files, and their parameters.
SWITCHES = {
    "use_sim_time": "use_sim_time",
    "compressed": "camera.compressed",
    "keyframes_requested": "keyframes.requested",
}
WORDS = {"robot": "camera.robot", "mode": "database.mode"}
FILES = {"model": "extractor.model", "database": "database.path"}

ARGUMENTS = [
    DeclareLaunchArgument(
        "image_topic", default_value="image", description="Topic of the camera images."
    ),
    *(
        DeclareLaunchArgument(
            f"{topic}_topic",
            default_value=topic,
            description=f"Topic of {what}, where there is one.",
        )
        for topic, what in BESIDE.items()
    ),
    DeclareLaunchArgument(
        "compressed",
        default_value="",
        choices=["", "true", "false"],
        description="Whether these are sensor_msgs/CompressedImage; empty: as the configuration file says.",
    ),
    DeclareLaunchArgument(
        "config_file",
        default_value=os.path.join(SHARE, "config", "place_recognition.yaml"),
        description="Parameters of all nodes; `netvlad config` prints them all.",
    ),
    DeclareLaunchArgument(
        "model",
        default_value="",
        description="Model file; empty: as the configuration file says, or else the one that comes with "
        "this package.",
    ),
    DeclareLaunchArgument(
        "mode",
        default_value="",
        choices=["", "mapping", "localisation", "both"],
        description="Whether keyframes are added to the map, and whether it is told where in there the robot "
        "is (database.mode); empty: as the configuration file says.",
    ),
    DeclareLaunchArgument(
        "database",
        default_value="",
        description="Database file, the map; empty: as the configuration file says.",
    ),
    DeclareLaunchArgument(
        "robot",
        default_value="",
        description="Name of the robot; empty: as the configuration file says.",
    ),
    DeclareLaunchArgument(
        "keyframes_requested",
        default_value="",
        choices=["", "true", "false"],
        description="Whether a back-end chooses the keyframes; empty: as the configuration file says.",
    ),
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of nodes and topics."
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=["", "true", "false"],
        description="Take time from /clock; empty: as a launch file that includes this one says.",
    ),
    DeclareLaunchArgument(
        "single_process",
        default_value="false",
        choices=["true", "false"],
        description="The three nodes in one process; pose_graph_node has its own in any case.",
    ),
    DeclareLaunchArgument(
        "pose_graph",
        default_value="false",
        choices=["true", "false"],
        description="Also correct odometry and keyframes by loop closures (pose_graph_node; needs gtsam).",
    ),
    DeclareLaunchArgument("bag", default_value="", description="Bag to play; empty: none."),
    DeclareLaunchArgument(
        "bag_rate", default_value="1.0", description="How much faster than recorded."
    ),
    DeclareLaunchArgument(
        "end_with_bag",
        default_value="false",
        choices=["true", "false"],
        description="End everything when the bag is over; the nodes save what they have.",
    ),
    DeclareLaunchArgument(
        "respawn",
        default_value="false",
        choices=["true", "false"],
        description="Start a node that ended again; otherwise a node's end ends the launch.",
    ),
]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return LaunchDescription([*ARGUMENTS, *_transport(), OpaqueFunction(function=_nodes)])


def _transport() -> list[SetEnvironmentVariable]:
    """Every process of this launch gets shared memory that images fit into, unless the user chose one."""
    return [] if chosen_transport() else [SetEnvironmentVariable(*large_message_transport())]


def _nodes(context: LaunchContext) -> list[Node]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    config_file = os.path.expanduser(value("config_file"))
    if not os.path.isfile(config_file):  # launch would only warn, and the nodes take their defaults
        raise FileNotFoundError(f"{config_file}: there is no such configuration file.")
    if value("respawn") == "true":
        at_end = {"respawn": True, "respawn_delay": RESPAWN_DELAY_S}
    else:
        at_end = {"on_exit": _end_launch}
    executables = ("place_recognition",) if value("single_process") == "true" else THREE_NODES
    if value("pose_graph") == "true":
        executables = (*executables, "pose_graph_node")
    nodes = [
        Node(
            package="netvlad_ros",
            executable=executable,
            namespace=value("namespace"),
            parameters=[config_file, _given(value)],
            remappings=[(topic, value(f"{topic}_topic")) for topic in ("image", *BESIDE)],
            output="screen",
            **at_end,
        )
        for executable in executables
    ]
    return [*nodes, _bag_player(value)] if value("bag") else nodes


def _given(value: Callable[[str], str]) -> dict[str, object]:
    """Parameters that go over those of the configuration file, where an argument is not empty."""
    given: dict[str, object] = {
        name: value(argument) == "true" for argument, name in SWITCHES.items() if value(argument)
    }
    given |= {name: value(argument) for argument, name in WORDS.items() if value(argument)}
    given |= {
        name: os.path.abspath(os.path.expanduser(value(argument)))
        for argument, name in FILES.items()
        if value(argument)
    }
    return given


def _bag_player(value: Callable[[str], str]) -> Node:
    options = ["--rate", value("bag_rate"), "--wait-for-subscribers"]
    clock = ["--clock"] if value("use_sim_time") == "true" else []
    ends = value("end_with_bag") == "true"
    return Node(
        package="netvlad_ros",
        executable="bag_player",
        arguments=[value("bag"), *options, *clock],
        output="screen",
        on_exit=_end_after_bag if ends else _end_launch_on_error,
    )


def _end_launch(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """Without one of its nodes a launch is of no use; that it ends is seen by who started it."""
    _end_launch_on_error(event, context)
    return [Shutdown(reason=f"{event.process_name} ended")]


def _end_launch_on_error(event: ProcessExited, context: LaunchContext) -> None:
    # An exception is the way to give `ros2 launch` an exit code.
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(
            f"{event.process_name} ended with exit code {event.returncode}; its last lines above say why. "
            "respawn:=true would start a node again."
        )


def _end_after_bag(event: ProcessExited, context: LaunchContext) -> list[Action]:
    _end_launch_on_error(event, context)
    return [TimerAction(period=SETTLE_S, actions=[Shutdown(reason="the bag is over")])]
