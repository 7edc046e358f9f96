# SPDX-License-Identifier: MIT
"""What a user may set, sees and is told: parameters at start and while running."""

from pathlib import Path

import pytest
from live_nodes import NodeProcess, Start

from netvlad_ros.config import parameter_names

pytestmark = pytest.mark.needs("rclpy")

NODES = ("descriptor_node", "keyframe_database_node", "loop_closure_node")
CONFIG = Path(__file__).resolve().parents[2] / "config" / "place_recognition.yaml"


@pytest.fixture(scope="module")
def node(start_shared: Start) -> NodeProcess:
    node = start_shared("loop_closure_node")
    node.until_ready()
    return node


@pytest.fixture(scope="module")
def all_nodes(start_shared: Start, model: Path) -> NodeProcess:
    """The three nodes in one process, with the configuration file that the launch file takes."""
    nodes = start_shared(
        "place_recognition",
        {"extractor.model": str(model)},
        arguments=("--params-file", str(CONFIG)),
    )
    nodes.until_ready(*NODES)
    return nodes


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("candidates.min_simlarity", 0.5, "did you mean candidates.min_similarity?"),
        ("candidates.min_similarity", "high", "expected -1 to 1 | model, got 'high'"),
        ("candidates.min_similarity", 1.5, "expected -1 to 1 | model, got 1.5"),
        ("candidates.min_precision", "high", "expected float, such as 0.5, got 'high'"),
        ("candidates.min_precision", 0.4, "expected 0.5 to 1, got 0.4"),
        ("candidates.max_candidates", 0, "expected 1 to 1000, got 0"),
        ("use_sim_time", "maybe", "use_sim_time"),
        ("qos_overrides./r/keyframe_matches.subscription.reliability", "some", "best_effort"),
        ("qos_overrides./r/keyframe_matches.subscription.depth", "some", "a positive depth"),
        ("qos_overrides./r/keyframe_matches.subscription.depth", -3, "a positive depth"),
    ],
)
def test_a_wrong_parameter_ends_the_node_with_one_sentence_that_names_it(
    name: str, value: object, words: str, start: Start
) -> None:
    node = start("loop_closure_node", {name: value}, namespace="/r")
    _ends_with_one_sentence(node, name.rsplit(".", 1)[0], words)


def test_a_whole_number_is_accepted_where_a_fraction_is_possible(start: Start) -> None:
    node = start("loop_closure_node", {"database.exclude_recent_s": 20})
    node.until_ready()
    assert node.end() == 0


def test_a_parameter_file_that_can_not_be_read_ends_the_node_with_one_sentence(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "missing.yaml"
    node = start("loop_closure_node", arguments=("--params-file", str(path)))
    _ends_with_one_sentence(node, str(path), "--ros-args")


def _ends_with_one_sentence(node: NodeProcess, *words: str) -> None:
    assert node.exit_code() == 1
    (line,) = node.lines("FATAL")
    assert "Traceback" not in node.output
    assert all(word in line for word in words), line


@pytest.mark.needs("gtsam")
def test_every_value_of_the_configuration_is_a_parameter_with_a_description(
    all_nodes: NodeProcess, start: Start
) -> None:
    start("pose_graph_node", namespace=all_nodes.namespace)
    found = set()
    for node in (*NODES, "pose_graph_node"):
        names = [name for name in all_nodes.parameter_names(node) if name in parameter_names()]
        assert all(each.description for each in all_nodes.describe(names, node))
        found.update(names)
    assert found == set(parameter_names())


def test_ranges_choices_and_what_is_read_only_can_be_seen(
    all_nodes: NodeProcess,
) -> None:
    similarity, precision, period, count = all_nodes.describe(
        [
            "candidates.min_similarity",
            "candidates.min_precision",
            "diagnostics.period_s",
            "candidates.max_candidates",
        ],
        "loop_closure_node",
    )
    assert similarity.additional_constraints == "-1 to 1 | model"
    (span,) = precision.floating_point_range
    assert (span.from_value, span.to_value) == (0.5, 1.0)
    assert (similarity.read_only, period.read_only) == (False, True)
    (whole,) = count.integer_range
    assert (whole.from_value, whole.to_value) == (1, 1000)
    (device,) = all_nodes.describe(["extractor.device"], "descriptor_node")
    assert device.additional_constraints == "one of auto, cpu, gpu"


def test_a_change_out_of_range_is_refused_with_the_reason(node: NodeProcess) -> None:
    result = node.set("candidates.min_precision", 1.5)
    assert not result.successful
    assert "candidates.min_precision out of range" in result.reason


def test_a_change_of_another_type_is_refused_with_the_reason(node: NodeProcess) -> None:
    result = node.set("candidates.min_precision", "high")
    assert not result.successful
    assert "Wrong parameter type" in result.reason


@pytest.mark.parametrize("value", [0.4, 1, -1, "model"])
def test_a_number_of_either_type_or_a_word_is_taken_where_both_are_possible(
    value: object, node: NodeProcess
) -> None:
    assert node.set("candidates.min_similarity", value).successful


@pytest.mark.parametrize(
    ("value", "got"),
    [("high", "'high'"), (1.5, "1.5"), (-2, "-2"), (True, "True"), ("0.4", "'0.4'")],
)
def test_neither_a_possible_number_nor_the_word_is_refused_with_both(
    value: object, got: str, node: NodeProcess
) -> None:
    result = node.set("candidates.min_similarity", value)
    assert not result.successful
    assert f"candidates.min_similarity: expected -1 to 1 | model, got {got}." in result.reason


@pytest.mark.parametrize("value", [0.4, 1, "model"])
def test_a_node_starts_with_a_number_of_either_type_or_a_word(value: object, start: Start) -> None:
    node = start("loop_closure_node", {"candidates.min_similarity": value})
    node.until_ready()
    assert node.end() == 0


def test_what_is_fixed_at_start_can_not_be_changed(node: NodeProcess) -> None:
    result = node.set("diagnostics.period_s", 5.0)
    assert not result.successful
    assert "read-only" in result.reason


@pytest.mark.parametrize(
    ("name", "node_name", "value"),
    [
        ("extractor.min_contrast", "descriptor_node", 3.0),
        ("keyframes.min_interval_s", "keyframe_database_node", 2.0),
        ("database.max_matches", "keyframe_database_node", 7),
        ("candidates.min_similarity", "loop_closure_node", 0.7),
        ("diagnostics.silence_s", "keyframe_database_node", 9.0),
    ],
)
def test_what_may_change_while_running_can(
    name: str, node_name: str, value: object, all_nodes: NodeProcess
) -> None:
    assert all_nodes.set(name, value, node_name).successful


def test_a_whole_number_is_taken_for_a_float_at_run_time_too(start: Start) -> None:
    node = start("loop_closure_node")
    node.until_ready()
    assert node.set("diagnostics.silence_s", 30).successful
    assert not node.set("diagnostics.silence_s", "long").successful
