# SPDX-License-Identifier: MIT
"""The `netvlad` commands: one file each, with add_arguments(parser) and run(arguments) -> exit code."""
