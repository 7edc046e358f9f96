# SPDX-License-Identifier: MIT
"""ROS 2 nodes: thin wiring around the library, and the only part that imports ROS."""
