"""The decode-aware step of the `paper` preset fits 80 GB next to both models, at K = 512 and an 8-shot prompt."""

import gc
import weakref
from typing import Any

import pytest
import torch

from ray_bridge.bridges.translator import build_translator
from ray_bridge.config.presets import paper
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.inputs.encoding import Encoder
from ray_bridge.inputs.source_batch import read_source
from ray_bridge.model_pair import ModelPair
from ray_bridge.models.frozen_lm import FrozenLM
from ray_bridge.objectives.decode_aware import decode_terms
from ray_bridge.objectives.objective import backward, objective_terms
from ray_bridge.objectives.step_context import StepContext, StepKey
from ray_bridge.tasks.synthetic.task import SyntheticTask
from tests.support.model_pairs import make_tokenizer

PROMPT_TOKENS = 1450  # of GSM8K with eight exemplars under Llama 3's tokenizer

MISTRAL_7B: dict[str, Any] = {
    "vocab_size": 32_768,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32_768,
    "sliding_window": None,
}
LLAMA_8B = {name: value for name, value in MISTRAL_7B.items() if name != "sliding_window"} | {"vocab_size": 128_256}


def random_lm(kind: str, geometry: dict[str, Any], device: torch.device) -> FrozenLM:
    """A model of a geometry with random bf16 weights and a small tokenizer of its family."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = make_tokenizer("mistral" if kind == "mistral" else "llama")
    config = AutoConfig.for_model(kind, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    for name, value in geometry.items():
        setattr(config, name, value)
    with device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return FrozenLM(model, tokenizer, kind)


def make_pair_of(
    spec: JobSpec, source: dict[str, Any], target: dict[str, Any], device: torch.device, prompt_tokens: int
) -> ModelPair:
    """Both models, and a few-shot header of at least `prompt_tokens`."""
    lms = random_lm("mistral", source, device), random_lm("llama", target, device)
    task = SyntheticTask(train_examples=80, test_examples=1)
    exemplars = 0
    while len(lms[1].tokenizer(task.header(task.train()[-exemplars - 1 :]))["input_ids"]) < prompt_tokens:
        exemplars += 1
    encoder = Encoder(spec, task, task.header(task.train()[-exemplars:]), *lms)
    return ModelPair(spec=spec, source=lms[0], target=lms[1], task=task, encoder=encoder)


def train_once(pair: ModelPair, rows: int) -> dict[str, float]:
    """One whole step with every term, as a worker takes it; returns the gradient norms."""
    translator = build_translator(pair.spec, pair.source, pair.target)
    parameters = [p for p in translator.parameters() if p.requires_grad]
    train = pair.task.train()[:16]
    terms = decode_terms(pair.spec, pair, train, batch_size=36) + objective_terms(pair.spec)
    source = read_source(pair.source, pair.encoder(train[:rows]), pair.spec.source_layer)
    step = StepContext(pair.spec, pair.target, translator, source, StepKey(seed=0, step=199), Worker())
    with torch.autocast(pair.target.device.type, torch.bfloat16):
        losses = backward(step, terms, parameters, term_norms=True)
    return dict(losses.gradient_norms)


def test_models_are_freed_as_soon_as_they_are_dropped() -> None:
    """A reference cycle would keep 30 GB of a GPU until the garbage collector runs, which no allocation waits for."""
    geometry = {
        "vocab_size": 1200, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    small = {"hidden_size": 32, "depth": 1, "num_heads": 2, "soft_tokens": 8, "max_new_tokens": 8, "source_layer": 2}
    spec = paper(decode_questions=1, geometry_projection=False, **small)

    def train() -> list[weakref.ref[Any]]:
        pair = make_pair_of(spec, geometry | {"sliding_window": None}, geometry, torch.device("cpu"), prompt_tokens=100)
        train_once(pair, rows=2)
        return [weakref.ref(kept) for lm in (pair.source, pair.target) for kept in (lm, lm.model)]

    train()  # first uses import modules, whose caught errors hold frames
    gc.collect()
    gc.disable()
    try:
        assert [kept() for kept in train()] == [None] * 4
    finally:
        gc.enable()


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("questions", [1, 4])
def test_a_decode_aware_step_fits_80_gb(questions: int) -> None:
    """One question is a worker's share on four GPUs; four are the whole step on one."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    device = torch.device("cuda")
    spec = paper(soft_tokens=512, decode_questions=questions, geometry_projection=False)
    pair = make_pair_of(spec, MISTRAL_7B, LLAMA_8B, device, PROMPT_TOKENS)
    torch.cuda.reset_peak_memory_stats()
    norms = train_once(pair, rows=2)
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"{questions} questions: peak {peak:.1f} GiB")
    assert norms["on_policy_distill"] > 0
    assert peak < 75  # of 80 GB = 74.5 GiB, without the allocator's own losses
