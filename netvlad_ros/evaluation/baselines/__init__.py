# SPDX-License-Identifier: MIT
"""Descriptors without a trained network, so that a figure of one means something."""
