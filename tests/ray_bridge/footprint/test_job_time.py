"""The estimate of a job's time: within a quarter of recorded jobs that its rates were not fitted to."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fit_rates import FITTED, fit, left_out, recorded
from benchmarks.harness import RESULTS
from ray_bridge.config.presets import paper, paper_run, tiny, tiny_run
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.flops import forward_flops, layer_weights
from ray_bridge.footprint.job_time import DEFAULT_CARD, Rates, TimeEstimator, estimate_time, rate_table, rates_of
from ray_bridge.footprint.known_models import find_shape, known_shape
from ray_bridge.footprint.means import TextMeans, Texts, assume_means, measure_means, text_means
from ray_bridge.footprint.work import JobWork, Work
from ray_bridge.tasks.splits import load_splits
from tests.support.plugin_modules import WORDY, importable

LARGE = "meta-llama/Llama-3.1-70B-Instruct"
WITHIN = 0.25


def minutes(spec: JobSpec) -> float:
    return TimeEstimator().estimate(spec, paper_run()).seconds / 60


def test_caches_of_rows_take_the_steps_of_layers_that_are_not_fused() -> None:
    resampler, prefix = (paper(bridge="resampler", injection=how) for how in ("prepend", "kv_prefix"))
    assert minutes(prefix) > 1.5 * minutes(resampler)


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, float]]:
    return left_out(recorded())


def test_jobs_are_estimated_within_a_quarter_by_rates_fitted_to_the_others(errors: dict[str, dict[str, float]]) -> None:
    totals = {name: parts["total"] for name, parts in errors.items() if "total" in parts}
    assert len(totals) == 4
    assert max(map(abs, totals.values())) <= WITHIN, totals


def test_parts_of_jobs_that_are_further_off_are_those_that_are_known(errors: dict[str, dict[str, float]]) -> None:
    """What fails is written down, not hidden; most are short parts, of which others make up in the sum."""
    off = {(name, part) for name, job in errors.items() for part, error in job.items() if abs(error) > WITHIN}
    assert off == {
        ("H100, 2,000 steps, header cached", "validation_each"),  # 2.6 s
        ("H200, 2,000 steps, header in every row", "preparation"),  # 20 s, in a campaign on H100s 28
        ("four H100, six conditions, header cached", "preparation"),
        ("H100, SmolLM2-135M on both sides", "step"),  # 32 ms, the only small model
        ("H100, SmolLM2-135M on both sides", "decode_aware"),
        ("four H100, six conditions, header cached", "test"),  # 58 s with samples, scores and waiting for each other
        ("two H100, 32B in two parts, header cached", "step"),  # 138 ms, from rates of a 70B target in four parts
    }


def test_the_rates_that_ship_are_those_that_fit_the_recorded_jobs() -> None:
    best, shipped = fit(recorded()), rate_table()["gpu"]
    for name in FITTED:
        assert shipped[name]["value"] == pytest.approx(best[name], rel=0.02), name


def test_every_rate_says_where_it_is_from() -> None:
    table = rate_table()
    for entry in (*table["gpu"].values(), *table["cpu"].values(), *table["cards"].values()):
        assert len(entry["source"]) > 5
    assert table["gpu"].keys() - {"train_share", "read_share", "decode_share"} <= Rates.__dataclass_fields__.keys()


def test_phase_1_on_two_cores_is_estimated() -> None:
    """The rates of a CPU were set by this job, so this holds the arithmetic, and tells nothing of other machines."""
    (job,) = json.loads((RESULTS / "measured-jobs.json").read_text(encoding="utf-8"))["on_cpu"]
    estimate = TimeEstimator().estimate(tiny(), tiny_run())
    assert estimate.seconds == pytest.approx(job["measured"]["total"], rel=WITHIN)
    assert estimate.card == "cpu"


def test_what_differs_in_its_work_takes_visibly_longer() -> None:
    usual = minutes(paper())
    assert minutes(paper(soft_tokens=512)) > 1.15 * usual
    assert minutes(paper(target=LARGE)) > 6 * usual
    assert minutes(paper().replace(task="hotpotqa")) > 2 * usual
    assert minutes(paper(soft_position="before_question")) < 0.6 * usual
    assert minutes(paper(decode_aware=False)) < usual
    assert minutes(paper(steps=4000)) > 1.5 * usual
    assert minutes(paper(eval_every=50)) > 1.2 * usual


@pytest.mark.parametrize(
    ("task", "changes", "items", "known"),
    [
        ("gsm8k", {}, 1319, True),
        ("gsm8k", {"test_examples": 200}, 200, True),
        ("gsm8k", {"test_examples": 5000}, 1319, True),
        ("hotpotqa", {}, 7405, True),
        ("math", {}, 500, True),
        ("synthetic", {}, 1000, True),
        ("synthetic", {"test_examples": 5000}, 5000, True),
        ("my_module:MyTask", {}, 1000, False),
    ],
)
def test_items_are_those_of_the_task(task: str, changes: dict[str, Any], items: int, known: bool) -> None:
    texts = assume_means(paper(**changes).model_copy(update={"task": task}))
    assert (texts.test, texts.items_known) == (items, known)


def test_lengths_are_measured_on_the_data() -> None:
    spec = tiny(test_examples=40)
    texts, known = measure_means(spec, load_splits(spec)), text_means(spec)
    assert texts.test == 40
    for side in ("source", "target"):
        own, expected = getattr(texts, side), getattr(known, side)
        assert own.prompt == pytest.approx(expected.prompt, rel=0.15)
        assert own.answer == pytest.approx(expected.answer, rel=0.2)
        assert own.header == 1


def test_models_that_are_not_here_are_known_by_name_or_by_their_size() -> None:
    large, note = find_shape(LARGE)
    assert note is None
    assert large.parameters == pytest.approx(70.6e9, rel=0.005)
    assert find_shape("meta-llama/Llama-3.1-8B-Instruct")[0].parameters == pytest.approx(8.03e9, rel=0.005)
    assert known_shape(f"random:{LARGE}") == known_shape(LARGE) == large
    assert known_shape(f"{LARGE}-tuned") is None
    other, note = find_shape("someone/new-model-32B-chat")
    assert other.parameters == pytest.approx(32e9, rel=0.1)
    assert note == "someone/new-model-32B-chat is assumed to be Llama-like"
    assert "is taken to be of the size of" in str(find_shape("someone/v2-model")[1])
    assert find_shape("embedded:target")[0].hidden == 128


def test_a_card_without_rates_is_said() -> None:
    rates, note = rates_of("Some GPU")
    assert note == f"no rates of Some GPU are known: those of {DEFAULT_CARD} are taken"
    assert rates == rates_of(DEFAULT_CARD)[0]
    assert rates_of("NVIDIA H200")[0].decode_bytes > rates.decode_bytes


def test_long_passes_run_layers_again_where_memory_is_short() -> None:
    work = work_of()
    short = JobWork(work.spec, work.run, work.source, work.target, work.texts, memory=40e9)
    assert short.kept == 0
    length, cached = 64 + 1000 + 100 + 50, 0
    again = 2 * forward_flops(work.target, length, cached)
    assert short.step().train_flops - work.step().train_flops == pytest.approx(again)
    never = JobWork(work.spec, work.run, work.source, work.target, work.texts, memory=10**13)
    assert never.step() == work.step()


def work_of(**changes: Any) -> JobWork:
    spec = paper(**{"decode_aware": False, **changes})
    means = TextMeans(header=1000, prompt=100, question=90, answer=50)
    texts = Texts(source=means, target=means, train=10**9, test=100, note="")
    return JobWork(spec, paper_run(), find_shape(spec.source)[0], find_shape(spec.target)[0], texts)


def test_a_training_step_by_hand() -> None:
    """Two rows a GPU of 64 soft tokens, header, prompt and answer; the frozen target's way back is one more pass."""
    work = work_of(kl_weight=0, flow_weight=0, bridge="resampler", depth=1, hidden_size=64, num_heads=2)
    target, source = work.target, work.source
    student = 2 * forward_flops(target, 64 + 1000 + 100 + 50, logits=50)
    step = work.step()
    assert step.train_flops == pytest.approx(2 * student, rel=0.03), "the small bridge is the rest"
    assert step.read_flops == 2 * forward_flops(source, 100, 1000, layers=24)
    assert step.train_flops > 2 * student


