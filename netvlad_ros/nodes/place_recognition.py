# SPDX-License-Identifier: MIT
"""All three nodes in one process."""

from collections.abc import Sequence

from netvlad_ros.nodes.descriptor_node import DescriptorNode
from netvlad_ros.nodes.keyframe_database_node import KeyframeDatabaseNode
from netvlad_ros.nodes.loop_closure_node import LoopClosureNode
from netvlad_ros.nodes.process import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the nodes until they are told to end."""
    return run([DescriptorNode, KeyframeDatabaseNode, LoopClosureNode], arguments)


if __name__ == "__main__":
    raise SystemExit(main())
