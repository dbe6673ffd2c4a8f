"""What trials need, beside both models' contexts and the memory of GPUs or nodes: passed, refused, or not checked."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.preflight.memory import judge_estimates
from cluster.preflight.nodes import judge_node
from cluster.preflight.requirements import CLEARLY, Requirements
from cluster.preflight.settings import PreflightSettings
from ray_bridge.caching.node_cache import NodeCache
from ray_bridge.config.presets import paper, paper_run, tiny, tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.distributed import Worker
from ray_bridge.evaluation.evaluator import Evaluator
from ray_bridge.footprint.context import TooLongError
from ray_bridge.generation.generate import decode_rows
from ray_bridge.model_pair import ModelPair
from ray_bridge.tasks.splits import load_splits
from tests.support.chat_tokenizers import save_chat_pair
from tests.support.local_jobs import small_spec
from tests.support.model_pairs import PairFolders, make_pair
from tests.support.plugin_modules import WORDY, importable


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> PairFolders:
    return make_pair(tmp_path_factory.mktemp("pair"))


def with_config(folder: str, to: Path, **changes: Any) -> str:
    """Return a folder with a changed configuration and the same tokenizer, without weights."""
    to.mkdir(parents=True)
    for path in Path(folder).glob("*.json"):
        (to / path.name).write_text(path.read_text())
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | changes))
    return str(to)


def requirements(spec: JobSpec, **trials: JobSpec) -> Requirements:
    return Requirements(trials={"A": spec, **trials}, run=tiny_run(workers=1))


def test_texts_that_fit_pass_and_trials_alike_are_checked_once(folders: PairFolders) -> None:
    spec = small_spec(folders)
    [check] = requirements(spec, B=spec.replace(kl_alignment=False), C=spec.replace(seed=1)).context()
    assert (check.name, check.status) == ("context", "pass")
    assert "of 2,048 and 2,048 (the longest of 53" in check.detail.replace("of 57", "of 53").replace("of 61", "of 53")
    assert len(requirements(spec, B=spec.replace(num_fewshot=2)).context()) == 2


@pytest.mark.parametrize(
    ("side", "limit", "says"),
    [
        ("source", 80, "the longest prompt with 6 new tokens"),
        ("target", 80, "the longest prompt with 4 soft tokens and 6 new tokens"),
    ],
)
def test_a_longer_prompt_is_refused(folders: PairFolders, tmp_path: Path, side: str, limit: int, says: str) -> None:
    short = with_config(getattr(folders, side), tmp_path / side, max_position_embeddings=limit)
    [check] = requirements(small_spec(folders, num_fewshot=1).replace(**{side: short})).context()
    assert check.status == "fail"
    assert f"reads {limit} positions at most, and {says} takes" in check.detail
    assert "lower num_fewshot" in check.remedy


LONG = "You are a helpful assistant." * 60


@pytest.mark.parametrize(("shots", "said"), [(2, LONG), (8, "You are a helpful assistant.")])
def test_conversations_are_counted_with_the_models_own_template(shots: int, said: str, tmp_path: Path) -> None:
    """A job needs what its longest row has: the checks fail one position below, and what they say is what it would."""
    pair = save_chat_pair(tmp_path, "gemma", "qwen")
    template = Path(pair.target) / "chat_template.jinja"
    template.write_text(template.read_text().replace("You are a helpful assistant.", said))
    sizes = {"train_examples": 20, "validation_examples": 4, "test_examples": 4, "decode_aware": False}
    spec = tiny(source=pair.source, target=pair.target, prompt_format="chat", num_fewshot=shots, **sizes)
    splits = load_splits(spec)
    models = ModelPair.load(spec, splits, torch.device("cpu"))
    encoder, new = models.encoder, spec.max_new_tokens
    needed = [len(i.text_row.prompt) + new for i in encoder([*splits.validation, *splits.test])]
    needed += [len(i.text_row.prompt + i.text_row.answer) for i in encoder([*splits.train, *splits.validation])]
    bridged = [encoder.text_bridge_row(example, "") for example in splits.test]
    most = [max(needed) + spec.soft_tokens, max(len(row.before) + len(row.prompt) for row in bridged) + new]
    template_text = template.read_text()
    for limit, status in ((most[0] - 1, "fail"), (most[1] - 1, "fail"), (most[1], "warn")):
        short = with_config(pair.target, tmp_path / str(limit), max_position_embeddings=limit)
        (tmp_path / str(limit) / "chat_template.jinja").write_text(template_text)
        [check] = requirements(spec.replace(target=short)).context()
        assert check.status == status, check.detail
        assert ("with the source's answer" in check.detail) == (status == "warn")
        if status == "fail":
            assert f"takes {most[limit == most[1] - 1]:,} (the longest of 28 texts)" in check.detail
    evaluator = Evaluator(models, Worker(), 4, NodeCache(None))
    for limit in (most[1], most[1] - 1):
        models.target.context = limit
        rows = [evaluator.text_bridge_row(example, "one two three") for example in splits.test]
        with nullcontext() if limit == most[1] else pytest.raises(TooLongError):
            decode_rows(models.target, rows, None, new)


def test_latent_steps_take_positions_of_the_source(folders: PairFolders, tmp_path: Path) -> None:
    short = with_config(folders.source, tmp_path / "source", max_position_embeddings=200)
    spec = small_spec(folders, geometry_projection=False, latent_steps=180).replace(source=short)
    [check] = requirements(spec).context()
    assert "source reads 200 positions at most, and the longest prompt with 180 latent steps takes" in check.detail
    assert requirements(spec.replace(latent_steps=2)).context()[0].status == "pass"


def test_trials_that_differ_in_latent_steps_alone_are_told_apart(folders: PairFolders, tmp_path: Path) -> None:
    short = with_config(folders.source, tmp_path / "source", max_position_embeddings=200)
    spec = small_spec(folders, geometry_projection=False).replace(source=short)
    far = spec.replace(latent_steps=180)
    for trials in ({"few": spec, "far": far}, {"far": far, "few": spec}):
        checks = Requirements(trials=trials, run=tiny_run(workers=1)).context()
        assert {check.detail.partition(":")[0]: check.status for check in checks} == {"few": "pass", "far": "fail"}


def test_whatever_the_task_reads_tells_trials_apart(folders: PairFolders, tmp_path: Path) -> None:
    """A setting of a plug-in's own, and a field of which nobody would think."""
    (tmp_path / "wordy_task.py").write_text(WORDY)
    with importable(tmp_path):
        spec = small_spec(folders).replace(task="wordy_task:Wordy", warmup_steps=0)
        trials = {"words": spec.replace(**{"extra.words": 9}), "steps": spec.replace(warmup_steps=20)}
        details = [check.detail for check in requirements(spec, same=spec.replace(seed=3), **trials).context()]
    assert [detail.partition(":")[0] for detail in details] == ["A", "words", "steps"]
    few, *more = (int(detail.split(": ")[1].split()[0]) for detail in details)
    of_word = (more[0] - few) // 8
    assert of_word > 0
    assert more == [few + 8 * of_word, few + 20 * of_word]


