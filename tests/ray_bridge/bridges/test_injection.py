"""Injections: at the start the target alone, open ones change what they should, and nothing depends on the batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bridge_common.errors import UserError
from bridge_common.files import read_log
from ray_bridge.bridges.translator import TranslatorModule, build_translator
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import tiny, tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.generation.generate import decode_rows
from ray_bridge.inputs.layout import assemble
from ray_bridge.inputs.resample import resample
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.objectives.answer_kl import misaligned_positions
from ray_bridge.objectives.objective import backward, objective_terms
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.splits import Splits, load_splits
from ray_bridge.training.session import LocalSession
from ray_bridge.training.trainer import Trainer
from tests.support.model_pairs import Arch, PairFolders, make_pair

CASES = [("residual", "llama"), ("adapter", "llama"), ("adapter", "gpt_neox")]
cases = pytest.mark.parametrize(("injection", "arch"), CASES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PairFolders]:
    arches: tuple[Arch, ...] = ("llama", "gpt_neox")
    return {arch: make_pair(tmp_path_factory.mktemp(arch), target_arch=arch) for arch in arches}


def bench(pair: PairFolders, injection: str, **changes: Any) -> tuple[JobSpec, Splits, ModelPair, TranslatorModule]:
    sizes = {"soft_tokens": 3, "hidden_size": 16, "num_heads": 2, "depth": 1, "max_new_tokens": 5}
    data = {"train_examples": 6, "validation_examples": 2, "test_examples": 5, "decode_aware": False}
    spec = tiny(**({"source": pair.source, "target": pair.target, "injection": injection} | sizes | data | changes))
    splits = load_splits(spec)
    loaded = ModelPair.load(spec, splits, torch.device("cpu"))
    return spec, splits, loaded, build_translator(spec, loaded.source, loaded.target)


def open_gates(translator: TranslatorModule, gate: float = 1.5) -> None:
    noise = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in translator.bridge.parameters():  # as after training: its output depends on its input
            parameter.add_(torch.randn(parameter.shape, generator=noise))
        for name, parameter in translator.injection.named_parameters():
            if name.endswith("gate"):
                assert parameter == 0
                parameter.fill_(gate)


def step_of(spec: JobSpec, splits: Splits, pair: ModelPair, translator: TranslatorModule) -> StepContext:
    source = read_source(pair.source, pair.encoder(splits.train), spec.source_layer)
    return StepContext(spec, pair.target, translator, source, StepKey(seed=0, step=0), Worker())


def texts(
    pair: ModelPair, splits: Splits, translator: TranslatorModule, batch: int, names: Sequence[str]
) -> dict[str, list[str]]:
    evaluator = Evaluator(pair.for_evaluation(), Worker(), batch, NodeCache(None))
    samples = evaluator.evaluate(splits.test, translator.double(), names)
    return {name: [row[f"{name}_output"] for row in samples] for name in names}


@cases
def test_at_the_start_the_target_answers_as_it_does_alone(
    folders: dict[str, PairFolders], injection: str, arch: str
) -> None:
    spec, splits, pair, translator = bench(folders[arch], injection)
    step = step_of(spec, splits, pair, translator)
    assert torch.equal(step.student_hidden, step.teacher_hidden)
    outputs_of = texts(pair, splits, translator, 64, ["bridged", "target_alone", "random_soft"])
    assert outputs_of["bridged"] == outputs_of["target_alone"] == outputs_of["random_soft"]


@cases
def test_an_open_injection_changes_the_answer_whatever_the_batch(
    folders: dict[str, PairFolders], injection: str, arch: str
) -> None:
    _, splits, pair, translator = bench(folders[arch], injection)
    open_gates(translator)
    names = ["bridged", "target_alone", "shuffled_soft", "random_soft"]
    outputs_of = texts(pair, splits, translator, 64, names)
    assert len({tuple(outputs) for outputs in outputs_of.values()}) == len(names)
    assert texts(pair, splits, translator, 1, ["bridged"])["bridged"] == outputs_of["bridged"]


@pytest.mark.parametrize("fewshot", [0, 2])
@pytest.mark.parametrize("place", ["first", "before_question"])
def test_the_residual_is_added_to_the_question(folders: dict[str, PairFolders], fewshot: int, place: str) -> None:
    spec, splits, pair, _ = bench(folders["llama"], "residual", num_fewshot=fewshot, soft_position=place)
    items = pair.encoder(splits.train)
    soft = torch.randn(len(items), 3, 32)
    rows = [item.row for item in items]
    changed, plain = (
        assemble(pair.target, rows, SoftContext(tokens=z), pad="right").embeds for z in (soft, torch.zeros_like(soft))
    )
    text = assemble(pair.target, [item.text_row for item in items], None, pad="right")
    torch.testing.assert_close(plain, text.embeds)
    for i, item in enumerate(items):
        touched = (changed[i] != plain[i]).any(-1).nonzero()[:, 0]  # (n,)
        assert touched.tolist() == list(range(int(touched[0]), int(touched[-1]) + 1))
        ids = (item.text_row.before + item.text_row.prompt)[int(touched[0]) : int(touched[-1]) + 1]
        spelled = pair.target.tokenizer.decode(ids)
        assert item.example.question in spelled
        assert len(spelled) <= len(item.example.question) + 2
        added = (changed - plain)[i][touched]  # (n, d_t)
        torch.testing.assert_close(added, resample(soft[i], len(touched)), atol=1e-5, rtol=1e-4)
    assert spec.inserted == 0


def test_the_misaligned_kl_starts_after_the_inserted_tokens(folders: dict[str, PairFolders]) -> None:
    for injection, inserted in (("prepend", 3), ("residual", 0)):
        spec, splits, pair, translator = bench(folders["llama"], injection, kl_alignment=False)
        _, student_at, teacher_at = misaligned_positions(step_of(spec, splits, pair, translator))
        assert (student_at - teacher_at).unique().tolist() == [1 + inserted]


def test_adapters_are_in_the_given_layers(folders: dict[str, PairFolders]) -> None:
    _, splits, pair, translator = bench(folders["llama"], "adapter", adapter_layers="2")
    open_gates(translator)
    rows = [item.text_row for item in pair.encoder(splits.train)]
    target, batch = pair.target, assemble(pair.target, rows, None, pad="right")
    states: list[Tensor] = []

    def run(context: SoftContext | None) -> list[Tensor]:
        states.clear()
        hooks = [
            layer.register_forward_pre_hook(lambda _m, inputs: states.append(inputs[0])) for layer in target.layers
        ]
        with torch.no_grad():
            states.append(target.hidden(batch.embeds, batch.mask, batch.positions, context=context))
        for hook in hooks:
            hook.remove()
        return list(states)

    plain, changed = run(None), run(translator.injection(torch.randn(len(rows), 3, 32)))
    assert [torch.equal(a, b) for a, b in zip(plain, changed, strict=True)] == [True, True, False, False]
    for states_before, states_after in zip(plain, run(None), strict=True):  # no adapter stays in a layer
        assert torch.equal(states_before, states_after)


def test_rows_that_go_on_keep_their_own_soft_tokens(
    folders: dict[str, PairFolders], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, splits, pair, translator = bench(folders["llama"], "adapter", eval_dtype="as_trained")
    open_gates(translator)
    target = pair.for_evaluation().target
    rows = [item.row.without_answer() for item in pair.encoder(splits.train)]
    soft = translator.injection(3 * torch.randn(len(rows), 3, 32, generator=torch.Generator().manual_seed(1)))
    first = decode_rows(target, rows, soft, 1)
    ends = next(ids[0] for ids in first if 0 < sum(other == ids for other in first) < len(rows))
    monkeypatch.setattr(target, "ends", frozenset({ends}))  # some rows end at once, others go on
    together = decode_rows(target, rows, soft, 6)
    alone = [decode_rows(target, [row], soft.rows([i]), 6)[0] for i, row in enumerate(rows)]
    assert together == alone
    lengths = [len(ids) for ids in together]
    assert lengths.index(1) < max(i for i, length in enumerate(lengths) if length > 1)  # a later row moved up


def test_header_states_are_not_reused_under_adapters(folders: dict[str, PairFolders]) -> None:
    """Training reads whole rows; decoding must give what they give, header included."""
    changes = {"num_fewshot": 2, "soft_position": "before_question", "eval_dtype": "as_trained"}
    spec, splits, pair, translator = bench(folders["llama"], "adapter", **changes)
    open_gates(translator)
    evaluator = Evaluator(pair, Worker(), 64, NodeCache(None))
    written = evaluator.evaluate(splits.test[:2], translator, ["bridged"])
    items = pair.encoder(splits.test[:2])
    soft = evaluator.soft(items, translator)
    batch = assemble(pair.target, [item.row.without_answer() for item in items], soft, pad="right")
    with torch.no_grad():
        hidden = pair.target.hidden(batch.embeds, batch.mask, batch.positions, context=batch.context)
    for i, row in enumerate(written):
        first = int(pair.target.logits(hidden[i, int(batch.answer_start[i]) - 1]).argmax())
        text = pair.target.tokenizer.decode([first], skip_special_tokens=True)
        assert row["bridged_output"].startswith(text) or "\ufffd" in text
    assert spec.soft_position == "before_question"


@cases
@pytest.mark.parametrize("aligned", [True, False])
def test_every_parameter_of_an_open_injection_learns(
    folders: dict[str, PairFolders], injection: str, arch: str, aligned: bool
) -> None:
    spec, splits, pair, translator = bench(folders[arch], injection, kl_alignment=aligned)
    parameters = list(translator.injection.parameters())
    for gates_open in (False, True):
        if gates_open:
            open_gates(translator, 0.5)
        step = step_of(spec, splits, pair, translator)
        losses = backward(step, objective_terms(spec), parameters)
        assert losses.total > 0
        for name, parameter in translator.injection.named_parameters():
            if gates_open or name.endswith("gate"):
                assert parameter.grad is not None, name
                assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("injection", "decode_aware"),
    [pytest.param("adapter", False, marks=pytest.mark.slow), ("adapter", True), ("residual", True)],
)
def test_a_job_opens_the_gates(
    folders: dict[str, PairFolders], injection: str, decode_aware: bool, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    changes = {"steps": 3, "eval_every": 3, "batch_size": 2, "warmup_steps": 0, "decode_aware": decode_aware}
    spec, *_ = bench(folders["llama"], injection, **changes)
    trainer = Trainer(spec, tiny_run(workers=1), tmp_path, LocalSession(tmp_path), None)
    trainer.run()
    gates = [p for name, p in trainer.translator.injection.named_parameters() if name.endswith("gate")]
    assert all(float(gate.detach()) != 0 for gate in gates)
    values = [event["values"] for event in read_log(tmp_path / "events.jsonl") if event["kind"] == "metrics"]
    assert any("loss/on_policy_distill" in named for named in values) == decode_aware


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"injection": "residual", "layout": "soft_only"}, "soft_plus_text"),
        ({"adapter_layers": "1"}, "injection adapter"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**changes)


def test_a_layer_that_does_not_exist_is_refused(folders: dict[str, PairFolders]) -> None:
    with pytest.raises(UserError, match="layers 1 to 3"):
        bench(folders["llama"], "adapter", adapter_layers="1,4")
