"""Names and values are recorded as MLflow accepts them, and read back unchanged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from bridge_common import metric_names
from mlflow_utils import names


@given(st.text(max_size=300))
def test_every_name_becomes_one_that_mlflow_accepts(name: str) -> None:
    _validate_metric_name(names.metric_name(name))


@pytest.mark.parametrize(
    "name", ["accuracy/bridged", "grad_norm/answer_kl", "lr", metric_names.accuracy("bridged", "transfer")]
)
def test_names_of_this_project_are_kept(name: str) -> None:
    assert names.metric_name(name) == name


@pytest.mark.parametrize("value", [True, False, None, 3, -1, 0.001, 3e-4, 1e22, "text", "1.50", "nan", "", "1_000"])
def test_parameters_are_read_back_with_value_and_type(value: object) -> None:
    back = names.from_text(names.as_text(value))
    assert (back, type(back)) == (value, type(value))


def test_fields_always_shown_come_before_those_that_differ() -> None:
    specs = [{"a": 1, "on": True, "lr": 0.1}, {"a": 1, "on": True, "lr": 0.2, "new": 5}]
    assert names.differing(specs, always=["on", "absent"]) == ["on", "lr", "new"]
    assert names.differing([]) == []


@pytest.mark.parametrize(
    ("name", "recorded"),
    [
        ("a%b", "a_b"),
        ("ä", "_"),
        ("a//b", "a/_/b"),
        ("./..x", "_/..x"),
        ("..x/y", "_x/y"),
        ("x..", "x.."),
        ("a" * 300, "a" * 250),
        ("a b:c-d.e", "a b:c-d.e"),
    ],
)
def test_other_names_are_changed_as_little_as_possible(name: str, recorded: str) -> None:
    assert names.metric_name(name) == recorded


@given(st.text(max_size=240))
def test_a_metrics_name_in_mlflow_is_accepted_and_leads_back(name: str) -> None:
    recorded = names.metric_name(name)
    _validate_metric_name(names.mlflow_metric(recorded))
    assert names.recorded_metric(names.mlflow_metric(recorded)) == recorded


def test_about_fifteen_metrics_are_shown_first_and_all_others_apart() -> None:
    assert 12 <= len(names.HEADLINES) <= 16
    assert names.mlflow_metric("accuracy/bridged") == "accuracy/bridged"
    assert names.mlflow_metric("loss/answer_kl") == "series/loss/answer_kl"
    assert names.mlflow_metric("accuracy/bridged/transfer") == "detail/accuracy/bridged/transfer"


def test_where_an_earlier_version_began_a_run_the_newer_value_counts() -> None:
    assert names.recorded_metrics({"detail/flexible/bridged": 0.7, "flexible/bridged": 0.1, "zeta": 1.0}) == {
        "flexible/bridged": 0.7,
        "zeta": 1.0,
    }


def test_a_text_that_is_cut_says_so() -> None:
    assert names.cut("short", 6000) == "short"
    long = names.cut("x" * 7000, 6000)
    assert (len(long), long.endswith("x [cut: 7000 characters]")) == (6000, True)
