# SPDX-License-Identifier: MIT
"""Libraries that set up logging for themselves leave it as it was for everybody else."""

import logging

from netvlad_ros.quiet import logging_undisturbed


def test_the_root_logger_is_as_it_was_whatever_a_library_did_to_it() -> None:
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    before = root.level, root.handlers[:], handler.level, root.manager.disable
    try:
        with logging_undisturbed():
            assert not root.isEnabledFor(logging.WARNING)
            root.setLevel(logging.CRITICAL)
            handler.setLevel(logging.CRITICAL)
            root.handlers.clear()
            logging.disable(logging.CRITICAL)
        assert (root.level, root.handlers, handler.level, root.manager.disable) == before
    finally:
        root.removeHandler(handler)
