"""First places of the sources with nothing known of the faults: a search that a few faulty elements cannot turn."""

import numpy as np

from blocks.hi_aware.reduce import Reduced, unmixed
from blocks.hi_aware.scene import Places
from blocks.subspace.dictionary import Dictionary
from blocks.subspace.search_nulls import search_nulls
from hil.errors import EstimationError


def first_places(data: Reduced, dictionary: Dictionary) -> Places:
    """Within the basin of the joint fit.

    A share ``p`` of faulty elements lowers the response at the true place by ``(1 - p)^2`` and moves it by nothing on
    average: pilots are matched one by one, without pilots the nulls of MUSIC are taken.

    Raises:
        EstimationError: Fewer places than sources were found.
    """
    if data.mixing is not None:
        response = np.abs(dictionary.conjugate @ unmixed(data).astype(np.complex64))
        best = response.argmax(axis=0)
        n_range = dictionary.grid.n_range
        return Places(dictionary.azimuth_rad[best // n_range], dictionary.inverse_range_per_m[best % n_range])
    signal = np.linalg.qr(data.z)[0]
    nulls = search_nulls(signal, dictionary)
    if len(nulls.azimuth_rad) < data.n_sources:
        raise EstimationError(
            f"first_places: {len(nulls.azimuth_rad)} of {data.n_sources} sources show in the signal subspace; "
            "ask for fewer, or use pilots"
        )
    return Places(nulls.azimuth_rad, nulls.inverse_range_per_m)
