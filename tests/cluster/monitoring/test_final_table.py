"""The table at a campaign's end: one row a variant, whole at 80 columns."""

import importlib.util
import io
from pathlib import Path

import pytest
from rich.console import Console

from cluster.monitoring.final_table import final_table, toggles_in_words
from cluster.monitoring.summary import print_summary
from cluster.monitoring.text import WIDTH
from tests.support.card_campaigns import make_ended
from tune_spaces.design.toggles import all_toggles


def test_every_variant_has_a_row_that_is_whole_at_80_columns(tmp_path: Path) -> None:
    campaign = make_ended(tmp_path, items=100, seeds=(0, 1))
    text = io.StringIO()
    Console(file=text, width=WIDTH).print(final_table(campaign))
    lines = [line for line in text.getvalue().splitlines() if line.strip()]
    assert max(map(len, lines)) <= WIDTH
    names = {trial.variant for trial in campaign.plan.trials.values()}
    assert {line.split()[0] for line in lines[1:]} == names, "a row is one line"
    assert "all but projection" in text.getvalue()


@pytest.mark.parametrize("verbose", [False, True])
def test_conditions_of_each_trial_are_printed_on_request(tmp_path: Path, verbose: bool) -> None:
    campaign = make_ended(tmp_path, items=60, seeds=(0,))
    text = io.StringIO()
    print_summary(campaign, campaign.policy(), Console(file=text, width=120), verbose=verbose)
    assert ("shuffled soft" in text.getvalue()) is verbose or len(campaign.policy().outcomes) == 1
    assert "records:" in text.getvalue()


def test_without_mlflow_the_end_says_how_the_records_get_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = make_ended(tmp_path, items=60, seeds=(0,))

    def end() -> str:
        text = io.StringIO()
        print_summary(campaign, campaign.policy(), Console(file=text, width=120))
        return " ".join(text.getvalue().split())

    assert "tracking: sqlite:" in end()
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mlflow" else find(name, *rest)
    )
    assert "tracking: none, since MLflow is not installed here" in end()
    assert f"cluster report --storage {campaign.storage} --name {campaign.name}" in end()
    assert "cluster ui" not in end()
    assert "sqlite:" not in end()


def test_toggles_in_as_few_words_as_possible() -> None:
    toggles = [toggle for toggle in all_toggles() if toggle.key in ("kl", "prompt", "decode")]
    fields = [toggle.field for toggle in toggles]
    assert toggles_in_words(toggles, frozenset(fields)) == "all on"
    assert toggles_in_words(toggles, frozenset()) == "all off"
    assert toggles_in_words(toggles, frozenset(fields[:2])) == f"all but {toggles[2].key}"
    assert toggles_in_words(toggles, frozenset(fields[:1])) == toggles[0].key
