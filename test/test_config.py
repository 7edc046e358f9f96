# SPDX-License-Identifier: MIT
"""Every value has a default, a unit and a range, and says so when something else is asked for."""

import dataclasses
import random
import re
from pathlib import Path
from typing import Any

import pytest

from netvlad_ros.config import (
    SECTIONS,
    Config,
    NetworkConfig,
    Param,
    checked,
    parameter_names,
    parameters,
    range_text,
    with_model,
)
from netvlad_ros.config.files import from_values, load_config, make_section, to_yaml
from netvlad_ros.errors import ConfigError

ALL = [
    pytest.param(section, name, value, info, id=f"{section.__name__}.{name}")
    for section in [*SECTIONS.values(), NetworkConfig]
    for name, value, info in parameters(section)
]


@pytest.mark.parametrize(("section", "name", "default", "info"), ALL)
def test_every_value_explains_itself_in_a_sentence(
    section: type, name: str, default: Any, info: Param
):
    assert info.help[0].isupper()
    assert info.help.endswith(".")


@pytest.mark.parametrize(("section", "name", "default", "info"), ALL)
def test_every_default_is_possible(section: type, name: str, default: Any, info: Param):
    assert checked(name, default, section, info) == default


@pytest.mark.parametrize(("section", "name", "default", "info"), ALL)
def test_every_number_has_a_range(section: type, name: str, default: Any, info: Param):
    if type(default) in (int, float):
        assert info.ge is not None
        assert info.le is not None
        assert range_text(info) == f"{info.ge:g} to {info.le:g}"


@pytest.mark.parametrize(("section", "name", "default", "info"), ALL)
def test_a_value_of_another_type_is_refused_with_its_meaning(
    section: type, name: str, default: Any, info: Param
):
    other: Any = True if info.words else 1 if isinstance(default, str) else "word"
    with pytest.raises(ConfigError, match=f"^{name}: expected .*{re.escape(repr(other))}") as error:
        section(**{name: other})
    assert info.help in str(error.value)


def test_units_end_a_name():
    for section in [*SECTIONS.values(), NetworkConfig]:
        for name, _, info in parameters(section):
            for word, ending in (("in seconds", "_s"), ("in pixels", "_px")):
                if word in info.help and not name.startswith("normalise"):
                    assert name.endswith(ending), name


@pytest.mark.parametrize("section", [Config, NetworkConfig, *SECTIONS.values()])
def test_a_configuration_cannot_be_changed(section: type):
    config = section()
    name = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, getattr(config, name))


def test_an_integer_is_taken_for_a_float():
    config = load_config(assignments=["database.exclude_recent_s=20"])
    assert repr(config.database.exclude_recent_s) == "20.0"


def test_a_float_is_not_taken_for_an_integer():
    with pytest.raises(ConfigError, match=r"^database\.max_matches: expected int, got 5\.0"):
        load_config(assignments=["database.max_matches=5.0"])


def test_yes_is_not_taken_for_a_number():
    with pytest.raises(ConfigError, match=r"^database\.max_matches: expected int, got True"):
        load_config(assignments=["database.max_matches=yes"])


@pytest.mark.parametrize("value", ["-1.01", "1.01", ".nan", ".inf", "-.inf", "9" * 400])
def test_a_number_outside_its_range_is_refused_with_the_range(value: str):
    with pytest.raises(
        ConfigError, match=r"^candidates\.min_similarity: expected -1 to 1 \| model, got"
    ):
        load_config(assignments=[f"candidates.min_similarity={value}"])


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_the_ends_of_a_range_belong_to_it(value: float):
    config = from_values({"candidates.min_similarity": value})
    assert config.candidates.min_similarity == value


def test_a_word_that_is_no_choice_is_refused_with_the_choices():
    with pytest.raises(
        ConfigError, match=r"^extractor\.device: expected one of auto, cpu, gpu; got"
    ):
        load_config(assignments=["extractor.device=tpu"])


@pytest.mark.parametrize("values", [(), ("a",), (0.0, float("nan")), (True,), ((1.0,),)])
def test_a_list_of_numbers_holds_finite_numbers(values: tuple):
    with pytest.raises(ConfigError, match=r"^input_offset: expected one or more numbers"):
        NetworkConfig(input_offset=values)


