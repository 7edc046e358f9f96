# SPDX-License-Identifier: MIT
"""How a network learns places: worlds to learn from, mining, losses, and the training itself."""
