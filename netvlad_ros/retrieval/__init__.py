# SPDX-License-Identifier: MIT
"""Keyframes, their index, and how matches become loop-closure candidates. No Keras in here."""
