"""Memory for samples that is used again and again: fresh memory costs more than the copy into it."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

#: So much is kept for later; what is beyond it is made and freed as it is needed.
_KEPT_BYTES = 256 << 20
_KEPT_ARRAYS = 32


class MemoryPool:
    """Arrays of bytes of one size, each given out again once nobody else refers to it.

    Args:
        n_bytes: Of each.
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._n_kept = min(_KEPT_ARRAYS, max(2, _KEPT_BYTES // max(1, n_bytes)))
        self._arrays: list[npt.NDArray[np.uint8]] = []

    def take(self) -> npt.NDArray[np.uint8]:
        """Return an array ``[byte]``; views of it keep it from being given out again."""
        for k in range(len(self._arrays)):
            if sys.getrefcount(self._arrays[k]) == 2:  # the list's reference and the argument's
                return self._arrays[k]
        array = np.empty(self.n_bytes, np.uint8)
        if len(self._arrays) < self._n_kept:
            self._arrays.append(array)
        return array
