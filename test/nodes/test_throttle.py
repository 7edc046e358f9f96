# SPDX-License-Identifier: MIT
"""What is wrong is logged at once, and then less and less often."""

import pytest

from netvlad_ros.nodes.throttle import Throttle, cut


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("netvlad_ros.nodes.throttle.time.monotonic", lambda: now[0])
    return now


def passed(clock: list[float], until_s: int, sentence: str) -> list[int]:
    """The seconds at which a sentence passes that is said once a second."""
    times, throttle_ = [], Throttle()
    for second in range(until_s):
        clock[0] = float(second)
        if throttle_.passes("image", sentence.format(second=second)):
            times.append(second)
    return times


def test_the_same_sentence_passes_less_and_less_often(clock: list[float]) -> None:
    assert passed(clock, 2000, "dark") == [0, 10, 30, 70, 150, 310, 630, 1230, 1830]


def test_another_sentence_of_a_kind_waits_a_second(clock: list[float]) -> None:
    assert passed(clock, 3, "dark since {second} s") == [0, 1, 2]


def test_what_was_over_and_comes_again_is_news(clock: list[float]) -> None:
    one = Throttle()
    assert one.passes("image", "dark")
    assert not one.passes("image", "dark")
    assert one.passes("stamp", "dark")
    one.forget("image")
    assert one.passes("image", "dark")


def test_long_texts_are_cut_in_the_middle() -> None:
    text = cut("robot" * 200_000)
    assert len(text) < 600
    assert text.startswith("robot")
    assert "999500 characters" in text
    assert cut("robot") == "robot"
