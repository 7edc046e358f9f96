# SPDX-License-Identifier: MIT
"""Measurements of speed and memory, side by side in one run: `python -m benchmark`."""
