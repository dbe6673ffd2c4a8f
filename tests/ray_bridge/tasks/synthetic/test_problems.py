"""The generator: right solutions, disjoint splits, and words where and only where they are promised."""

import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_bridge.tasks.synthetic.lexicon import lexicon, vocabulary
from ray_bridge.tasks.synthetic.problems import choose_words, draw_problem, make_examples, prompt, split_of, worded
from ray_bridge.tasks.synthetic.templates import TEMPLATES

OPERATIONS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__floordiv__}


def words_of(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z]+", text))


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_each_template_solves_what_it_asks(name):
    rng = random.Random(name)
    for _ in range(50):
        problem = draw_problem(rng, [name])
        *steps, last = problem.answer.split("\n")
        assert 1 <= len(steps) <= 4
        for line in steps:
            found = re.search(r"(\d+) ([-+*/]) (\d+) = (\d+)", line)
            assert found is not None, line
            a, op, b, result = found.groups()
            assert OPERATIONS[op](int(a), int(b)) == int(result)
            assert op != "/" or int(a) % int(b) == 0
        assert last == f"#### {result}"
        assert 1 <= problem.result < 300
        # Every number of the question is used in the solution.
        used = Counter(re.findall(r"\d+", " ".join(steps)))
        assert all(used[str(s.value)] for s in problem.slots)


def test_slots_are_in_the_order_of_reading():
    rng = random.Random(0)
    for _ in range(300):
        problem = draw_problem(rng)
        assert [s.index for s in problem.slots] == list(range(len(problem.slots)))
        assert re.findall(r"\{(\d+)\}", problem.pattern) == [str(s.index) for s in problem.slots]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.booleans())
def test_words_stand_for_the_numerals_they_replace(seed, transfer):
    rng = random.Random(seed)
    problem = draw_problem(rng)
    words = choose_words(rng, problem, transfer)
    if words is None:
        return
    assert 1 <= len(words) <= 2
    by_text = {e.text: e for e in lexicon()}
    for index, phrase in words.items():
        entry = by_text.get(phrase) or by_text[phrase.removesuffix(" times").removesuffix(" days")]
        assert entry.value == problem.slots[index].value
        assert entry.transfer == transfer
    question = worded(problem, words)
    assert all(phrase in question for phrase in words.values())


def test_same_seed_same_items_and_shorter_is_a_prefix():
    assert make_examples("test", 50, 3) == make_examples("test", 120, 3)[:50]
    assert make_examples("test", 50, 3) != make_examples("test", 50, 4)


def test_the_stream_is_fixed_for_ever():
    item = make_examples("test", 1, 0)[0]
    assert item.id == "synthetic-test-000000"
    assert split_of(item.numeral_question) == "test"
    assert item.question.startswith("Emma has 8 baskets of 3 bricks and 7 loose ones.")


def test_splits_are_disjoint_and_cover_what_they_promise():
    questions = {s: {i.numeral_question for i in make_examples(s, 1500, 0)} for s in ("train", "validation", "test")}
    assert all(len(q) == 1500 for q in questions.values())
    assert not questions["train"] & questions["test"]
    assert not questions["train"] & questions["validation"]
    assert not questions["validation"] & questions["test"]
    drawn = Counter(draw_problem(rng).split for rng in [random.Random(1)] for _ in range(4000))
    assert drawn["pretraining"] > 1200
    assert drawn["test"] > 300


def test_training_shows_no_withheld_word():
    text = " ".join(i.question for i in make_examples("train", 5000, 1, word_share=1.0))
    shown = {w for e in lexicon() if not e.transfer for w in words_of(e.text)}
    withheld = {w for e in lexicon() if e.transfer for w in words_of(e.text)} - shown
    assert len(withheld) > 80
    assert not words_of(text) & withheld
    with pytest.raises(ValueError, match="transfer"):
        make_examples("train", 1, 0, transfer_share=0.5)
    with pytest.raises(ValueError, match="unknown split"):
        make_examples("dev", 1, 0)  # type: ignore[arg-type]


def test_test_split_has_its_shares():
    items = make_examples("test", 4000, 2)
    count = Counter(i.words for i in items)
    assert 0.42 < 1 - count["none"] / 4000 < 0.48
    assert 0.35 < count["transfer"] / (count["transfer"] + count["seen"]) < 0.45
    numbers = Counter(len(i.word_values) for i in items if i.words != "none")
    assert 0.2 < numbers[2] / (numbers[1] + numbers[2]) < 0.3
    assert {i.steps for i in items} == {1, 2, 3, 4}
    assert max(Counter(i.gold for i in items).values()) < 200


def test_numeral_items_and_answers_hold_no_word():
    for item in make_examples("test", 1500, 5):
        assert not words_of(item.answer) & (vocabulary() - {"a", "an"})
        assert item.answer.endswith(f"\n#### {item.gold}")
        assert (item.question == item.numeral_question) == (item.words == "none")
        assert bool(item.word_values) == (item.words != "none")
        assert not words_of(item.numeral_question) & (vocabulary() - {"a", "an", "one"})  # "one of them" is no number


def test_prompt_ends_where_the_answer_begins():
    assert prompt("How many?") == "Question: How many?\nAnswer:"