def test_a_list_of_numbers_from_a_file_equals_a_written_one():
    from_json: Any = [103, 116.5, 123]
    assert NetworkConfig(input_offset=from_json) == NetworkConfig(
        input_offset=(103.0, 116.5, 123.0)
    )


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("candidates.min_similarty", "candidates.min_similarity"),
        ("candidate.min_similarity", "candidates.min_similarity"),
        ("min_similarity", "candidates.min_similarity"),
        ("extractor.modle", "extractor.model"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(wrong: str, meant: str):
    sentence = f"unknown parameter {wrong!r}; did you mean {meant}?"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        load_config(assignments=[f"{wrong}=1"])


def test_a_name_like_no_other_is_refused_with_where_to_look():
    with pytest.raises(ConfigError, match=r"unknown parameter 'wheels'; `netvlad config` lists"):
        load_config(assignments=["wheels=4"])


@pytest.mark.parametrize(
    ("word", "name", "value"),
    [
        ("database.path=/maps/a=b c.db", "database.path", "/maps/a=b c.db"),
        ("database.path=", "database.path", ""),
        ("camera.robot='7'", "camera.robot", "7"),
        ("camera.compressed=true", "camera.compressed", True),
        (" candidates.min_similarity =0.9", "candidates.min_similarity", 0.9),
        ("extractor.threads=4", "extractor.threads", 4),
    ],
)
def test_a_word_sets_a_value(word: str, name: str, value: Any):
    assert load_config(assignments=[word]) == from_values({name: value})


def test_the_last_word_wins():
    words = ["extractor.threads=1", "extractor.threads=2"]
    assert load_config(assignments=words).extractor.threads == 2


@pytest.mark.parametrize(
    "word",
    ["extractor.threads", "", "camera.robot=[", "camera.robot={a: 1}", "camera.robot=2026-13-45"],
)
def test_a_word_that_sets_nothing_is_refused(word: str):
    with pytest.raises(ConfigError):
        load_config(assignments=[word])


def test_an_error_in_a_section_names_the_section():
    with pytest.raises(ConfigError, match=r"^keyframes\.min_interval_s: expected 0 to 3600, got"):
        make_section("keyframes", {"min_interval_s": -0.5})


def random_config(rng: random.Random) -> Config:
    """Any possible value in every place."""
    words = [
        "",
        "robot 1",
        "~",
        "yes",
        "1e5",
        "a: b",
        "# c",
        "'\"",
        "ä/ö 🙂",
        "x " * 90,
        " ".join("x" * 90),
        "two\nlines\n",
    ]
    values: dict[str, Any] = {}
    for section, cls in SECTIONS.items():
        for name, default, info in parameters(cls):
            drawn: Any = rng.choice(info.choices or info.words or words)
            if isinstance(default, bool):
                drawn = rng.random() < 0.5
            elif isinstance(default, int):
                drawn = rng.randint(int(info.ge or 0), int(info.le or 0))
            elif isinstance(default, float):
                drawn = rng.choice([rng.uniform(info.ge or 0.0, info.le or 0.0), info.le, info.ge])
            values[f"{section}.{name}"] = drawn
    return from_values(values)


@pytest.mark.parametrize("seed", range(20))
def test_a_configuration_comes_back_from_its_file(seed: int, tmp_path):
    config = random_config(random.Random(seed))
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(file) == config


def test_the_file_explains_every_value():
    text = to_yaml(Config())
    assert text.startswith("/**:\n  ros__parameters:\n")
    for section in SECTIONS.values():
        for name, _, info in parameters(section):
            assert re.search(rf"# {re.escape(info.help)}.*\n +{name}: ", text), name


def test_a_file_overlays_the_defaults_and_words_overlay_the_file(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("extractor: {threads: 3, device: cpu}\n")
    config = load_config(file, ["extractor.threads=5"])
    assert config == from_values({"extractor.threads": 5, "extractor.device": "cpu"})


@pytest.mark.parametrize(
    "text",
    [
        "/**:\n  ros__parameters:\n    extractor:\n      threads: 3\n",
        "/**:\n  ros__parameters:\n    extractor.threads: 3\n",
        "/**:\n  ros__parameters:\n    use_sim_time: true\n    extractor: {threads: 3}\n",
        "/**:\n  ros__parameters: {qos_overrides: {/a: {depth: 1}}, extractor: {threads: 3}}\n",
        "extractor:\n  threads: 3\n",
        "extractor.threads: 3\n",
    ],
)
def test_a_ros_parameter_file_serves_the_library_too(text: str, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert load_config(file) == from_values({"extractor.threads": 3})


@pytest.mark.parametrize("text", ["", "# nothing\n", "/**:\n  ros__parameters:\n", "/**:\n"])
def test_an_empty_file_changes_nothing(text: str, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    assert load_config(file) == Config()


def test_values_for_one_node_are_refused_because_the_library_has_no_nodes(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    extractor: {threads: 3}\n"
        "/descriptor_node:\n  ros__parameters:\n    extractor: {threads: 4}\n"
    )
    with pytest.raises(ConfigError, match=r"config\.yaml: .*'/descriptor_node'.*/\*\*"):
        load_config(file)


@pytest.mark.parametrize(
    "content",
    [b"a: [", b"\xff\xfe\x00", b"- a\n- b\n", b"text", b"/**: 5\n", b"d: 2026-13-45\n", b"\x00"],
)
def test_a_file_that_is_no_configuration_is_refused_with_its_name(content: bytes, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.yaml: "):
        load_config(file)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError, match="can't read the configuration file"):
            load_config(path)


def test_names_are_unique():
    names = parameter_names()
    assert len(names) == len(set(names))
    assert "candidates.min_similarity" in names


def test_another_model_changes_nothing_else():
    config = load_config(assignments=["extractor.threads=2", "candidates.min_similarity=0.5"])
    changed = with_model(config, Path("a/model.keras"))
    assert changed.extractor.model == "a/model.keras"
    assert with_model(changed, "") == config
