"""The estimate of memory beside counted bytes and measured figures."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from benchmarks.random_models import LENGTHS
from ray_bridge.bridges.translator import build_translator
from ray_bridge.config.presets import paper, paper_run, tiny
from ray_bridge.distributed import Worker
from ray_bridge.footprint.activations import bridge_bytes, kept_bytes, recomputed_bytes, trained_parameters
from ray_bridge.footprint.estimate import estimate_memory, positions_that_fit
from ray_bridge.footprint.lengths import TextLengths, assume
from ray_bridge.footprint.model_shape import ModelShape, read_shape
from ray_bridge.inputs.layout import assemble, common_prefix
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.models.fused_decoder import FusedBody
from ray_bridge.models.fused_layers import why_not_fused
from ray_bridge.models.soft_context import SoftContext
from ray_bridge.models.windows import attends_fully
from ray_bridge.objectives.flow_matching import flow
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.splits import load_splits
from tests.support.architectures import FUSED, exact_lm
from tests.support.decoding_rows import rows_of, tokens_of
from tests.support.model_pairs import PairFolders

GIB = 2**30
RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results"
WITHIN = 0.15


class Kept:
    """Context manager that counts the bytes that its forward pass keeps, each storage once, without the weights'."""

    def __init__(self, *modules: torch.nn.Module) -> None:
        tensors = [t for m in modules for t in (*m.parameters(), *m.buffers())]
        self.own = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self.sizes: dict[int, int] = {}
        self.alive: list[torch.UntypedStorage] = []
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor)

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.own:
            self.sizes[storage.data_ptr()] = storage.nbytes()
            self.alive.append(storage)  # or another may get its address
        return tensor

    def __enter__(self) -> "Kept":
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.hooks.__exit__(*error)

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


def shape_of(lm: FrozenLM) -> ModelShape:
    return ModelShape.from_config(lm.config, lm.name, sum(p.numel() for p in lm.model.parameters()))


def counted(lm: FrozenLM, *, cached: bool = False, recompute: bool = False) -> tuple[int, dict[str, int]]:
    rows = rows_of(lm, 4, header=2, soft_after_header=True, answers=True)
    soft = tokens_of(lm, 4).requires_grad_()
    prefix = common_prefix(lm, rows, soft=True) if cached else None
    batch = assemble(lm, rows, SoftContext(tokens=soft), pad="right", prefix=prefix)
    of_prefix = [] if prefix is None else [*prefix.keys, *prefix.values]
    with Kept(lm.model) as kept:
        kept.own |= {tensor.untyped_storage().data_ptr() for tensor in of_prefix}
        hidden = lm.hidden(
            batch.embeds, batch.mask, batch.positions, prefix=prefix, right_padded=True, recompute=recompute
        )
    assert hidden.requires_grad
    past = 0 if prefix is None else len(prefix)
    return kept.total, {"rows": 4, "length": batch.mask.shape[1], "past": past}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", [*FUSED, "gemma2"])
def test_activations_are_those_that_a_pass_keeps(name: str, dtype: torch.dtype, fused: bool, cached: bool) -> None:
    lm = exact_lm(name, dtype=dtype)
    if fused:
        if why_not_fused(lm.model):
            pytest.skip("not fused")
        lm.body = FusedBody(lm.model)
    bytes_kept, sizes = counted(lm, cached=cached)
    way: dict[str, Any] = {**sizes, "size": dtype.itemsize, "kernels": False, "fused": fused}
    assert kept_bytes(shape_of(lm), **way) == pytest.approx(bytes_kept, rel=WITHIN)
    again, _ = counted(lm, cached=cached, recompute=True)
    inputs_alone = recomputed_bytes(shape_of(lm), **way) - kept_bytes(shape_of(lm), **way) // shape_of(lm).layers
    assert inputs_alone == pytest.approx(again, rel=0.6)  # of a tiny model, angles and masks are as much
    assert again < 0.5 * bytes_kept


