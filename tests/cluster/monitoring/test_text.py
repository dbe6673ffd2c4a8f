"""Lines are whole at 80 columns; paths and addresses are never broken."""

from cluster.monitoring.text import accuracy_in_words, unbroken, wrapped


def test_long_lines_are_broken_at_spaces_and_words_kept_whole() -> None:
    line = "gate: passed: " + "many words that follow " * 6
    parts = wrapped(line, indent="  ").split("\n")
    assert max(map(len, parts)) <= 80
    assert " ".join(" ".join(parts).split()) == line.strip()
    path = "records: /a/" + "very-long-name/" * 8
    assert path.removeprefix("records: ") in wrapped(path)
    assert wrapped("short") == "short"
    spaces = "/a/" + "a name with spaces/" * 8
    assert f"records: {spaces}" in " ".join(wrapped(f"records: {unbroken(spaces)} and what follows").split("\n  "))
    assert wrapped(unbroken("a b")) == "a b"


def test_accuracies_have_intervals_if_the_number_of_items_is_known() -> None:
    assert accuracy_in_words(0.62, 400) == "62.0% [57.2, 66.6]"
    assert accuracy_in_words(0.62, None) == "62.0%"
