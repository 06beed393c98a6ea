"""Covariance over antennas of a channel frequency response, its subcarriers as snapshots."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hil.block import Block, Out, Result
from hil.errors import EstimationError
from hil.params import Params
from hil.streams import CFR, COVARIANCE, port_of

Complex = npt.NDArray[np.complexfloating[Any, Any]]
C128 = npt.NDArray[np.complex128]


def cfr_covariance(cfr: Complex) -> C128:
    r"""``H H^H / K``, ``[..., sensor, sensor]`` from ``[..., sensor, subcarrier]``.

    Paths whose delays differ by more than about one over the bandwidth are decorrelated by it. Steering vectors of the
    centre frequency fit it where bandwidth times aperture is far below the speed of light (98 MHz and 13 cm: 0.07 rad
    at the edges); for larger arrays use :mod:`blocks.cfr.wideband`.
    """
    exact = cfr.astype(np.complex128, copy=False)
    return exact @ exact.conj().swapaxes(-1, -2) / exact.shape[-1]


class CfrCovarianceParams(Params, frozen=True):
    """None."""


class CfrCovariance(Block):
    """Covariance of each CFR, for every estimator that takes covariances; the terminal is in ``meta`` as ``rnti``."""

    params: CfrCovarianceParams
    inputs = {"cfr": port_of(CFR)}
    outputs = {"covariance": port_of(COVARIANCE)}

    def process(self, arrays: dict[str, Any]) -> Result:
        cfr = arrays["cfr"]
        if not cfr.shape[1]:
            raise EstimationError(f"{self.name}: a channel estimate without subcarriers")
        out = {"covariance": cfr_covariance(cfr), "n_snapshots": np.array(cfr.shape[1], dtype=np.int64)}
        return Out(out, {"meta": {**self.header.meta, "rnti": int(arrays["rnti"])}})
