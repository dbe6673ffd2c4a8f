"""A toggle is registered once: search space, help, parameters and columns are derived from the registry."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from bridge_common.errors import UserError
from cluster.cli.app import app
from ray_bridge.config.presets import tiny
from tests.support.plugin_modules import registries_kept
from tune_spaces.design import toggles, variants
from tune_spaces.design.toggles import Toggle
from tune_spaces.ray_tune.search_space import search_space


@pytest.fixture
def pooling() -> Iterator[Toggle]:
    """Register a fifth toggle, on a field that is not a boolean."""
    toggle = Toggle(
        key="pool",
        field="pooling",
        on="attention",
        off="mean",
        meaning="attention over source tokens",
        without="their mean",
        reference="a test",
        column="pooling",
    )
    with registries_kept():
        yield toggles.register_toggle(toggle)


def test_a_new_toggle_appears_in_search_space_help_parameters_and_columns(pooling: Toggle) -> None:
    assert sorted(search_space()["pooling"].categories) == ["attention", "mean"]
    shown = " ".join(CliRunner().invoke(app, ["ablate", "--help"]).output.split())
    assert "pool (pooling): on: attention over source tokens; off: their mean. [a test]" in shown
    assert toggles.parameters(vars(tiny(pooling="mean")))["toggle.pool"] == "off"
    assert toggles.columns()["pooling"] == "pooling"


def test_a_new_toggle_joins_the_variants(pooling: Toggle) -> None:
    assert variants.full().changes["pooling"] == "attention"
    assert variants.attribution()["C"].changes["pooling"] == "mean"
    assert len(variants.factorial()) == 2**5
    assert [v.name for v in variants.leave_one_out()][-1] == "no-pool"


def test_the_package_s_own_toggles() -> None:
    assert set(search_space()) == {
        "kl_alignment",
        "prompt_alignment",
        "decode_aware",
        "geometry_projection",
    }
    assert "toggle.pool" not in toggles.parameters(vars(tiny()))


def test_every_toggle_is_a_field_whose_positions_the_spec_accepts() -> None:
    for toggle in toggles.all_toggles():
        for value in (toggle.on, toggle.off):
            assert getattr(tiny(**{toggle.field: value}), toggle.field) == value


def test_unknown_toggle_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="kl, prompt, decode, projection"):
        toggles.find("klx")


def test_positions_of_a_spec() -> None:
    spec = vars(tiny(kl_alignment=False))
    assert toggles.positions(spec)["kl_alignment"] == "off"
    assert toggles.positions(spec)["decode_aware"] == "on"


def test_a_value_that_is_neither_position_is_shown_as_it_is(pooling: Toggle) -> None:
    assert [pooling.position(value) for value in ("attention", "mean", "last", 3)] == ["on", "off", "last", "3"]


def test_settings_may_be_limited_to_some_toggles() -> None:
    kl, prompt = toggles.find("kl"), toggles.find("prompt")
    assert toggles.settings(["kl"], among=[kl, prompt]) == {"kl_alignment": True, "prompt_alignment": False}


def test_help_has_one_paragraph_for_each_toggle() -> None:
    paragraphs = toggles.help_text().split("\n\n")
    assert [text.split(" (", 1)[0] for text in paragraphs] == ["kl", "prompt", "decode", "projection"]
    assert all(text.endswith("]") for text in paragraphs)
