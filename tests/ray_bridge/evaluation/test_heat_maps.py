"""Heat maps: one fixed scale, on which weights that are all but equal look equal."""

import io

import matplotlib.image
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_bridge.evaluation.heat_maps import Panel, heat_maps, multiples

TOKENS = ["$5", "\n", "東", " x"]


def drawn(*weights: Tensor) -> NDArray[np.float32]:
    panels = [Panel(title="t", rows="head", tokens=TOKENS, weights=each) for each in weights]
    picture: NDArray[np.float32] = matplotlib.image.imread(io.BytesIO(heat_maps(panels)), format="png")
    return picture


def colours(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how far each pixel of the panels, left of the colour bar, is from grey."""
    panels = picture[:, : int(0.72 * picture.shape[1]), :3]
    return panels.max(-1) - panels.min(-1)


def test_multiples_of_the_uniform_share() -> None:
    assert multiples(torch.full((2, 4), 0.25)).tolist() == [[1.0] * 4] * 2
    assert multiples(torch.tensor([0.5, 0.5, 0.0, 0.0])).tolist() == [2.0, 2.0, 0.0, 0.0]


def test_nearly_equal_weights_look_equal_and_sharp_ones_do_not() -> None:
    nearly = torch.tensor([[0.26, 0.25, 0.25, 0.24], [0.24, 0.25, 0.25, 0.26]])
    assert colours(drawn(nearly)).max() < 0.1
    assert colours(drawn(torch.eye(4)[:2])).max() > 0.5


def test_equal_weights_have_equal_colours_whatever_stands_beside_them() -> None:
    mild = torch.tensor([[0.4, 0.2, 0.2, 0.2]])
    alone, beside = drawn(mild, mild), drawn(mild, torch.eye(4)[:1])
    half = alone.shape[0] // 2
    assert alone.shape == beside.shape
    np.testing.assert_array_equal(colours(alone)[: half - 20], colours(beside)[: half - 20])


def test_many_rows_and_panels_fit() -> None:
    slots = torch.full((64, 4), 0.25)
    panels = [Panel(title="t", rows="slot", tokens=TOKENS, weights=slots) for _ in range(3)]
    assert heat_maps(panels, columns=2).startswith(b"\x89PNG")
