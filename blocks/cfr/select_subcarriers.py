"""Fewer subcarriers: a part of the band, one of so many, or means of neighbours."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hil.block import Block, Out, Result
from hil.errors import EstimationError
from hil.params import Count, Params
from hil.streams import CFR, port_of

C64 = npt.NDArray[np.complex64]
F64 = npt.NDArray[np.float64]


def mean_over_neighbours(cfr: C64, subcarrier_hz: F64, n: int) -> tuple[C64, F64]:
    """Means of every ``n`` neighbours, and their mean frequencies; what is left at the end is dropped.

    Coherent, so the delay must turn the phase by well under a turn over ``n`` subcarriers.

    Args:
        cfr: ``[sensor, subcarrier]``.
        subcarrier_hz: ``[subcarrier]``.
        n: How many.
    """
    kept = cfr.shape[1] // n * n
    mean: C64 = cfr[:, :kept].reshape(len(cfr), -1, n).mean(axis=-1)
    return mean, subcarrier_hz[:kept].reshape(-1, n).mean(axis=-1)


class SelectSubcarriersParams(Params, frozen=True):
    low_hz: Annotated[float | None, Meta(description="Lowest offset from the centre; absent: all")] = None
    high_hz: Annotated[float | None, Meta(description="Highest offset from the centre; absent: all")] = None
    edge: Annotated[int, Meta(ge=0, description="Leave out so many at either end, where estimates are worst")] = 0
    every: Annotated[Count, Meta(description="Of these one of so many")] = 1
    mean: Annotated[bool, Meta(description="The mean of these so many instead of the first")] = False
    drop_silent: Annotated[bool, Meta(description="Leave out those where all antennas are 0: not sounded")] = True


class SelectSubcarriers(Block):
    """CFR on a part of its subcarriers."""

    params: SelectSubcarriersParams
    inputs = {"cfr": port_of(CFR)}
    outputs = {"cfr": port_of(CFR)}

    def process(self, arrays: dict[str, Any]) -> Result:
        p = self.params
        cfr, offset_hz = arrays["cfr"], arrays["subcarrier_hz"]
        keep = np.ones(len(offset_hz), bool)
        if p.drop_silent:
            keep &= cfr.any(axis=0)
        if p.low_hz is not None:
            keep &= offset_hz >= p.low_hz
        if p.high_hz is not None:
            keep &= offset_hz <= p.high_hz
        place = np.flatnonzero(keep)
        place = place[p.edge : len(place) - p.edge]
        if len(place) < p.every:
            raise EstimationError(
                f"{self.name}: of {len(offset_hz)} subcarriers {len(place)} are left, too few for one of {p.every}; "
                "widen low_hz .. high_hz or lower edge"
            )
        if p.mean:
            cfr, offset_hz = mean_over_neighbours(cfr[:, place], offset_hz[place], p.every)
        else:
            cfr, offset_hz = cfr[:, place[:: p.every]], offset_hz[place[:: p.every]]
        out = {"cfr": np.ascontiguousarray(cfr), "subcarrier_hz": np.ascontiguousarray(offset_hz)}
        return Out({**out, "rnti": arrays["rnti"]}, {"meta": self.header.meta})
