# SPDX-License-Identifier: MIT
"""Where a keyframe was taken, as messages."""

from geometry_msgs.msg import PoseWithCovarianceStamped
from std_msgs.msg import Header

from netvlad_ros.image_data import Pose
from netvlad_ros.nodes.conversions import match_message, verdict_message
from netvlad_ros.nodes.geometry_messages import unknown_pose
from netvlad_ros.nodes.image_data_messages import pose_message
from netvlad_ros.retrieval.closures import ClosureSelection, verdict_of
from netvlad_ros.retrieval.localiser import Localisation
from netvlad_ros.retrieval.query import Query
from netvlad_ros.srv import Localise
from netvlad_ros.verification.rigid import quaternion_of


def localisation_message(found: Localisation, header: Header) -> PoseWithCovarianceStamped:
    """In the frame of the map, with its covariance as ROS has it: about the axes of that frame.

    header: of the image. A pose that is not known is NaN.
    """
    message = PoseWithCovarianceStamped(pose=unknown_pose())
    message.header.stamp, message.header.frame_id = header.stamp, found.frame_id
    if found.pose is not None:
        at = found.pose.matrix
        turn = quaternion_of(at[:3, :3])
        message.pose = pose_message(Pose("", "", at[:3, 3], turn, found.pose.covariance_in_parent))
    return message


def localise_response(
    found: Localisation, query: Query, closures: ClosureSelection, header: Header
) -> Localise.Response:
    """The answer to who asked where an image was taken."""
    said = f"{found.agreeing} keyframes agree on this place in {found.frame_id}"
    return Localise.Response(
        success=found.pose is not None,
        message=found.summary or said,
        pose=localisation_message(found, header),
        pose_of="" if found.pose is None else found.of,
        matches=[match_message(match) for match in query.matches],
        verdicts=[verdict_message(verdict_of(match, closures)) for match in query.matches],
    )


def no_response(sentence: str) -> Localise.Response:
    """The answer where there is nothing to say but why."""
    pose = PoseWithCovarianceStamped(pose=unknown_pose())
    return Localise.Response(message=sentence, pose=pose)
