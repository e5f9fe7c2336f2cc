"""What the tests of the maths share: finite differences, and a batch in which everything that can be odd is.

B: completions   T: token positions
"""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def central_differences() -> Callable[..., np.ndarray]:
    """A function from a scalar function of an array, and a point, to its gradient there."""

    def differentiate(function, point, width=1e-6):
        gradient = np.zeros_like(point)
        for place in np.ndindex(point.shape):
            above, below = point.copy(), point.copy()
            above[place] += width
            below[place] -= width
            gradient[place] = (function(above) - function(below)) / (2 * width)
        return gradient

    return differentiate


@pytest.fixture
def odd_mask_BT() -> np.ndarray:
    """Completions of up to nine tokens after a prompt of two: full, short, empty, of one token, and with holes."""
    mask_BT = np.zeros((7, 11), dtype=bool)
    for row, length in enumerate([9, 4, 0, 1, 9, 6, 7]):
        mask_BT[row, 2 : 2 + length] = True
    mask_BT[4, [3, 4, 8]] = False
    mask_BT[5, 2] = False
    return mask_BT
