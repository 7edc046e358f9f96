# SPDX-License-Identifier: MIT
"""Sizes of images as words of a command, such as 320x240."""

import argparse
import re

ANY_SIZE = (0, 0)


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of `320x240`; argparse says which argument is wrong."""
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"expected WIDTHxHEIGHT in pixels, such as 320x240, each below 10000; got {text}"
        )
    return int(found[1]), int(found[2])


def parse_size_or_any(text: str) -> tuple[int, int]:
    """The same, or ANY_SIZE for `any`."""
    return ANY_SIZE if text == "any" else parse_size(text)
