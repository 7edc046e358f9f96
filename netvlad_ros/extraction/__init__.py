# SPDX-License-Identifier: MIT
"""From images to global descriptors: one, many, and those that were computed before."""
