"""Signal-to-noise ratio of samples whose number of sources is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hil.errors import EstimationError

#: What is not told from noise is given this.
LEAST_DB = -30.0


def mean_source_snr_db(samples: npt.NDArray[np.complexfloating[Any, Any]], n_sources: int) -> npt.NDArray[np.float64]:
    r"""Power of a source over noise at one sensor, mean of the sources in power.

    Noise is the mean of the ``N - M`` smallest eigenvalues of the sample covariance, over ``1 - M / T``: the subspace
    of ``M`` dimensions that takes most of the power takes so much of the noise with it. The rest of the trace is the
    sources'. Neither geometry nor waveforms enter, so it holds for coherent sources and for elements that are not where
    they are said to be. A source that is not counted makes noise too large.

    Args:
        samples: ``[..., sensor, snapshot]``.
        n_sources: ``M``, fewer than sensors and snapshots.

    Returns:
        Decibels, at least :data:`LEAST_DB`, ``[...]``.

    Raises:
        EstimationError: As many sources as sensors or snapshots.
    """
    n, t = samples.shape[-2:]
    if n_sources >= min(n, t):
        raise EstimationError(f"no noise is left of {n} sensors and {t} snapshots with {n_sources} sources in them")
    x = samples.astype(np.complex128)
    xh = np.swapaxes(x.conj(), -1, -2)
    values = np.linalg.eigvalsh(x @ xh if n <= t else xh @ x) / t  # either way the same but for zeros
    total = values.sum(-1)
    noise = values[..., : min(n, t) - n_sources].sum(-1) * t / ((n - n_sources) * (t - n_sources))
    noise = np.maximum(noise, np.finfo(np.float64).eps * total)
    each: npt.NDArray[np.float64] = (total / n - noise) / n_sources
    return 10 * np.log10(np.maximum(each / noise, 10 ** (LEAST_DB / 10)))
