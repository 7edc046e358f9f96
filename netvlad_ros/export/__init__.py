# SPDX-License-Identifier: MIT
"""Model files for other runtimes, each compared with Keras before it gets its name."""
