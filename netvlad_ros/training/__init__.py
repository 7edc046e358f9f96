# SPDX-License-Identifier: MIT
"""How a network learns places: tuples, mining, losses, and the training itself."""
