# SPDX-License-Identifier: MIT
"""Values on the command line are the same for every command, and a wrong one is named with its argument."""

import pytest

from netvlad_ros import cli
from netvlad_ros.commands.values import ANY_SIZE, parse_size, parse_size_or_any

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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "render town -o out --seed -1",
            "argument --seed: expected a whole number from 0 on, got -1",
        ),
        (
            "render town -o out --laps 0",
            "argument --laps: expected a whole number from 1 on, got 0",
        ),
        ("render town -o out --step nan", "argument --step: expected a number above 0, got nan"),
        ("search a b -n many", "argument -n: expected a whole number from 1 on, got many"),
        ("search a b --every -1", "argument --every: expected a number of at least 0, got -1"),
    ],
)
def test_a_wrong_number_is_named_with_what_was_expected(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(words.split())
    assert capsys.readouterr().err.endswith(f"{message}\n")
