"""Quantiles of a stream of positive numbers in fixed memory."""

from typing import Self

import numpy as np
import numpy.typing as npt

_LOW_EXPONENT, _HIGH_EXPONENT = -6, 6
_BINS_PER_DECADE = 256
_N_BINS = (_HIGH_EXPONENT - _LOW_EXPONENT) * _BINS_PER_DECADE


class LogHistogram:
    """Counts in 256 bins a decade from 1e-6 to 1e6, 24 KiB; mergeable, and exact in its counts.

    A quantile is the geometric middle of the bin that holds it, within 0.46 % of the value itself (half a bin is a
    factor of 10^(1/512)). Values below 1e-6 count as 0, those from 1e6 on as 1e6.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_N_BINS + 2, dtype=np.int64)  # first: below the range; last: above it

    def __len__(self) -> int:
        return int(self._counts.sum())

    def add(self, values: npt.ArrayLike) -> None:
        """Count ``values``, any shape, none negative or NaN."""
        x = np.asarray(values, dtype=np.float64).ravel()
        if not (x >= 0).all():
            raise ValueError(f"LogHistogram.add: every value must be 0 or more, got {x[~(x >= 0)][0]}")
        with np.errstate(divide="ignore"):
            position = np.floor((np.log10(x) - _LOW_EXPONENT) * _BINS_PER_DECADE)
        np.add.at(self._counts, np.clip(position, -1, _N_BINS).astype(np.int64) + 1, 1)

    def merge(self, other: Self) -> None:
        """Take in what ``other`` counted."""
        self._counts += other._counts

    def quantile(self, fraction: float) -> float | None:
        """Return the value that ``fraction`` of the values do not exceed (the lower one of two), or None if empty."""
        n = len(self)
        if n == 0:
            return None
        rank = max(1, int(np.ceil(fraction * n)))
        index = int(np.searchsorted(np.cumsum(self._counts), rank)) - 1
        if index < 0:
            return 0.0
        if index >= _N_BINS:
            return float(10.0**_HIGH_EXPONENT)
        return float(10.0 ** (_LOW_EXPONENT + (index + 0.5) / _BINS_PER_DECADE))
