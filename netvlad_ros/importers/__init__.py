# SPDX-License-Identifier: MIT
"""Weights of other projects, brought onto one canonical form."""
