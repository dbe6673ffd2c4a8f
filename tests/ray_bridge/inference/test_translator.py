"""A trained translator loaded from its trial, asked questions: the recorded answers, in batches, streamed, sampled."""

from pathlib import Path

import pytest
import torch

from bridge_common.errors import UserError
from bridge_common.files import read_jsonl, write_json
from bridge_common.metric_names import CONDITIONS
from ray_bridge import Translator, tiny
from ray_bridge.config.spec import JobSpec
from ray_bridge.footprint.context import TooLongError
from ray_bridge.inference.answers import Answer
from ray_bridge.inference.bundle import verify
from ray_bridge.inference.saved import sampled_example
from tests.support.local_jobs import run_job, small_spec
from tests.support.model_pairs import PairFolders


def test_questions_of_the_test_split_get_their_recorded_answers(translator: Translator, trial: Path) -> None:
    rows = read_jsonl(trial / "samples.jsonl")
    answers = translator.generate([row["question"] for row in rows], batch_size=5)
    assert [answer.text for answer in answers] == [row["bridged_output"] for row in rows]
    assert [answer.final for answer in answers] == [row["bridged_answer"] for row in rows]
    assert [answer.tokens for answer in answers] == [row["bridged_tokens"] for row in rows]
    assert len({answer.text for answer in answers}) > 1


def test_compare_gives_every_condition_as_it_was_recorded(translator: Translator, trial: Path) -> None:
    row = read_jsonl(trial / "samples.jsonl")[0]
    answers = translator.compare(row["question"])
    assert list(answers) == list(CONDITIONS)
    same = [name for name in CONDITIONS if name != "shuffled_soft"]  # another question's than in the evaluation
    assert {name: answers[name].text for name in same} == {name: row[f"{name}_output"] for name in same}
    assert set(translator.compare(row["question"], ["target_alone"])) == {"target_alone"}


def test_an_answer_does_not_depend_on_its_batch(translator: Translator) -> None:
    questions = ["Tom has dodici apples and eats 5. How many are left?", "Ann has 3 pens.", "How many legs has a cat?"]
    alone = [translator.generate(question) for question in questions]
    assert [a.text for a in translator.generate(questions, batch_size=2)] == [a.text for a in alone]
    assert str(alone[0]) == alone[0].text


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_streamed_pieces_make_up_the_answer(translator: Translator, temperature: float) -> None:
    question = "Tom has dodici apples and eats 5. How many are left?"
    pieces = list(translator.stream(question, temperature=temperature, seed=3, max_new_tokens=24))
    assert "".join(pieces) == translator.generate(question, temperature=temperature, seed=3, max_new_tokens=24).text
    assert len(pieces) > 1


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_answers_streamed_together_are_those_of_each_question_alone(translator: Translator, temperature: float) -> None:
    questions = [f"Ann has {'dodici ' * n}pens." for n in range(1, 7)]
    pieces = [""] * len(questions)
    answers: dict[int, Answer] = {}
    for step in translator.stream_batch(questions, temperature=temperature, max_new_tokens=24):
        for piece in step:
            assert piece.index not in answers, "no text follows the last piece"
            pieces[piece.index] += piece.text
            if piece.answer is not None:
                answers[piece.index] = piece.answer
    alone = [translator.generate(q, temperature=temperature, max_new_tokens=24) for q in questions]
    assert pieces == [answer.text for answer in alone]
    for i, answer in enumerate(alone):
        assert (answers[i].text, answers[i].final) == (answer.text, answer.final)
        assert (answers[i].tokens, answers[i].truncated) == (answer.tokens, answer.truncated)


def test_compare_lets_the_source_write_once(translator: Translator) -> None:
    calls = []
    hook = translator.pair.source.model.base_model.register_forward_hook(lambda *_: calls.append(1))
    try:
        alone = translator.compare("Ann has 3 pens.", ["source_alone"])["source_alone"]
        once = len(calls)
        both = translator.compare("Ann has 3 pens.", ["text_bridge", "source_alone"])
    finally:
        hook.remove()
    assert once > 1
    assert len(calls) == 2 * once
    assert both["source_alone"].text == alone.text
    assert both["text_bridge"].seconds > both["source_alone"].seconds > 0


def test_what_a_question_takes_of_the_targets_context(translator: Translator) -> None:
    question, lm = "Ann has 3 pens.", translator.pair.target
    tokens = translator.prompt_tokens(question)
    assert tokens == len(translator.prompt_embeds(question))
    assert lm.context is not None
    fits = lm.context - tokens
    assert translator.prompt_tokens(question, fits) == tokens
    for ask in (translator.prompt_tokens, lambda q, n: list(translator.stream(q, max_new_tokens=n))):
        with pytest.raises(TooLongError, match="ask a shorter question") as raised:
            ask(question, fits + 1)
        assert "\n" not in str(raised.value)
    with pytest.raises(TooLongError, match="ask a shorter question"):
        translator.generate("pens " * lm.context)


