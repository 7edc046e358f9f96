# SPDX-License-Identifier: MIT
"""Keyframes on disk: names, descriptors, and what else is known of them."""
