"""Systems as lists, functions in pieces as sets of pairs; matrices and tables stay."""

from ray_bridge.tasks.latex.environments import without_environments


def test_systems_are_lists_and_functions_in_pieces_are_sets() -> None:
    written = {
        r"\begin{cases}x=1\\y=2\end{cases}": "x=1, y=2",
        r"\begin{aligned}x&=2+3\\&=5\end{aligned}": "x=2+3=5",
        r"\{\begin{array}{rl}x&=1,\\y&=2.\end{array}": "x=1, y=2",
        r"f(x) = \begin{cases}1 & \text{if }x>0,\\0 & \text{otherwise}\end{cases}": (
            r"\{(1, x>0), (0, \text{otherwise})\}"
        ),
        r"\begin{pmatrix}1\\2\end{pmatrix}": r"\begin{pmatrix}1\\2\end{pmatrix}",
        r"\begin{array}{cc}1&2\\3&4\end{array}": r"\begin{array}{cc}1&2\\3&4\end{array}",
        r"\begin{cases}1": r"\begin{cases}1",
    }
    assert {text: without_environments(text) for text in written} == written
