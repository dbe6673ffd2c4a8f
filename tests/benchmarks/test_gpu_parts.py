"""The comparison of every fast way with the eager one, in miniature, under tame and under massive activations."""

import torch

from benchmarks.gpu_parts import Bench


def test_right_ways_are_equal_and_a_wrong_one_is_named() -> None:
    bench = Bench("tiny", torch.device("cpu"))
    bench.load()
    plain, massive, again = bench.equality(), bench.equality_massive(), bench.equality()
    assert (plain["wrong"], massive["wrong"]) == ([], [])
    assert massive["errors"] != plain["errors"] == again["errors"]
    body = bench.rig.models["target"].body
    assert body is not None
    body.scale *= 1.05
    for found in (bench.equality(), bench.equality_massive()):
        assert "fused" in found["wrong"]
        assert "eager" not in found["wrong"]
