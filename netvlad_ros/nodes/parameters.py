# SPDX-License-Identifier: MIT
"""The sections of the configuration as ROS parameters, with descriptions, ranges and changes at run time."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from netvlad_ros.config import SECTIONS, Config, Param, parameters, range_text
from netvlad_ros.config.files import ROS_OWN_PARAMETERS, make_section, refuse_unknown
from netvlad_ros.errors import ConfigError

_MAX_INTEGER = 2**63 - 1
_FLOATS = {
    f"{section}.{name}"
    for section, kind in SECTIONS.items()
    for name, default, _ in parameters(kind)
    if isinstance(default, float)
}


class NodeParameters:
    """Declares the sections a node uses and keeps `config` up to date."""

    def __init__(
        self, node: Node, sections: Sequence[str], on_change: Callable[[Config], None]
    ) -> None:
        """on_change is called after each accepted change. Raises ConfigError for what the user got wrong."""
        _refuse_unknown_overrides(node)
        self.config = replace(
            Config(), **{section: _declared(node, section) for section in sections}
        )
        self._on_change = on_change
        node.add_pre_set_parameters_callback(_with_floats)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._apply)

    def _check(self, changed: list[Parameter]) -> SetParametersResult:
        try:
            self._changed(changed)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, changed: list[Parameter]) -> None:
        self.config = self._changed(changed)
        self._on_change(self.config)

    def _changed(self, changed: list[Parameter]) -> Config:
        config = self.config
        for parameter in changed:
            section, _, name = parameter.name.partition(".")
            if section in SECTIONS:
                values = {each: value for each, value, _ in parameters(getattr(config, section))}
                config = replace(
                    config, **{section: make_section(section, values | {name: parameter.value})}
                )
        return config


def _declared(node: Node, section: str) -> Any:
    """The section with the values that the node was started with."""
    values = {}
    for name, default, info in parameters(SECTIONS[section]):
        full_name = f"{section}.{name}"
        if isinstance(default, float):
            _accept_whole_number(node, full_name)
        try:
            values[name] = node.declare_parameter(
                full_name, default, _descriptor(default, info)
            ).value
        except InvalidParameterTypeException:
            given = node._parameter_overrides[full_name].value
            expected = f"{type(default).__name__}, such as {default!r}"
            raise ConfigError(
                f"{full_name}: expected {expected}, got {given!r}. {info.help}"
            ) from None
        except InvalidParameterValueException:
            given = node._parameter_overrides[full_name].value
            raise ConfigError(
                f"{full_name}: expected {range_text(info)}, got {given!r}. {info.help}"
            ) from None
    return make_section(section, values)


def _accept_whole_number(node: Node, full_name: str) -> None:
    """YAML's 30 is an integer, which rclpy refuses where 30.0 is expected."""
    given = node._parameter_overrides.get(full_name)
    if given is not None and given.type_ == Parameter.Type.INTEGER:
        node._parameter_overrides[full_name] = Parameter(full_name, value=float(given.value))


def _with_floats(changed: list[Parameter]) -> list[Parameter]:
    """The same at run time: `ros2 param set` takes 1 for an integer."""
    return [
        Parameter(each.name, value=float(each.value))
        if each.type_ == Parameter.Type.INTEGER and each.name in _FLOATS
        else each
        for each in changed
    ]


def _descriptor(default: Any, info: Param) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=info.help, read_only=not info.live, dynamic_typing=bool(info.words)
    )
    if info.words:
        descriptor.additional_constraints = range_text(info)
        return descriptor
    if info.choices:
        descriptor.additional_constraints = "one of " + ", ".join(info.choices)
    if info.ge is None or info.le is None:
        return descriptor
    if isinstance(default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=info.ge, to_value=info.le)]
    elif isinstance(default, int):
        descriptor.integer_range = [
            IntegerRange(from_value=int(info.ge), to_value=min(int(info.le), _MAX_INTEGER))
        ]
    return descriptor


def _refuse_unknown_overrides(node: Node) -> None:
    """rclpy ignores values for parameters that nobody declares; a slip in a name would go unnoticed.

    One file serves all nodes, so the sections of the others are in order.
    """
    for name in node._parameter_overrides:  # rclpy has no public way to ask for these
        if name.split(".")[0] not in ROS_OWN_PARAMETERS:
            refuse_unknown(name)
