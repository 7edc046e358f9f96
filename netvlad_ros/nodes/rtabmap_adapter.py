# SPDX-License-Identifier: MIT
"""The node that gives RTAB-Map our loop closures as links between its own nodes."""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any

from rclpy.qos import QoSProfile
from rclpy.task import Future

from netvlad_ros.constants import NANOSECONDS
from netvlad_ros.errors import EdgeError, MessageError
from netvlad_ros.graph.conventions import g2o_information
from netvlad_ros.msg import LoopClosure
from netvlad_ros.nodes.back_end import BackEndAdapter, require, transform_of
from netvlad_ros.nodes.process import run
from netvlad_ros.nodes.stamps import to_ns
from netvlad_ros.nodes.subscriptions import subscribe
from netvlad_ros.verification.motion import Motion

QOS = QoSProfile(depth=100)
# rtabmap::Link::kUserClosure: closures that RTAB-Map did not find itself.
USER_CLOSURE = 4
# Statistics that are not 0 where RTAB-Map forgets the node again: it stood still, is too fast, or was merged.
FORGOTTEN = ("Memory/Small_movement/", "Memory/Fast_movement/", "Memory/Rehearsal_merged/")


class RtabmapAdapter(BackEndAdapter):
    """rtabmap's info -> keyframe_requests; loop_closures -> rtabmap's service add_link.

    Names are those of rtabmap.launch.py: a node rtabmap in namespace rtabmap.
    """

    def __init__(self) -> None:
        super().__init__("rtabmap_adapter")
        require("rtabmap_msgs", "ros-DISTRO-rtabmap-msgs")
        messages, self._srv = map(import_module, ("rtabmap_msgs.msg", "rtabmap_msgs.srv"))
        self._link_type = messages.Link
        self._add_link = self.create_client(self._srv.AddLink, "rtabmap/rtabmap/add_link")
        self._get_map = self.create_client(self._srv.GetMap, "rtabmap/rtabmap/get_map_data")
        self._has_asked = False
        lost = partial(self.health.count, "infos lost")
        subscribe(self, messages.Info, "rtabmap/info", self._receive_info, QOS, on_lost=lost)

    def pass_on(self, closure: LoopClosure, motion: Motion) -> None:
        """RTAB-Map does not answer whether it takes the link; its log says so."""
        if not self._add_link.service_is_ready():
            raise EdgeError(
                "without service",
                f"nobody offers {self._add_link.srv_name}; is rtabmap still running, in this namespace?",
            )
        link = link_message(self._link_type, closure, motion)
        self._add_link.call_async(self._srv.AddLink.Request(link=link))

    def _receive_info(self, info: Any) -> None:
        """When RTAB-Map begins, it may have nodes of earlier runs, which it is asked for once."""
        statistics = dict(zip(info.stats_keys, info.stats_values, strict=False))
        if any(statistics.get(name) for name in FORGOTTEN):
            self.health.count("forgotten by rtabmap")
            return
        try:
            if self.request(info.ref_id, to_ns(info.header.stamp)):
                self._has_asked = False
        except MessageError as error:
            self.health.problem("info", f"a node of rtabmap is left out: {error}")
        if not self._has_asked and self._get_map.service_is_ready():
            self._has_asked = True
            request = self._srv.GetMap.Request(global_map=True, graph_only=True)
            self._get_map.call_async(request).add_done_callback(self._receive_map)

    def _receive_map(self, answer: Future) -> None:
        nodes = answer.result().data.nodes
        stamps_ns = {node.id: round(node.stamp * NANOSECONDS) for node in nodes}
        self.ids.add_earlier(self.robot, stamps_ns)


def link_message(link_type: type, closure: LoopClosure, motion: Motion) -> Any:
    """From the match to the query: where the query's base was, seen from the match's."""
    return link_type(
        from_id=closure.match.external_id,
        to_id=closure.query.external_id,
        type=USER_CLOSURE,
        transform=transform_of(closure.geometry.match_from_query.pose),
        information=g2o_information(motion).ravel(),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the node until it is told to end."""
    return run([RtabmapAdapter], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