def test_samples_depend_on_seed_and_question_alone(translator: Translator) -> None:
    questions = ["Ann has 3 pens.", "Tom has 4 pens.", "Ann has 3 pens and 1 more."]

    def texts(seed: int, batch_size: int) -> list[str]:
        return [a.text for a in translator.generate(questions, temperature=2.0, seed=seed, batch_size=batch_size)]

    assert texts(0, 3) == texts(0, 1)
    assert texts(0, 3) != texts(1, 3)
    own = translator.generate(questions, temperature=2.0, seed=[0, 1, 0], batch_size=2)
    assert [answer.text for answer in own] == [texts(0, 3)[0], texts(1, 3)[1], texts(0, 3)[2]]


def test_a_limit_of_tokens_truncates_and_says_so(translator: Translator) -> None:
    answer = translator.generate("Ann has 3 pens.", max_new_tokens=2)
    assert (answer.tokens, answer.truncated) == (2, True)
    assert answer.seconds > 0


def test_soft_tokens_are_those_of_the_final_evaluation(translator: Translator, trial: Path, spec: JobSpec) -> None:
    question = read_jsonl(trial / "samples.jsonl")[0]["question"]
    soft = translator.soft_tokens([question, "Ann has 3 pens."])
    assert soft.embeds.shape == (2, spec.soft_tokens, translator.pair.target.hidden_size)
    assert soft.mask.shape == (2, spec.soft_tokens)
    assert bool(soft.mask.all())
    torch.testing.assert_close(translator.soft_tokens(question).embeds, soft.embeds[:1], rtol=1e-10, atol=1e-12)


def test_transformers_continues_prompt_embeddings_as_generate_does(translator: Translator) -> None:
    question = "Ann has 3 pens."
    lm = translator.pair.target
    embeds = translator.prompt_embeds(question)
    with torch.no_grad():
        ids = lm.model.generate(
            inputs_embeds=embeds[None],
            attention_mask=embeds.new_ones(1, len(embeds), dtype=torch.long),
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=sorted(lm.ends),
            pad_token_id=lm.pad,
        )
    text = lm.tokenizer.decode(ids[0], skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert translator.generate(question, max_new_tokens=6).text == text.split("\nQuestion:")[0]


def test_translators_of_one_pair_share_its_models(translator: Translator, trial: Path) -> None:
    second = Translator.load(trial, source=translator.pair.source, target=translator.pair.target)
    assert second.pair.source is translator.pair.source
    assert second.pair.target is translator.pair.target
    assert second.generate("Ann has 3 pens.").text == translator.generate("Ann has 3 pens.").text


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda t: t.generate("  "), "the question is empty"),
        (lambda t: t.generate(["x"], temperature=1.0, seed=[1, 2]), "2 seeds for 1 questions"),
        (lambda t: t.generate("x", max_new_tokens=0), "max_new_tokens=0: at least 1"),
        (lambda t: t.compare("x", ["nobody"]), "unknown condition 'nobody'"),
        (lambda t: t.compare("x", "bridged"), "conditions='bridged': give a list, as in \\['bridged'\\]"),
        (lambda t: t.compare("x", []), "conditions=\\[\\]: give some of bridged, "),
        (lambda t: t.compare("x", [5]), "conditions=\\[5\\]: give some of bridged, "),
        (lambda t: t.compare("x", 5), "conditions=5: give some of bridged, "),
        (lambda t: t.compare("x", {"bridged"}), "conditions={'bridged'}: give some of bridged, "),
        (lambda t: t.soft_tokens([]), "soft_tokens takes one question at least"),
        (lambda t: t.soft_tokens("字 " * 3000), "ask a shorter question"),
        (lambda t: t.prompt_embeds("字 " * 3000), "ask a shorter question"),
        (lambda t: t.compare(5), "5 is no question: give a text"),
        (lambda t: t.generate(5), "5 is no question: give a text, or a list of texts"),
        (lambda t: t.generate(None), "None is no question"),
        (lambda t: t.generate(b"x"), "b'x' is no question"),
        (lambda t: t.generate(["x", 5]), "5 is no question: give a text, or an Example"),
        (lambda t: t.generate("x", max_new_tokens=1.5), "max_new_tokens=1.5: at least 1, a whole number"),
        (lambda t: t.generate("x", max_new_tokens="5"), "max_new_tokens='5': at least 1"),
        (lambda t: t.generate("x", batch_size=True), "batch_size=True: at least 1"),
        (lambda t: t.generate("x", temperature="hot"), "temperature='hot': 0 for greedy decoding, or a number up to"),
        (lambda t: t.generate("x", temperature=float("nan")), "temperature=nan: 0 for greedy"),
        (lambda t: t.generate("x", seed="a"), "seed='a': give a whole number, or one for each"),
        (lambda t: t.generate("x", seed=1.0), "seed=1.0: give a whole number"),
        (lambda t: t.generate("x", ids="a"), "ids='a': give a list with a text for each question"),
        (lambda t: t.generate(["x", "y"], ids=["a"]), "1 ids for 2 questions: give one for each"),
        (lambda t: next(t.stream(5)), "5 is no question"),
        (lambda t: next(t.stream_batch("how many?")), "stream_batch takes a list of questions"),
        (lambda t: t.soft_tokens(5), "5 is no question"),
        (lambda t: t.prompt_embeds(5), "5 is no question"),
        (lambda t: t.prompt_tokens("x", "y"), "max_new_tokens='y': at least 1"),
        (lambda t: t.question(5), "5 is no question"),
        (lambda t: t.question("x", 5), "name=5: give a text"),
        (lambda t: Translator.load(5), "5 is no place of a translator"),
        (lambda t: Translator.load(""), "'' is no place of a translator"),
        (lambda t: Translator.load(t.saved.folder, source=5), "source=5: give a folder, a name on the hub, or a Fro"),
        (lambda t: Translator.load(t.saved.folder, target=t.pair), "target=ModelPair"),
        (lambda t: Translator.load(t.saved.folder, plugins="mine"), "plugins='mine': give a tuple of modules"),
        (lambda t: Translator.load(t.saved.folder, revision=5), "revision=5: give a text"),
        (lambda t: Translator.load(t.saved.folder, device=5.5), "device=5.5: use cpu, cuda or cuda:N"),
    ],
)
def test_what_cannot_be_asked_is_one_line(translator: Translator, ask, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message) as raised:
        ask(translator)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "no such folder"),
        ("empty", "holds no translator"),
        ("unfinished", "has selected no checkpoint yet"),
    ],
)
def test_what_is_no_translator_is_one_line(place: str, message: str, tmp_path: Path, spec: JobSpec) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unfinished").mkdir()
    write_json(tmp_path / "unfinished" / "spec.json", {"spec": spec.model_dump()})
    with pytest.raises(UserError, match=message):
        Translator.load(tmp_path / place)


