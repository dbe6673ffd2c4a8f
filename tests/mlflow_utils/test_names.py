"""Names and values as they stand in MLflow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from bridge_common import metric_names
from mlflow_utils import names


@given(st.text(max_size=300))
def test_every_name_becomes_one_that_mlflow_takes(name: str) -> None:
    _validate_metric_name(names.metric_name(name))


@pytest.mark.parametrize(
    "name", ["accuracy/bridged", "grad_norm/answer_kl", "lr", metric_names.accuracy("bridged", "transfer")]
)
def test_our_own_names_stay_as_they_are(name: str) -> None:
    assert names.metric_name(name) == name


@pytest.mark.parametrize("value", [True, False, None, 3, -1, 0.001, 3e-4, 1e22, "text", "1.50", "nan", "", "1_000"])
def test_parameters_come_back_as_what_they_were(value: object) -> None:
    back = names.from_text(names.as_text(value))
    assert (back, type(back)) == (value, type(value))


def test_differing_fields_come_after_those_always_shown() -> None:
    specs = [{"a": 1, "on": True, "lr": 0.1}, {"a": 1, "on": True, "lr": 0.2, "new": 5}]
    assert names.differing(specs, always=["on", "absent"]) == ["on", "lr", "new"]
    assert names.differing([]) == []
