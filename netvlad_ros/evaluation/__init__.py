# SPDX-License-Identifier: MIT
"""How good the found loops are, in numbers and in pictures."""