@pytest.mark.parametrize("bridge", ["dit", "dit_xattn", "resampler"])
@pytest.mark.parametrize("width", [128, 256])
def test_the_bridge_is_as_large_as_estimated(folders: PairFolders, bridge: str, width: int) -> None:
    spec = tiny(
        source=folders.source, target=folders.target, bridge=bridge, hidden_size=width, soft_tokens=32,
        train_examples=30, validation_examples=4, test_examples=4, decode_aware=False,
    )  # fmt: skip
    splits = load_splits(spec)
    pair = ModelPair.load(spec, splits, torch.device("cpu"))
    translator = build_translator(spec, pair.source, pair.target)
    shapes = shape_of(pair.source), shape_of(pair.target)
    count = sum(p.numel() for p in translator.parameters())
    assert trained_parameters(spec, *shapes) == pytest.approx(count, rel=WITHIN)
    source = read_source(pair.source, pair.encoder(splits.train[:4]), spec.source_layer)
    step = StepContext(spec, pair.target, translator, source, StepKey(seed=0, step=0), Worker())
    held = []
    with Kept(translator) as kept:
        held.append(step.soft)
        if bridge != "resampler":
            held.append(flow(step).total)
    assert bridge_bytes(spec, 4, source.states.shape[1]) == pytest.approx(kept.total, rel=0.25)


def test_a_learned_prompt_is_as_large_as_estimated(folders: PairFolders) -> None:
    changes: dict[str, Any] = {"bridge": "constant", "geometry_projection": False, "soft_tokens": 32}
    spec = tiny(source=folders.source, target=folders.target, train_examples=4, **changes)
    pair = ModelPair.load(spec, load_splits(spec), torch.device("cpu"))
    count = sum(p.numel() for p in build_translator(spec, pair.source, pair.target).parameters())
    assert trained_parameters(spec, shape_of(pair.source), shape_of(pair.target)) == count - 1  # and one gain
    assert bridge_bytes(spec, 4, 30) == 0


def test_keys_and_values_of_every_layer_are_as_large_as_estimated(folders: PairFolders) -> None:
    changes: dict[str, Any] = {"bridge": "resampler", "injection": "kv_prefix", "hidden_size": 256}
    spec = tiny(source=folders.source, target=folders.target, train_examples=4, **changes)
    pair = ModelPair.load(spec, load_splits(spec), torch.device("cpu"))
    count = sum(p.numel() for p in build_translator(spec, pair.source, pair.target).parameters())
    assert trained_parameters(spec, shape_of(pair.source), shape_of(pair.target)) == pytest.approx(count, rel=WITHIN)


def test_a_cache_fuser_is_as_large_as_estimated(folders: PairFolders) -> None:
    changes: dict[str, Any] = {"bridge": "c2c", "injection": "c2c", "geometry_projection": False}
    spec = tiny(source=folders.source, target=folders.target, train_examples=4, **changes)
    pair = ModelPair.load(spec, load_splits(spec), torch.device("cpu"))
    count = sum(p.numel() for p in build_translator(spec, pair.source, pair.target).parameters())
    assert trained_parameters(spec, shape_of(pair.source), shape_of(pair.target)) == pytest.approx(count, rel=0.05)


@pytest.mark.parametrize("geometry", [True, False])
def test_a_regression_is_as_large_as_estimated(folders: PairFolders, geometry: bool) -> None:
    changes: dict[str, Any] = {"bridge": "linear", "steps": 0, "geometry_projection": geometry}
    spec = tiny(source=folders.source, target=folders.target, train_examples=4, **changes)
    pair = ModelPair.load(spec, load_splits(spec), torch.device("cpu"))
    count = sum(p.numel() for p in build_translator(spec, pair.source, pair.target).parameters())
    assert trained_parameters(spec, shape_of(pair.source), shape_of(pair.target)) == pytest.approx(count, rel=0.05)
    assert bridge_bytes(spec, 4, 30) == 0


