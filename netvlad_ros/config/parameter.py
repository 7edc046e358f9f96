# SPDX-License-Identifier: MIT
"""What a tunable value is: a field of a frozen dataclass with its default, unit, range and meaning.

A value is checked when its section is made, wherever it came from.
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from netvlad_ros.errors import ConfigError

# 1e-4, which YAML 1.1 takes for a word because it has no point.
_EXPONENTIAL = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]{1,3}")

Value = bool | int | float | str


@dataclass(frozen=True)
class Param:
    """What is known of one value besides its name, type and default."""

    help: str
    ge: float | None = None
    le: float | None = None
    choices: tuple[str, ...] = ()
    # What may stand in the place of a number; the default is one of these.
    words: tuple[str, ...] = ()
    live: bool = False  # may be changed while a node runs


def param(default: Any, help: str, **known: Any) -> Any:
    """A dataclass field that carries a Param."""
    return field(default=default, metadata={"param": Param(help, **known)})


class Section:
    """A frozen dataclass whose values are checked against their Params when it is made."""

    def __post_init__(self) -> None:
        for name, value, info in parameters(self):
            object.__setattr__(self, name, checked(name, value, type(self), info))


def parameters(section: Any) -> Iterator[tuple[str, Any, Param]]:
    """Name, value and Param of every field of a section, or name, default and Param of its class."""
    for item in dataclasses.fields(section):
        value = item.default if isinstance(section, type) else getattr(section, item.name)
        yield item.name, value, item.metadata["param"]


def checked(name: str, value: Any, section: type, info: Param) -> Any:
    """The value in the type of its default. Raises ConfigError, saying what was expected."""
    if isinstance(value, str) and value in info.words:
        return value
    default = {item.name: item.default for item in dataclasses.fields(section)}[name]
    if isinstance(default, tuple):
        words = bool(default) and isinstance(default[0], str)
        return _words(name, value, info) if words else _numbers(name, value, info)
    kind = float if info.words else type(default)
    if kind is float and isinstance(value, str) and _EXPONENTIAL.fullmatch(value):
        value = float(value)
    if kind in (int, float) and type(value) in (int, float):
        if not _inside(value, info):
            raise ConfigError(f"{name}: expected {range_text(info)}, got {value}. {info.help}")
        value = float(value) if kind is float else value
    if type(value) is not kind:
        expected = range_text(info) if info.words else kind.__name__
        raise ConfigError(f"{name}: expected {expected}, got {value!r}. {info.help}")
    if info.choices and value not in info.choices:
        raise ConfigError(f"{name}: expected one of {', '.join(info.choices)}; got {value!r}.")
    return value


def _numbers(name: str, value: Any, info: Param) -> tuple[float, ...]:
    """A tuple of floats, from the tuple or list of numbers that was written."""
    numbers = value if isinstance(value, tuple | list) else ()
    if not numbers or not all(type(one) in (int, float) and isfinite(one) for one in numbers):
        raise ConfigError(f"{name}: expected one or more numbers, got {value!r}. {info.help}")
    return tuple(map(float, numbers))


def _words(name: str, value: Any, info: Param) -> tuple[str, ...]:
    """A tuple of the words that can be chosen from, from one or a list of them."""
    words = (value,) if isinstance(value, str) else value if isinstance(value, tuple | list) else ()
    if not words or any(word not in info.choices for word in words):
        raise ConfigError(f"{name}: expected some of {', '.join(info.choices)}; got {value!r}.")
    return tuple(words)


def _inside(value: float, info: Param) -> bool:
    """False for NaN too, whatever the range."""
    return (
        (info.ge if info.ge is not None else -float("inf"))
        <= value
        <= (info.le if info.le is not None else float("inf"))
    )


def range_text(info: Param) -> str:
    """The range or the choices of a value in words; empty where everything is allowed."""
    if info.choices:
        return " | ".join(info.choices)
    if info.words:
        return " | ".join([range_text(replace(info, words=())), *info.words])
    low, high = (f"{bound:g}" if bound is not None else "" for bound in (info.ge, info.le))
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}" if high else ""
