"""Lengths of data that are not at hand are stated assumptions."""

from pathlib import Path

from ray_bridge.config.presets import paper
from ray_bridge.footprint.lengths import assume, at_hand


def test_data_of_the_hub_are_assumed() -> None:
    spec = paper()
    assert not at_hand(spec)
    assert at_hand(spec.replace(task_data=str(Path.cwd())))
    lengths = assume(spec)
    assert not lengths.measured
    assert lengths.source == "assumed for gsm8k, whose data are not on this machine"
    assert 1300 < lengths.header < 1600
    assert assume(spec.replace(task="mmlu_redux", num_fewshot=0)).header == 1


def test_a_chat_template_that_is_not_here_is_assumed_and_said_to_be() -> None:
    spec = paper(prompt_format="chat")
    lengths = assume(spec)
    assert not lengths.measured
    assert lengths.source == "assumed for gsm8k, whose data are not on this machine, like the chat template"
    assert lengths.header > assume(paper()).header
    known = assume(spec, turns=7)
    assert known.source == assume(paper()).source
    assert known.header == assume(paper()).header - 1 + 7