def test_what_is_certain_is_said_before_what_a_job_may_cut(folders: PairFolders, tmp_path: Path) -> None:
    source = with_config(folders.source, tmp_path / "source", max_position_embeddings=400)
    target = with_config(folders.target, tmp_path / "target", max_position_embeddings=380)
    sizes = {"geometry_projection": False, "latent_steps": 380, "max_new_tokens": 200, "soft_tokens": 1}
    [check] = requirements(small_spec(folders, **sizes).replace(source=source, target=target)).context()
    assert check.status == "fail"
    assert "380 latent steps" in check.detail


def test_text_bridge_is_counted_with_the_sources_answer(folders: PairFolders, tmp_path: Path) -> None:
    spec = small_spec(folders, max_new_tokens=200, soft_tokens=1)
    short = with_config(folders.target, tmp_path / "target", max_position_embeddings=380)
    [check] = requirements(spec.replace(target=short)).context()
    assert check.status == "warn"  # a job cuts the source's answer
    assert "text_bridge (the longest prompt with the source's answer and 200 new tokens)" in check.detail


def test_assumed_lengths_only_warn(folders: PairFolders) -> None:
    [check] = requirements(small_spec(folders).replace(task="gsm8k", num_fewshot=20)).context()
    assert check.status == "warn"
    assert "assumed for gsm8k" in check.detail


