"""The lexicon: spellings, values, and a withheld third that cannot be composed from what is shown."""

import pytest

from ray_bridge.tasks.synthetic.lexicon import LANGUAGES, WITHHELD_DIGITS, cardinal, lexicon, vocabulary


@pytest.mark.parametrize(
    ("value", "language", "text"),
    [
        (13, "english", "thirteen"),
        (40, "english", "forty"),
        (99, "english", "ninety-nine"),
        (21, "german", "einundzwanzig"),
        (17, "german", "siebzehn"),
        (36, "german", "sechsunddreissig"),
        (21, "italian", "ventuno"),
        (28, "italian", "ventotto"),
        (43, "italian", "quarantatre"),
        (19, "italian", "diciannove"),
    ],
)
def test_cardinals_are_spelled_as_their_language_does(value, language, text):
    assert cardinal(value, language) == text


@pytest.mark.parametrize("value", [0, 100, -3])
def test_cardinals_outside_the_lexicon_are_refused(value):
    with pytest.raises(ValueError, match="1 to 99"):
        cardinal(value, "english")


def test_entries_are_many_and_unambiguous():
    entries = lexicon()
    assert len(entries) > 300
    assert len({e.text for e in entries}) == len(entries)
    assert all(e.text.isascii() and not any(c.isdigit() for c in e.text) for e in entries)
    assert all(1 <= e.value <= 99 for e in entries)
    assert {e.kind for e in entries} == {"cardinal", "dozen", "multiplier", "fraction", "duration"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_third_of_each_language_is_withheld(language):
    cardinals = [e for e in lexicon() if e.language == language and e.kind == "cardinal"]
    assert sum(e.transfer for e in cardinals) == 36


def test_every_value_stays_visible_in_some_language():
    for value in range(1, 100):
        entries = [e for e in lexicon() if e.kind == "cardinal" and e.value == value]
        assert any(not e.transfer for e in entries), value


def test_withheld_digits_do_not_meet_across_languages():
    sets = list(WITHHELD_DIGITS.values())
    assert sum(map(len, sets)) == len(frozenset().union(*sets)) == 6


def test_no_withheld_stem_stands_in_a_shown_word():
    stems = {
        "english": ("four", "fort", "seven", "quarter"),
        "german": ("zwei", "zwoelf", "zwan", "neun"),
        "italian": ("tre", "tredici", "trent", "otto", "ottant", "terzo", "ottavo"),
    }
    for e in lexicon():
        words = e.text.replace("-", " ")
        held = any(s in words for s in stems[e.language])
        # Twice, thrice, half and the like stand for a digit without its stem; only they may be withheld without one.
        assert held <= e.transfer, e
    transfer = {e.text: e.transfer for e in lexicon()}
    assert transfer["twenty-seven"]
    assert transfer["ein neuntel"]
    assert not transfer["siebenundvierzig"]


def test_vocabulary_holds_single_words():
    assert {"seven", "dozen", "siebenundvierzig", "settimane"} <= vocabulary()
    assert not any(" " in w or "-" in w for w in vocabulary())
