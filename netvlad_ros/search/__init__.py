# SPDX-License-Identifier: MIT
"""Looking up single pictures in a folder of pictures, the gallery, without keyframes or time."""