def test_a_model_that_is_not_here_is_not_checked(folders: PairFolders) -> None:
    asked = requirements(small_spec(folders).replace(target="nobody/has-this-model"))
    for check in (*asked.context(), *asked.memory(1e9)):
        assert check.status == "skip"
        assert check.detail == "A: not checked, since this machine does not have nobody/has-this-model"


def test_a_tokenizer_that_is_not_here_is_named_and_memory_is_checked(folders: PairFolders, tmp_path: Path) -> None:
    target = with_config(folders.target, tmp_path / "target")
    for path in Path(target).glob("tokenizer*"):
        path.unlink()
    asked = requirements(small_spec(folders).replace(target=target))
    [check] = asked.context()
    assert check.detail == f"A: not checked, since this machine does not have the tokenizer of {target}"
    [check] = asked.memory(1e9)
    assert check.status == "pass"
    assert check.detail.endswith(" of 1 GB on each worker's share of the memory; texts assumed")


MISTRAL, LLAMA = "mistralai/Mistral-7B-Instruct-v0.3", "meta-llama/Llama-3.1-8B-Instruct"
LARGE = "meta-llama/Llama-3.1-70B-Instruct"


@pytest.fixture
def no_models_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def of_paper(**changes: Any) -> Requirements:
    return Requirements(trials={"full": paper(**changes)}, run=paper_run())


@pytest.mark.usefixtures("no_models_here")
def test_memory_is_checked_with_sizes_known_of_models_that_are_not_here() -> None:
    [check] = of_paper().memory(80e9)
    assert check.status == "pass"
    assert check.detail.endswith(" of 80 GB on each GPU; sizes as published, texts assumed")
    [check] = of_paper().context()
    assert check.status == "skip"
    assert check.detail == f"full: not checked, since this machine does not have {MISTRAL} and {LLAMA}"
    [check] = of_paper(target=LARGE).memory(80e9)
    assert check.status == "fail"
    assert "target 141." in check.detail
    assert check.remedy == "spread the target over GPUs (target_shards=4), or use larger GPUs or smaller models"
    assert of_paper(target=f"random:{LARGE}").memory(80e9)[0].status == "fail"
    statuses = {n: of_paper(target=LARGE, target_shards=n).memory(80e9)[0].status for n in (2, 4)}
    assert statuses == {2: "fail", 4: "pass"}


@pytest.mark.usefixtures("no_models_here")
def test_a_size_that_is_guessed_from_a_name_is_not_judged() -> None:
    for target in ("someone/Llama-3.1-70B-Instruct", f"{LARGE}-tuned"):
        [check] = of_paper(target=target).memory(80e9)
        assert check.status == "skip"
        assert check.detail == f"full: not checked, since this machine does not have {target}"


@pytest.mark.usefixtures("no_models_here")
def test_assumed_texts_or_gpus_refuse_no_known_model() -> None:
    """Weights and optimiser refuse, what texts take besides only warns; so does all on GPUs that nobody has seen."""
    asked = of_paper(task="hotpotqa", num_fewshot=64)
    estimate = asked.each["full"].estimate(asked.run, 60e9)
    assert estimate is not None
    assert CLEARLY * estimate.total > 60e9
    assert [check.status for check in asked.memory(60e9)] == ["warn"]
    assert of_paper().memory(48e9)[0].status == "pass"
    assert of_paper().memory(40e9)[0].status == "warn"
    assert of_paper().memory(32e9)[0].status == "fail"
    [check] = of_paper(target=LARGE).memory(80e9, note=", assumed")
    assert check.status == "warn"
    assert " of 80 GB on each GPU, assumed; sizes as published, texts assumed" in check.detail
    assert "target_shards=4" in check.remedy


