"""What estimation blocks ask of their stream before they compute, and the frame of estimates that they give."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hil.array import ArrayGeometry
from hil.block import Block
from hil.errors import EstimationError
from hil.wavefront import wavelength_m

F64 = npt.NDArray[np.float64]


def described_array(block: Block, n_sensors: int) -> ArrayGeometry:
    """The array that the descriptor named, which must have as many channels as the data have sensors."""
    if block.array is None:
        raise EstimationError(f"{block.name}: no array descriptor has come; send one before the data")
    n_channels = len(block.array.channel_map)
    if n_channels != n_sensors:
        raise EstimationError(
            f"{block.name}: array {block.array.array_id!r} has {n_channels} channels, the data {n_sensors}"
        )
    return block.array


def carrier_wavelength_m(block: Block, frequency_hz: float | None) -> float:
    """Wavelength of the frame's carrier, or of ``frequency_hz`` where frames do not carry it."""
    carrier = block.header.frequency_hz or frequency_hz
    if carrier is None:
        raise EstimationError(f"{block.name}: frames carry no centre frequency; set the parameter frequency_hz")
    return wavelength_m(carrier)


def check_finite(block: Block, **arrays: npt.NDArray[Any]) -> None:
    """Refuse what is not finite, by name."""
    for name, values in arrays.items():
        if not np.isfinite(values).all():
            raise EstimationError(f"{block.name}: {name} has {int((~np.isfinite(values)).sum())} values not finite")


def check_separable(block: Block, n_sources: int, n_sensors: int, n_snapshots: int) -> None:
    """Refuse more sources than sensors and snapshots tell apart."""
    most = min(n_sensors - 1, n_snapshots)
    if n_sources > most:
        raise EstimationError(
            f"{block.name}: {n_sources} sources asked of {n_sensors} sensors and {n_snapshots} snapshots, "
            f"which tell at most {most} apart"
        )


def estimate_arrays(point: F64, power: F64, covariance: F64 | None) -> dict[str, npt.NDArray[Any]]:
    """Arrays of the stream ESTIMATES.

    Args:
        point: Azimuth, elevation, inverse range, ``[source, 3]``.
        power: ``[source]``, positive.
        covariance: Of the three, ``[source, 3, 3]``.
    """
    with np.errstate(divide="ignore"):
        arrays = {
            "azimuth_rad": point[:, 0],
            "elevation_rad": point[:, 1],
            "range_m": 1 / point[:, 2],
            "power_db": 10 * np.log10(power),
        }
    return arrays if covariance is None else {**arrays, "polar_covariance": covariance}