def test_weights_are_counted(folders: PairFolders) -> None:
    for name in (*FUSED, "gemma2"):
        lm = exact_lm(name)
        shape = shape_of(lm)
        computed = shape.computed_parameters(tied=bool(lm.config.tie_word_embeddings))
        assert computed == pytest.approx(shape.parameters, rel=0.02)
    shape = read_shape(folders.target)
    assert shape is not None
    assert shape == replace(shape_of(FrozenLM.load(folders.target)), name=folders.target)
    assert read_shape("nobody/has-this-model") is None


def test_a_configuration_that_lists_only_differences_is_completed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gemma3_text", "hidden_size": 1152, "num_hidden_layers": 26}')
    shape = read_shape(str(tmp_path))
    assert shape is not None
    assert (shape.hidden, shape.vocabulary, shape.head_dim) == (1152, 262_208, 256)
    assert shape.parameters > 1e8


def llama(**changes: Any) -> ModelShape:
    values: dict[str, Any] = {
        "name": "llama", "kind": "llama", "parameters": 0, "vocabulary": 128_256, "hidden": 4096, "layers": 32,
        "heads": 32, "kv_heads": 8, "head_dim": 128, "intermediate": 14_336, "context": 131_072,
    }  # fmt: skip
    shape = ModelShape(**(values | changes))
    return replace(shape, parameters=shape.computed_parameters(tied=False))


MISTRAL_7B = llama(name="mistral", kind="mistral", vocabulary=32_768)
LLAMA_8B = llama()
LLAMA_70B = llama(hidden=8192, layers=80, heads=64, intermediate=28_672)


def test_known_figures() -> None:
    assert MISTRAL_7B.parameters == pytest.approx(7.25e9, rel=0.01)
    assert LLAMA_8B.parameters == pytest.approx(8.03e9, rel=0.01)
    spec = paper(soft_tokens=64)
    lengths = assume(spec)
    large = estimate_memory(spec, paper_run(), MISTRAL_7B, LLAMA_70B, (lengths, lengths))
    assert large.stays["target"] == pytest.approx(141e9, rel=0.01)
    # HotpotQA with eight exemplars, two rows of about 11,700 tokens on each GPU: about 66 GiB of activations.
    way: dict[str, Any] = {"past": 0, "size": 2, "kernels": True, "fused": True}
    assert kept_bytes(LLAMA_8B, 2, 11_700, **way) / GIB == pytest.approx(66, rel=0.1)
    hotpot = paper(task="hotpotqa", num_fewshot=8)
    whole = estimate_memory(hotpot, paper_run(), MISTRAL_7B, LLAMA_8B, (assume(hotpot), assume(hotpot)))
    assert not whole.recomputed
    assert whole.total > 80e9
    fits = estimate_memory(hotpot, paper_run(), MISTRAL_7B, LLAMA_8B, (assume(hotpot), assume(hotpot)), capacity=80e9)
    assert fits.recomputed
    assert fits.total < 75e9


@pytest.mark.parametrize(("position", "key", "peak"), [("first", 2, 45.6), ("before_question", 0, 39.5)])
def test_the_peak_of_a_training_step_is_the_measured_one(position: str, key: int, peak: float) -> None:
    """On one H200 with a worker's two rows of GSM8K-sized texts, from `benchmarks/results`."""
    measured = json.loads((RESULTS / "h200-one-gpu.json").read_text())["runs"][key]
    assert (measured["position"], measured["peak_gib"]["_train_step"]) == (position, peak)
    sizes = LENGTHS["paper"]  # questions and answers vary by up to a quarter
    lengths = TextLengths(
        header=sizes.header,
        prompt=round(1.25 * sizes.question),
        asked=round(1.25 * sizes.question),
        answer=round(1.25 * sizes.answer),
        answered=round(1.25 * (sizes.question + sizes.answer)),
        written=0,
        source="",
        measured=True,
    )
    estimate = estimate_memory(
        paper(soft_position=position), paper_run(), MISTRAL_7B, LLAMA_8B, (lengths, lengths), capacity=141e9
    )
    tensors = sum(estimate.stays.values()) - estimate.stays["libraries"] + estimate.passing["a training step"]
    assert tensors / GIB == pytest.approx(peak, rel=0.1)
    assert 0.5e9 < estimate.host < 5e9


