"""Sums of unit vectors as tuples of their components."""

import pytest

from ray_bridge.tasks.latex.unit_vectors import components


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (r"\mathbf{i}+2\mathbf{j}", "(1,2)"),
        (r"2\mathbf j - \mathbf i", "(- 1,2)"),
        (r"-\frac{1}{2}\hat{i} + (a-b)\hat{\jmath}", r"(-\frac{1}{2},(a-b))"),
        (r"\vec{v} = 3\mathbf{\hat{i}} - \mathbf{\hat{k}}", r"\vec{v} =(3,0,-1)"),
        (r"$\vec{i}-\vec{j}$", "(1,-1)"),
        (r"3\mathbf{i}", r"3\mathbf{i}"),
        (r"\mathbf{i}+\mathbf{i}+\mathbf{j}", r"\mathbf{i}+\mathbf{i}+\mathbf{j}"),
        (r"\mathbf{i}+\mathbf{j}+1", r"\mathbf{i}+\mathbf{j}+1"),
        (r"\mathbf{i}\mathbf{j}", r"\mathbf{i}\mathbf{j}"),
        (r"\mathbf{A}+\mathbf{B}", r"\mathbf{A}+\mathbf{B}"),
        ("i+j", "i+j"),
    ],
)
def test_a_sum_of_unit_vectors_is_a_tuple_and_any_other_text_stays(text: str, written: str) -> None:
    assert components(text).replace(" ", "") == written.replace(" ", "")
