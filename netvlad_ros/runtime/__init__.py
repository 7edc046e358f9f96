# SPDX-License-Identifier: MIT
"""Model files that run: one file for each runtime, which is imported when a file needs it."""
