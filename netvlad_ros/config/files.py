# SPDX-License-Identifier: MIT
"""Configuration as text: the YAML file that ROS nodes and the command line share, and NAME=VALUE words."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from netvlad_ros.config import (
    Config,
    Section,
    parameter_names,
    parameters,
    range_text,
    sections_of,
)
from netvlad_ros.errors import ConfigError

# A ROS parameter file wraps its values in these two keys, so ours does too.
_ROS_KEYS = ("/**", "ros__parameters")
# Values in a ROS parameter file that are rclpy's own.
ROS_OWN_PARAMETERS = ("use_sim_time", "qos_overrides", "start_type_description_service")


def load_config(path: str | Path | None = None, assignments: Iterable[str] = ()) -> Config:
    """Defaults, overlaid by a YAML file, overlaid by `section.name=value` words.

    Raises ConfigError for a file that can't be read, an unknown name or an impossible value.
    """
    return from_values(read_values(path, assignments))


def read_values(path: str | Path | None, assignments: Iterable[str]) -> dict[str, Any]:
    """`section.name` -> value, from a YAML file, overlaid by `section.name=value` words.

    Raises ConfigError for a file that can't be read, an unknown name or an impossible value.
    """
    values = _read_yaml(Path(path)) if path else {}
    for word in assignments:
        name, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(
                f"--set {word}: expected section.name=value, such as candidates.min_similarity=0.85."
            )
        values[name.strip()] = _scalar(text, word)
    return values


def from_values(values: Mapping[str, Any], kind: Any = Config) -> Any:
    """A Config, or another kind of configuration, from `section.name` -> value. Raises ConfigError."""
    sections: dict[str, dict[str, Any]] = {section: {} for section in sections_of(kind)}
    for full_name, value in values.items():
        refuse_unknown(full_name, kind)
        section, name = full_name.split(".", 1)
        sections[section][name] = value
    return kind(
        **{section: make_section(section, given, kind) for section, given in sections.items()}
    )


def make_section(section: str, values: Mapping[str, Any], kind: Any = Config) -> Any:
    """One section from its values; an error names the section too."""
    try:
        return sections_of(kind)[section](**values)
    except ConfigError as error:
        raise ConfigError(f"{section}.{error}") from None


def refuse_unknown(full_name: str, kind: Any = Config) -> None:
    """Raises ConfigError for a name that no section has, with the nearest one that exists."""
    known = parameter_names(kind)
    if full_name in known:
        return
    near = difflib.get_close_matches(full_name, known, n=1)
    listing = "`netvlad config` lists" if kind is Config else "`netvlad train --print-config` lists"
    hint = f"did you mean {near[0]}?" if near else f"{listing} all there are."
    raise ConfigError(f"unknown parameter {full_name!r}; {hint}")


def to_yaml(config: Config) -> str:
    """The whole configuration as a commented YAML file for ROS and the command line."""
    lines = [f"{_ROS_KEYS[0]}:", f"  {_ROS_KEYS[1]}:"]
    lines += [f"    {line}" for line in section_lines(config)]
    return "\n".join(lines) + "\n"


def section_lines(config: Any) -> Iterator[str]:
    """The lines of all sections of a Config, or of another kind of configuration."""
    for section in sections_of(config):
        part: Section = getattr(config, section)
        yield f"{section}:  # {(part.__doc__ or '').strip()}"
        for name, value, info in parameters(part):
            allowed = range_text(info)
            note = f"  [{allowed}]" if allowed else ""
            yield f"  # {info.help}{note}"
            yield f"  {name}: {_yaml_scalar(value)}"


def _yaml_scalar(value: Any) -> str:
    # Strings in quotes: ROS takes a plain 1e5 for a number, and long plain ones would be wrapped.
    style = '"' if isinstance(value, str) else None
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_style=style, default_flow_style=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _read_yaml(path: Path) -> dict[str, Any]:
    """The values of a file under flat `section.name` keys, without what belongs to rclpy."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: can't read the configuration file ({error.strerror})."
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # such as a date of month 13, or no UTF-8
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    for key in _ROS_KEYS:
        if isinstance(content, dict) and key in content:
            _refuse_beside(path, key, content)
            content = content[key]
    if not isinstance(content, dict | None):
        raise ConfigError(
            f"{path}: expected sections such as `candidates:`, got {type(content).__name__}."
        )
    flat = _flatten(content or {})
    return {
        name: value for name, value in flat.items() if name.split(".")[0] not in ROS_OWN_PARAMETERS
    }


def _refuse_beside(path: Path, key: str, content: Mapping[Any, Any]) -> None:
    others = [other for other in content if other != key]
    if others:
        raise ConfigError(
            f"{path}: expected all values under {key!r}, got {others[0]!r} beside it, which only ROS can "
            f"tell apart; move its values under {_ROS_KEYS[0]!r}."
        )


def _flatten(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _scalar(text: str, word: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # such as a date of month 13
        raise ConfigError(f"--set {word}: {text!r} is not a YAML value.") from None
    return "" if value is None else value
