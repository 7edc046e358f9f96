# SPDX-License-Identifier: MIT
"""What one does with whole database files: look into them, merge, prune, exchange, describe them anew."""
