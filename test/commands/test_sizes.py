# SPDX-License-Identifier: MIT
"""Sizes on the command line are the same for every command, and what is none is named."""

import pytest

from netvlad_ros import cli
from netvlad_ros.commands.sizes import ANY_SIZE, parse_size, parse_size_or_any

COMMANDS = {
    "info": ["info", "m.keras", "--size"],
    "export": ["export", "m.keras", "-o", "m.xml", "--size"],
    "render": ["render", "room", "-o", "out", "--size"],
    "edit": ["edit", "m.keras", "-o", "n.keras", "--input-size"],
    "show": ["show", "m.keras", "photo.jpg", "--input-size"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("size", ["large", "320", "0x240", "300x0", "99999x9", "-1x5"])
def test_what_is_no_size_is_named_with_its_argument(
    words: list[str], size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main([*words[:-1], f"{words[-1]}={size}"])
    assert end.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {words[-1]}: expected WIDTHxHEIGHT in pixels" in message
    assert message.endswith(f"got {size}")


def test_a_size_is_width_and_height() -> None:
    assert parse_size("320x240") == parse_size_or_any("320x240") == (320, 240)
    assert parse_size_or_any("any") == ANY_SIZE
