"""How many answers differ between batchings is counted, and one batching alone is not taken for a measurement."""

from benchmarks.invariance import Samples, compare, differences


def samples(*texts: str) -> Samples:
    return [{"bridged_output": text, "bridged_answer": text[-1], "bridged_correct": text[-1] == "1"} for text in texts]


def test_items_that_differ_in_some_batching_are_counted() -> None:
    passes = {
        "all": samples("a1", "b1", "c1"),
        "halves": samples("a1", "x1", "c2"),
        "shares": samples("a1", "b1", "c3"),
    }
    found = compare(passes, ["bridged"])
    assert found is not None
    assert found["bridged"]["other_in_some_batching"] == {"texts": 2, "answers": 1, "verdicts": 1}
    (line,) = differences({"as trained": found})
    assert line.startswith("as trained, bridged: {'texts': 2")


def test_one_batching_alone_compares_nothing_and_says_so() -> None:
    alone = compare({"all": samples("a1", "b1")}, ["bridged"])
    assert alone is None
    (line,) = differences({"batch_invariant": alone})
    assert line.startswith("batch_invariant: one batching alone")