def test_an_example_keeps_its_own_noise(translator: Translator, trial: Path) -> None:
    row = read_jsonl(trial / "samples.jsonl")[0]
    renamed = sampled_example(row | {"id": "another"})
    mine, other = translator.soft_tokens(sampled_example(row)).embeds, translator.soft_tokens(renamed).embeds
    assert not torch.equal(mine, other)


@pytest.mark.slow
def test_in_bfloat16_answers_are_the_recorded_ones_up_to_rounding(folders: PairFolders, tmp_path: Path) -> None:
    spec = small_spec(folders, model_dtype="bfloat16", eval_dtype="as_trained", steps=2, eval_every=2, warmup_steps=1)
    write_json(tmp_path / "result.json", run_job(spec, tmp_path))
    write_json(tmp_path / "spec.json", {"variant": "full", "spec": spec.model_dump()})
    translator = Translator.load(tmp_path, device="cpu")
    rows = read_jsonl(tmp_path / "samples.jsonl")
    together = translator.soft_tokens([row["question"] for row in rows]).embeds.double()
    alone = torch.cat([translator.soft_tokens(row["question"]).embeds.double() for row in rows])
    torch.testing.assert_close(together, alone, rtol=2**-5, atol=2**-5 * float(alone.std()))
    result = verify(translator, items=len(rows), batch_size=1)
    assert result.items == len(rows)
    assert result.same + len(result.differing) == result.items, "what differs is named"
    assert result.same >= result.items // 2


@pytest.mark.slow
def test_200_questions_on_the_embedded_pair_get_their_recorded_answers(tmp_path: Path) -> None:
    spec = tiny(steps=2, warmup_steps=1, eval_every=2, test_examples=200, validation_examples=2)
    result = run_job(spec, tmp_path / "trial")
    write_json(tmp_path / "trial" / "spec.json", {"variant": "full", "spec": spec.model_dump()})
    write_json(tmp_path / "trial" / "result.json", result)
    rows = read_jsonl(tmp_path / "trial" / "samples.jsonl")
    answers = Translator.load(tmp_path / "trial", device="cpu").generate(
        [row["question"] for row in rows], batch_size=7
    )
    assert [answer.text for answer in answers] == [row["bridged_output"] for row in rows]
    assert [answer.final for answer in answers] == [row["bridged_answer"] for row in rows]


def test_text_that_was_no_utf8_is_one_line(translator: Translator) -> None:
    with pytest.raises(UserError, match="no valid Unicode"):
        translator.generate(b"How many \xff?".decode("utf-8", "surrogateescape"))


def test_no_questions_have_no_answers(translator: Translator) -> None:
    assert translator.generate([]) == []
    assert list(translator.stream_batch([])) == []


def test_an_unknown_setting_is_refused(translator: Translator) -> None:
    with pytest.raises(UserError, match="unknown setting top_p: there are temperature, "):
        translator.generate("How many?", top_p=0.9)  # type: ignore[call-arg]
