"""Exponential moving average of a noisy series."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Within a block, powers of the weight must neither overflow nor vanish.
_LARGEST_EXPONENT = 500.0


def smoothed(values: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Return the moving average, each point weighed against all before it.

    ``y[t] = sum(weight**k * x[t-k]) / sum(weight**k)``, the bias-corrected average that TensorBoard
    draws. Values that are not finite stay gaps and count for nothing.

    Parameters
    ----------
    values
        Shape ``(n_steps,)``.
    weight
        How much of the past is kept at each point: 0 keeps nothing, below 1.
    """
    if weight <= 0:
        return values
    finite = np.isfinite(values)
    good = values[finite]
    out = np.full(values.shape, np.nan)
    # Scaled to about one: sums of huge values would overflow.
    scale = float(np.abs(good).max(initial=0.0)) or 1.0
    with np.errstate(under="ignore"):
        out[finite] = _filtered(good / scale, weight) / _filtered(np.ones_like(good), weight) * scale
    return out


def _filtered(values: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Return ``y[t] = weight * y[t-1] + values[t]``, in blocks: a block is one cumulative sum."""
    width = max(1, min(values.size, int(_LARGEST_EXPONENT / -math.log(weight))))
    powers = weight ** np.arange(1, width + 1)
    out = np.empty_like(values)
    before = 0.0
    for start in range(0, values.size, width):
        block = values[start : start + width]
        falling = powers[: block.size]
        out[start : start + block.size] = falling * (before + np.cumsum(block / falling))
        before = float(out[start + block.size - 1])
    return out
