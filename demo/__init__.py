# SPDX-License-Identifier: MIT
"""The whole way on real ROS 2, in a town that is rendered for it: python -m demo."""
