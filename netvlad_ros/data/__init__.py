# SPDX-License-Identifier: MIT
"""Reading what the world recorded: image messages, bags and places."""
