"""Diagnosis of a finished trial against what a few lines of plain transformers say about it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bridge_common.errors import UserError
from bridge_common.files import read_jsonl, write_json
from bridge_common.visible_text import visible
from ray_bridge.bridges.injection import Injection
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.evaluation.diagnose import diagnose, diagnose_example, render
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.tasks.synthetic.task import SyntheticTask
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.model_pairs import Arch, PairFolders, frozen


@pytest.fixture(scope="module")
def trial(folders: PairFolders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trial")
    spec = tiny(
        **{"source": folders.source, "target": folders.target, "steps": 2, "eval_every": 2, "batch_size": 2},
        **{"soft_tokens": 3, "hidden_size": 16, "num_heads": 2, "depth": 1, "max_new_tokens": 4},
        **{"train_examples": 4, "validation_examples": 2, "test_examples": 5, "decode_aware": False},
    )
    torch.set_num_threads(1)
    Trainer(spec, tiny_run(workers=1), folder, LocalSession(folder), None).run()
    write_json(folder / "spec.json", {"variant": "full", "spec": spec.model_dump()})
    return folder


def test_a_trial_is_shown_as_it_was_scored(trial: Path) -> None:
    diagnoses = diagnose(trial, count=3)
    samples = read_jsonl(trial / "samples.jsonl")[:3]
    assert [one.id for one in diagnoses] == [row["id"] for row in samples]
    for one, row in zip(diagnoses, samples, strict=True):
        assert one.outputs == {name: row[f"{name}_output"] for name in one.outputs}
        assert set(one.outputs) == {key.removesuffix("_output") for key in row if key.endswith("_output")}
        assert max(one.rms) == pytest.approx(min(one.rms))
    text = render(diagnoses)
    for row in samples:
        assert row["question"] in text
        assert all(visible(line) in text for line in row["bridged_output"].strip().splitlines())


def test_codes_that_a_model_wrote_reach_no_terminal(trial: Path) -> None:
    (one,) = diagnose(trial, count=1)
    assert "bridged␛[2J" in render([replace(one, outputs={"bridged": "bridged\x1b[2J"})])


def test_without_samples_the_conditions_are_decoded(trial: Path, tmp_path: Path) -> None:
    copy = tmp_path / "trial"
    copy.mkdir()
    for name in ("spec.json", "selected"):
        (copy / name).symlink_to(trial / name)
    fresh = {one.id: one for one in diagnose(copy, count=5)}
    assert fresh == {one.id: one for one in diagnose(trial, count=5)}


@pytest.mark.parametrize("injection", ["residual", "adapter"])
def test_soft_tokens_outside_the_sequence_get_no_attention(injection: str) -> None:
    source, target = frozen("mistral", 48), frozen("llama", 32)
    task = SyntheticTask(train_examples=1, test_examples=1)
    spec = tiny(soft_tokens=2, hidden_size=16, num_heads=2, injection=injection, decode_aware=False)
    (item,) = Encoder(spec, task, "", source, target)(task.train())
    module = Injection(spec, target)
    with torch.no_grad():
        for gate in (p for name, p in module.named_parameters() if name.endswith("gate")):
            gate.fill_(1.0)
    opened = diagnose_example(target, item, SoftContext(adapters=module.adapters, tokens=torch.randn(1, 2, 32)), {})
    zeros = diagnose_example(target, item, SoftContext(adapters=module.adapters, tokens=torch.zeros(1, 2, 32)), {})
    assert opened.attention == []
    assert opened.even_attention == 0
    assert opened.entropy_with != opened.entropy_without == zeros.entropy_without
    assert (zeros.entropy_with == pytest.approx(zeros.entropy_without, abs=1e-5)) == (injection == "residual")


@pytest.mark.parametrize(("name", "message"), [("", "spec.json"), ("selected", "checkpoint")])
def test_a_folder_of_no_finished_trial_is_refused(name: str, message: str, tmp_path: Path) -> None:
    if name:
        write_json(tmp_path / "spec.json", {"spec": tiny().model_dump()})
    with pytest.raises(UserError, match=message):
        diagnose(tmp_path)


@pytest.mark.parametrize("arch", ["llama", "gpt_neox", "qwen2"])
def test_numbers_are_those_of_the_model(arch: Arch) -> None:
    source, target = frozen("mistral", 48), frozen(arch, 32)
    task = SyntheticTask(train_examples=1, test_examples=1)
    (item,) = Encoder(tiny(soft_tokens=2), task, "", source, target)(task.train())
    table = target.embedding.weight
    soft = torch.stack([2 * table[9] + 0.01, -table[17]])  # (2, d_t)
    sample: dict[str, Any] = {"bridged_output": "4", "bridged_correct": True}
    usual = target.model.config._attn_implementation
    one = diagnose_example(target, item, SoftContext(tokens=soft[None]), sample)
    assert target.model.config._attn_implementation == usual
    assert one.nearest[0] == target.tokenizer.decode([9])
    cosines = F.cosine_similarity(soft[:, None], table[None], dim=-1).max(1).values
    assert one.cosine == pytest.approx(cosines.tolist(), abs=1e-5)
    assert one.rms[1] == pytest.approx(float(table[17].pow(2).mean().sqrt()) / target.embedding_rms)

    bos, *prompt = item.text_row.prompt
    embeds = torch.cat([table[[bos]], soft, table[prompt]])[None]  # (1, L, d_t)
    target.model.set_attn_implementation("eager")
    with torch.no_grad():
        whole = target.model(inputs_embeds=embeds, output_attentions=True)
        alone = target.model(input_ids=torch.tensor([[bos, *prompt]]))
    target.model.set_attn_implementation(usual)
    for entropy, logits in ((one.entropy_with, whole.logits), (one.entropy_without, alone.logits)):
        assert entropy == pytest.approx(
            float(torch.distributions.Categorical(logits=logits[0, -1]).entropy()), abs=1e-4
        )
    expected = [float(a[0, :, -1, 1:3].sum(-1).mean()) for a in whole.attentions]
    assert one.attention == pytest.approx(expected, abs=1e-5)
    assert one.even_attention == 2 / (len(prompt) + 3)
