"""First places of the sources with nothing known of the faults: a search that a few faulty elements cannot turn."""

from typing import Any

import numpy as np
import numpy.typing as npt

from blocks.hi_aware.planar_dictionary import PlanarDictionary
from blocks.hi_aware.reduce import Reduced, unmixed
from blocks.hi_aware.scene import F64, Places
from blocks.subspace.dictionary import Dictionary
from blocks.subspace.search_nulls import RESOLVED_DEPTH, search_nulls


def first_places(data: Reduced, dictionary: Dictionary | PlanarDictionary) -> tuple[Places, bool]:
    """Within the basin of the joint fit.

    A share ``p`` of faulty elements lowers the response at the true place by ``(1 - p)^2`` and moves it by nothing on
    average: pilots are matched one by one, without pilots the nulls of MUSIC are taken.

    Returns:
        As many places as there are sources; without pilots fewer, where fewer show in the signal subspace. And whether
        each has a null of its own: coherent sources have not.
    """
    if data.mixing is not None:
        return peaks_of(unmixed(data), dictionary), True
    places, depth = nulls_of(np.linalg.qr(data.z)[0], dictionary)
    return places, len(depth) == data.n_sources and bool((depth < RESOLVED_DEPTH).all())


def peaks_of(alone: npt.NDArray[np.complexfloating[Any, Any]], dictionary: Dictionary | PlanarDictionary) -> Places:
    """Where each column of ``[sensor, source]``, a source by itself, has its largest response."""
    response = np.abs(dictionary.conjugate @ alone.astype(np.complex64))
    return settled(alone, response.argmax(axis=0), dictionary)


def settled(
    alone: npt.NDArray[np.complexfloating[Any, Any]],
    index: npt.NDArray[np.intp],
    dictionary: Dictionary | PlanarDictionary,
) -> Places:
    """Places at grid points ``[source]``; off the grid for planar arrays, see :meth:`PlanarDictionary.settled`."""
    if isinstance(dictionary, PlanarDictionary):
        points = dictionary.settled(alone, index)
        return Places(points.azimuth_rad, points.inverse_range_per_m, points.elevation_rad)
    n_range = dictionary.grid.n_range
    return Places(dictionary.azimuth_rad[index // n_range], dictionary.inverse_range_per_m[index % n_range])


def nulls_of(
    signal: npt.NDArray[np.complexfloating[Any, Any]], dictionary: Dictionary | PlanarDictionary
) -> tuple[Places, F64]:
    """Nulls of the MUSIC cost of a subspace ``[sensor, source]``, at most as many as sources, and their depth."""
    if isinstance(dictionary, PlanarDictionary):
        points, depth = dictionary.nulls(signal)
        return Places(points.azimuth_rad, points.inverse_range_per_m, points.elevation_rad), depth
    nulls = search_nulls(signal.astype(np.complex128, copy=False), dictionary)
    return Places(nulls.azimuth_rad, nulls.inverse_range_per_m), nulls.depth
