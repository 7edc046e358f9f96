# SPDX-License-Identifier: MIT
"""Values of arguments as words of a command; argparse says which argument is wrong."""

import argparse
import re

ANY_SIZE = (0, 0)


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of `320x240`."""
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"expected WIDTHxHEIGHT in pixels, such as 320x240, each below 10000; got {text}"
        )
    return int(found[1]), int(found[2])


def parse_size_or_any(text: str) -> tuple[int, int]:
    """The same, or ANY_SIZE for `any`."""
    return ANY_SIZE if text == "any" else parse_size(text)


def parse_count(text: str) -> int:
    """A whole number from 1 on."""
    return _whole(text, 1)


def parse_whole(text: str) -> int:
    """A whole number from 0 on."""
    return _whole(text, 0)


def parse_positive(text: str) -> float:
    """A number above 0."""
    value = _number(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def parse_seconds(text: str) -> float:
    """A number of at least 0."""
    value = _number(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text}")
    return value


def parse_share(text: str) -> float:
    """A number above 0 and up to 1."""
    value = _number(text)
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and up to 1, got {text}")
    return value


def parse_scale(text: str) -> float:
    """A number above 0, which may be written as a fraction, such as 1/255."""
    top, _, bottom = text.partition("/")
    return parse_positive(top) / parse_positive(bottom or "1")


def parse_three(text: str) -> tuple[float, ...]:
    """`0.485,0.456,0.406`, or one number for all three."""
    values = tuple(_number(each) for each in text.split(","))
    if len(values) not in (1, 3) or not all(abs(each) < float("inf") for each in values):
        raise argparse.ArgumentTypeError(f"expected three numbers, such as 0.5,0.5,0.5, got {text}")
    return values * (3 // len(values))


def _whole(text: str, low: int) -> int:
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < low:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low} on, got {text}")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
