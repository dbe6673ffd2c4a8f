"""Lengths are those of the task's data where they are at hand, for both models, else stated assumptions."""

from pathlib import Path

from ray_bridge.config.presets import paper
from ray_bridge.footprint.lengths import assume, at_hand, text_lengths
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.tasks.splits import load_splits
from tests.support.local_jobs import small_spec
from tests.support.model_pairs import PairFolders


def test_lengths_are_those_of_the_encoded_examples(folders: PairFolders) -> None:
    spec = small_spec(folders, num_fewshot=2)
    assert at_hand(spec)
    lengths = text_lengths(spec, (spec.source, spec.target))
    splits = load_splits(spec)
    source, target = FrozenLM.load(spec.source), FrozenLM.load(spec.target)
    encoder = Encoder(spec, splits.task, splits.header, source, target, written_header=splits.written_header)
    examples = [*splits.train, *splits.validation, *splits.test]
    items = encoder(examples)
    longest = {
        spec.source: max(len(item.source_ids) for item in items),
        spec.target: max(len(item.text_row.prompt) for item in items),
    }
    answers = max(len(item.text_row.answer) for item in encoder([*splits.train, *splits.validation]))
    for name, expected in longest.items():
        found = lengths[name]
        assert found is not None
        assert found.measured
        assert expected <= found.header + found.prompt <= expected + 3  # joined texts may merge a token
    own = lengths[spec.target]
    assert own is not None
    assert answers <= own.answer <= answers + 2
    rows = [encoder.text_bridge_row(example, "") for example in examples]
    written = max(len(row.prompt) for row in rows)
    assert written <= own.header + own.written + own.prompt <= written + 4


def test_data_of_the_hub_are_assumed() -> None:
    spec = paper()
    assert not at_hand(spec)
    assert at_hand(spec.replace(task_data=str(Path.cwd())))
    lengths = assume(spec)
    assert not lengths.measured
    assert "assumed for gsm8k" in lengths.source
    assert 1300 < lengths.header < 1600
    assert assume(spec.replace(task="mmlu_redux", num_fewshot=0)).header == 1


def test_a_model_that_is_not_here_has_no_lengths(folders: PairFolders) -> None:
    spec = small_spec(folders).replace(target="nobody/has-this-model")
    lengths = text_lengths(spec, (spec.source, spec.target))
    assert lengths[spec.source] is not None
    assert lengths[spec.target] is None
