"""What an analogue-digital converter makes of a sample: integers of so many bits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

C64 = npt.NDArray[np.complex64]
I16 = npt.NDArray[np.int16]


def quantise(samples: C64, bits: int = 16) -> I16:
    """Round to the nearest of ``2**bits`` levels; full scale 1 is ``2**(bits - 1)``, what is beyond saturates.

    Args:
        samples: Any shape, full scale 1.
        bits: Of the converter, 2 to 16. They are the low bits of the result, sign-extended.

    Returns:
        ``[..., 2]``: in-phase and quadrature, counts.
    """
    scale = np.float32(1 << (bits - 1))
    parts = np.ascontiguousarray(samples).view(np.float32).reshape(*samples.shape, 2) * scale
    np.rint(parts, out=parts)
    np.clip(parts, -scale, scale - 1, out=parts)
    return parts.astype(np.int16)