@pytest.mark.usefixtures("no_models_here")
def test_one_known_model_is_judged_beside_one_that_is_here(folders: PairFolders) -> None:
    [check] = of_paper(source=folders.source, target=LARGE).memory(80e9)
    assert check.status == "fail"
    assert check.detail.endswith("; sizes as published, texts assumed")
    [check] = of_paper(source=folders.source, target=LARGE).context()
    assert check.detail == f"full: not checked, since this machine does not have {LARGE}"


LLAMA_70B: dict[str, Any] = {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28_672,
    "vocab_size": 128_256,
    "head_dim": 128,
}


def large(folders: PairFolders, tmp_path: Path, **changes: Any) -> Requirements:
    target = with_config(folders.target, tmp_path / "large", **(LLAMA_70B | changes))
    spec = small_spec(folders, model_dtype="bfloat16", eval_dtype="as_trained").replace(target=target)
    return Requirements(trials={"target-70b": spec}, run=paper_run())


def test_a_target_that_does_not_fit_on_a_gpu_is_refused(folders: PairFolders, tmp_path: Path) -> None:
    asked = large(folders, tmp_path)
    [check] = asked.memory(80e9, "10.0.0.1")
    assert (check.status, check.node) == ("fail", "10.0.0.1")
    assert "target-70b: " in check.detail
    assert "target 141." in check.detail
    assert "of 80 GB on each GPU" in check.detail
    assert check.remedy == "spread the target over GPUs (target_shards=4), or use larger GPUs or smaller models"
    assert asked.memory(192e9)[0].status == "pass"


def test_a_target_in_parts_fits_on_the_same_gpus(folders: PairFolders, tmp_path: Path) -> None:
    asked = large(folders, tmp_path)
    spec = asked.trials["target-70b"].replace(target_shards=4)
    [check] = replace(asked, trials={"target-70b": spec}).memory(80e9)
    assert check.status == "pass", check.detail
    assert "target 38." in check.detail
    [check] = replace(asked, trials={"target-70b": spec.replace(target_shards=2)}).memory(80e9)
    assert check.remedy.startswith("spread the target over GPUs (target_shards=4), or lower ")
    [check] = replace(asked, run=paper_run(workers=3)).memory(80e9)  # which no number of parts divides
    assert check.remedy == "use larger GPUs or smaller models"
    assert len(replace(asked, trials={**asked.trials, "parts": spec}).memory(80e9)) == 2


def test_activations_that_do_not_fit_name_recomputation(folders: PairFolders, tmp_path: Path) -> None:
    asked = large(folders, tmp_path, num_hidden_layers=32, hidden_size=4096, num_attention_heads=32)
    asked = replace(asked, trials={"long": asked.trials["target-70b"].replace(num_fewshot=16, batch_size=256)})
    [check] = asked.memory(80e9)
    assert "layers run again" in check.detail  # by itself
    [check] = replace(asked, run=paper_run(recompute_tokens=1 << 30)).memory(80e9)
    assert check.status == "fail"
    assert check.remedy.startswith("run layers again in the backward pass (recompute_tokens=0)")


def test_nodes_are_judged_by_their_own_gpus_or_memory(folders: PairFolders, tmp_path: Path) -> None:
    asked = large(folders, tmp_path)
    settings = PreflightSettings(workers=4, gpus=4, models=("a", "b"), requirements=asked)
    facts = {"gpu_memory": [80 * 10**9, 192 * 10**9], "memory": {"available": 64 * 10**9}}
    assert [check.status for check in judge_estimates(facts, settings, "n")] == ["fail"]
    assert [check.status for check in judge_estimates(facts | {"gpu_memory": [192 * 10**9]}, settings, "n")] == ["pass"]
    assert judge_estimates(facts | {"gpu_memory": []}, settings, "n") == []
    assert judge_estimates(facts, replace(settings, requirements=None), "n") == []
    on_cpu = PreflightSettings(workers=1, requirements=requirements(small_spec(folders)))
    [check] = judge_estimates(facts, on_cpu, "n")
    assert check.status == "pass"
    assert "of 64 GB on each worker's share of the memory" in check.detail
    assert judge_node("no answer in 3 s", "n", on_cpu)[0].status == "fail"