def test_text_at_numbers_of_tokens_is_charged_once_whatever_their_number() -> None:
    times, run = TimeEstimator(), paper_run()
    specs = [paper(text_budgets=budgets) for budgets in ((), (64,), (64, 128))]
    plain, one, many = (times.estimate(spec, run).parts["test"] for spec in specs)
    assert one == many
    assert 1.2 * plain < one < 2 * plain, "five evaluations more, none of them with soft tokens before the header"


def test_a_regression_reads_every_training_prompt_and_trains_nothing() -> None:
    work = work_of(bridge="linear", steps=0)
    assert work.prepare().read_flops == 10**9 / 4 * forward_flops(work.source, 100, 1000, layers=24)
    assert work.prepare().train_flops == 0


def test_soft_tokens_after_the_header_leave_it_to_the_cache() -> None:
    first, after = (work_of(soft_position=place).step().train_flops for place in ("first", "before_question"))
    assert after < 0.3 * first


def test_stored_states_are_computed_once_and_not_in_steps() -> None:
    work = work_of()
    stored = JobWork(work.spec, work.run, work.source, work.target, replace(work.texts, train=8000))
    assert work.prepare() == Work()
    assert stored.prepare().examples == 2000
    assert stored.step().read_flops < work.step().read_flops


def test_decoding_reads_the_weights_at_every_step() -> None:
    evaluated = work_of(max_new_tokens=200).evaluation("target_alone", 40)
    shape = work_of().target
    weights = 2 * (shape.layers * layer_weights(shape) + shape.vocabulary * shape.hidden)
    assert evaluated.decode_steps == 200
    assert evaluated.questions == 10
    assert 200 * weights < evaluated.decode_bytes < 1.2 * 200 * weights


