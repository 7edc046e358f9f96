# SPDX-License-Identifier: MIT
"""Towns, streets, corridors and rooms made of random numbers, rendered as a camera would see them."""
