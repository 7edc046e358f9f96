# SPDX-License-Identifier: MIT
"""What comes with the images of a camera: its model, depth, right image, odometry; read, checked, matched."""
