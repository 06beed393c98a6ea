"""Channels in closed form, and what an array receives through them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.formats.srs import Srs, subcarrier_offsets_hz
from hil.frame import Frame, Header
from hil.params import convert_params

C128 = npt.NDArray[np.complex128]

C_M_S = 299_792_458.0
CARRIER_HZ = 3.5e9
SMALL = {"n_rb": 24, "n_fft": 512, "c_srs": 6, "period_slots": 4}


def small(**changes: Any) -> Srs:
    """A carrier of 24 blocks, all of it sounded every fourth slot."""
    return convert_params(Srs, {**SMALL, **changes}, "test")


def line(n: int = 4, spacing_m: float = C_M_S / CARRIER_HZ / 2) -> ArrayGeometry:
    return ArrayGeometry.ula(n, spacing_m, array_id="gnodeb")


def response(
    offset_hz: npt.NDArray[np.float64],
    paths: list[tuple[complex, float, float]],
    n_sensors: int = 4,
    spacing_m: float = C_M_S / CARRIER_HZ / 2,
) -> C128:
    """``[sensor, subcarrier]`` of plane waves ``(amplitude, delay_s, azimuth_rad)`` on a line, exact over the band."""
    out = np.zeros((n_sensors, len(offset_hz)), np.complex128)
    for m in range(n_sensors):
        at_m = (m - (n_sensors - 1) / 2) * spacing_m
        for amplitude, delay_s, azimuth_rad in paths:
            late_s = delay_s - at_m * np.sin(azimuth_rad) / C_M_S
            geometry = np.exp(2j * np.pi * CARRIER_HZ * (delay_s - late_s))
            out[m] += amplitude * geometry * np.exp(-2j * np.pi * offset_hz * late_s)
    return out


def of_carrier(srs: Srs, paths: list[tuple[complex, float, float]], n_sensors: int = 4) -> C128:
    return response(subcarrier_offsets_hz(srs), paths, n_sensors)


def noise(shape: tuple[int, ...], power: float, seed: int) -> C128:
    rng = np.random.default_rng(seed)
    return np.sqrt(power / 2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def nmse_db(estimate: C128, truth: C128) -> float:
    return float(10 * np.log10(np.sum(np.abs(estimate - truth) ** 2) / np.sum(np.abs(truth) ** 2)))


def cfr_frame(cfr: npt.NDArray[Any], offset_hz: npt.NDArray[np.float64], rnti: int = 17, **header: Any) -> Frame:
    axes = "sensor subcarrier" if cfr.ndim == 2 else "sensor subcarrier component"
    return Frame.of(
        Header(stream="g.cfr", seq=0, frequency_hz=CARRIER_HZ)._replace(**header),
        cfr=(cfr, axes, ""),
        subcarrier_hz=(offset_hz, "subcarrier", "Hz"),
        rnti=(np.array(rnti, np.int64), "", ""),
    )


def described(array: ArrayGeometry, **extra: Any) -> Frame:
    return descriptor_frame(Header(stream="g.cfr", seq=0), array, extra)
