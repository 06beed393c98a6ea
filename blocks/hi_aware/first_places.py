"""First places of the sources with nothing known of the faults: a search that a few faulty elements cannot turn."""

from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.hi_aware.planar_dictionary import PlanarDictionary
from blocks.hi_aware.reduce import Reduced, unmixed
from blocks.hi_aware.scene import F64, Places
from blocks.subspace.dictionary import Dictionary
from blocks.subspace.search_nulls import search_nulls
from hil.errors import EstimationError


def first_places(data: Reduced, dictionary: Dictionary | PlanarDictionary) -> Places:
    """Within the basin of the joint fit.

    A share ``p`` of faulty elements lowers the response at the true place by ``(1 - p)^2`` and moves it by nothing on
    average: pilots are matched one by one, without pilots the nulls of MUSIC are taken.

    Raises:
        EstimationError: Fewer places than sources were found.
    """
    if data.mixing is not None:
        return peaks_of(unmixed(data), dictionary)
    places, _ = nulls_of(np.linalg.qr(data.z)[0], dictionary)
    if len(places.azimuth_rad) < data.n_sources:
        raise EstimationError(
            f"first_places: {len(places.azimuth_rad)} of {data.n_sources} sources show in the signal subspace; "
            "ask for fewer, or use pilots"
        )
    return places


def peaks_of(alone: npt.NDArray[np.complexfloating[Any, Any]], dictionary: Dictionary | PlanarDictionary) -> Places:
    """Where each column of ``[sensor, source]``, a source by itself, has its largest response."""
    if isinstance(dictionary, PlanarDictionary):
        points = dictionary.peaks(alone)
        return Places(points.azimuth_rad, points.inverse_range_per_m, points.elevation_rad)
    best = np.abs(dictionary.conjugate @ alone.astype(np.complex64)).argmax(axis=0)
    n_range = dictionary.grid.n_range
    return Places(dictionary.azimuth_rad[best // n_range], dictionary.inverse_range_per_m[best % n_range])


def nulls_of(
    signal: npt.NDArray[np.complexfloating[Any, Any]], dictionary: Dictionary | PlanarDictionary
) -> tuple[Places, F64]:
    """Nulls of the MUSIC cost of a subspace ``[sensor, source]``, at most as many as sources, and their depth."""
    if isinstance(dictionary, PlanarDictionary):
        points, depth = dictionary.nulls(signal)
        return Places(points.azimuth_rad, points.inverse_range_per_m, points.elevation_rad), depth
    nulls = search_nulls(signal.astype(np.complex128, copy=False), dictionary)
    return Places(nulls.azimuth_rad, nulls.inverse_range_per_m), nulls.depth