def test_every_condition_takes_its_own() -> None:
    work = work_of()
    takes = {c: work.evaluation(c, 100).read_flops for c in ("bridged", "target_alone", "text_bridge", "random_soft")}
    assert takes["bridged"] > takes["random_soft"] > takes["target_alone"]
    assert takes["text_bridge"] > takes["target_alone"]


def test_parts_sum_to_the_whole_and_are_named() -> None:
    spec, run = paper(), paper_run()
    shapes = find_shape(spec.source)[0], find_shape(spec.target)[0]
    time = estimate_time(spec, run, texts=text_means(spec), shapes=shapes, rates=rates_of("NVIDIA H200")[0])
    assert time.seconds == pytest.approx(sum(time.parts.values()))
    assert time.line().startswith(f"{time.seconds / 60:.1f} min (start ")
    assert "decode-aware steps" in time.line()


def test_a_target_in_two_parts_takes_as_many_flops_a_worker_and_reads_half_of_its_layers() -> None:
    """Two workers read the same rows, each with its half of the heads: what they share is the source's and the rest."""
    whole, halves = work_of(), work_of(target_shards=2)
    assert halves.step().train_flops == pytest.approx(whole.step().train_flops, rel=0.1)
    read = [work.evaluation("target_alone", 40).decode_bytes for work in (whole, halves)]
    assert 0.5 * read[0] < read[1] < 0.65 * read[0]


def test_answers_that_no_batch_changes_take_more_batches_and_read_the_weights_for_each_prompt() -> None:
    usual, fixed = (work_of(batch_invariant=fixed).evaluation("bridged", 330) for fixed in (False, True))
    assert fixed.calls == 2, "83 rows a worker in batches of 64"
    assert fixed.decode_steps == 2 * 256
    assert fixed.decode_bytes > usual.decode_bytes
    times, run = TimeEstimator(), paper_run()
    plain, slower = (times.estimate(paper(batch_invariant=fixed), run).parts["test"] for fixed in (False, True))
    assert 1.2 * plain < slower < 20 * plain


def test_sampling_in_training_takes_as_much_with_answers_that_no_batch_changes() -> None:
    usual, fixed = (work_of(batch_invariant=fixed, decode_aware=True).decode_aware() for fixed in (False, True))
    assert fixed == usual


def test_in_float64_answers_take_as_much_with_batch_invariant() -> None:
    usual, fixed = (
        work_of(batch_invariant=fixed, eval_dtype="float64").evaluation("bridged", 330) for fixed in (False, True)
    )
    assert fixed == usual


def test_rows_with_caches_of_their_own_are_decoded_one_by_one() -> None:
    work = work_of(batch_invariant=True, bridge="resampler", injection="kv_prefix")
    assert work.evaluation("bridged", 330).calls == 83
    assert work.evaluation("target_alone", 330).calls == 2


def test_settings_of_a_task_of_ones_own_tell_its_texts_apart(tmp_path: Path) -> None:
    (tmp_path / "wordy_task.py").write_text(WORDY)
    with importable(tmp_path):
        spec, estimator = tiny(task="wordy_task:Wordy"), TimeEstimator()
        times = [estimator.estimate(one, tiny_run()).seconds for one in (spec, spec.replace(**{"extra.words": 400}))]
    assert times[0] < times[1]