def test_the_budget_of_recomputation_follows_from_the_card() -> None:
    spec, run = paper(soft_tokens=64), paper_run()
    on_80, on_141 = (positions_that_fit(spec, run, MISTRAL_7B, LLAMA_8B, size) for size in (80e9, 141e9))
    assert 2 * 1800 < on_80 < 10_000  # two rows of GSM8K with eight exemplars are kept
    assert on_141 > 2 * on_80
    assert positions_that_fit(spec, run, MISTRAL_7B, LLAMA_70B, 80e9) == 0
    lengths = assume(spec)
    for tokens, again in ((0, True), (1 << 20, False)):
        estimate = estimate_memory(
            spec, paper_run(recompute_tokens=tokens), MISTRAL_7B, LLAMA_8B, (lengths, lengths), capacity=80e9
        )
        assert estimate.recomputed == again
        assert (estimate.saved > 0) == (not again)
        assert ("layers run again" in estimate.line()) == again


def test_under_batch_invariant_a_whole_batch_must_fit() -> None:
    """64 rows of the paper's prompts: 128 kB a position of the target, the header in every row or once."""
    peaks = []
    for position in ("first", "before_question"):
        spec = paper(batch_invariant=True, soft_position=position)
        lengths = assume(spec)
        memory = estimate_memory(spec, paper_run(), MISTRAL_7B, LLAMA_8B, (lengths, lengths))
        peaks.append(memory.passing["an evaluation"])
        slots = -(-(lengths.header * (position == "first") + lengths.prompt + 2 * 256 + lengths.written) // 512) * 512
        assert peaks[-1] == pytest.approx(64 * slots * 131_072, rel=0.35)
    assert peaks[1] < 0.6 * peaks[0]
    plain = estimate_memory(paper(), paper_run(), MISTRAL_7B, LLAMA_8B, (lengths, lengths))
    assert plain.passing["an evaluation"] < peaks[1]


def evaluation_of(target: ModelShape, **changes: Any) -> int:
    spec = paper(**{"soft_position": "before_question", "batch_invariant": True, **changes})
    lengths = assume(spec)
    small = replace(MISTRAL_7B, layers=1)  # so that the target's is the larger one
    return estimate_memory(spec, paper_run(), small, target, (lengths, lengths)).passing["an evaluation"]


def test_layers_that_are_not_fused_store_the_header_in_every_row() -> None:
    """A target with weights of 8 bits, and a family whose layers see all positions; with a window it is one row."""
    fused, header = evaluation_of(LLAMA_8B), assume(paper()).header
    other = replace(LLAMA_8B, kind="gpt_neox")
    for unfused in (evaluation_of(LLAMA_8B, target_precision="int8"), evaluation_of(other)):
        assert unfused - fused == 64 * header * 131_072
    assert evaluation_of(replace(other, window=1024)) < 0.1 * fused
    assert evaluation_of(replace(LLAMA_8B, window=1024)) == fused


@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "mistral", "qwen2", "gemma2", "cohere2", "llama4_text"])
def test_what_layers_see_is_read_from_a_configuration_as_decoding_reads_it(kind: str) -> None:
    config = AutoConfig.for_model(kind)
    shape = ModelShape.from_config(config, kind)
    assert [shape.attends_fully(n) for n in (100, 50_000)] == [attends_fully(config, n) for n in (100, 50_000)]


def test_where_rows_have_caches_of_their_own_baselines_are_decoded_in_batches() -> None:
    """They store the header once, as they do beside rows with soft tokens in their text."""
    prefix = evaluation_of(LLAMA_8B, bridge="resampler", injection="kv_prefix")
    assert prefix == evaluation_of(LLAMA_8B, bridge="resampler", injection="residual")


def test_in_float64_batch_invariant_takes_no_more_memory() -> None:
    fixed, usual = (evaluation_of(LLAMA_8B, eval_dtype="float64", batch_invariant=fixed) for fixed in (True, False))
    assert fixed == usual
