"""What an array should hear of a source at a known place, and what it hears differently, by frequency."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.calibration.gain_phase import estimate_gain_phase
from hil.errors import ParamError
from hil.wavefront import SPEED_OF_LIGHT_M_S, steering_vector, wavelength_m

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]


class ExpectedResponse(NamedTuple):
    """Phase, gain and delay of each sensor for a source, relative to the array's centre, ``[sensor]``."""

    phase_rad: F64
    gain_db: F64
    delay_s: F64


class GainPhase(NamedTuple):
    """Gain and phase of each branch by frequency.

    Attributes:
        frequency_hz: ``[frequency]``.
        gain_db: ``[frequency, sensor]``, mean 0 over sensors.
        offset_rad: ``[frequency, sensor]``, mean 0 over sensors.
    """

    frequency_hz: F64
    gain_db: F64
    offset_rad: F64


def expected_response(position_m: F64, source_m: F64, frequency_hz: float) -> ExpectedResponse:
    """Exact spherical wavefront of a source at ``source_m`` ``[xyz]``, for sensors ``[sensor, xyz]``, array frame."""
    vector = steering_vector(position_m, source_m, wavelength_m(frequency_hz), amplitude=True)
    way = np.linalg.norm(source_m - position_m, axis=-1) - np.linalg.norm(source_m)
    return ExpectedResponse(np.angle(vector), 20 * np.log10(np.abs(vector)), way / SPEED_OF_LIGHT_M_S)


def subband_covariance(
    iq: npt.NDArray[np.complexfloating], n_bands: int, frequency_hz: float, sample_rate_hz: float
) -> tuple[C128, F64]:
    """Covariances of ``n_bands`` parts of the band, from blocks of as many samples under Hann's window.

    Returns:
        ``[band, sensor, sensor]`` and the centre of each band, ``[band]`` Hz, rising.

    Raises:
        ParamError: Fewer than two blocks.
    """
    n_blocks = iq.shape[1] // n_bands if n_bands > 0 else 0
    if n_blocks < 2:
        raise ParamError(f"subband_covariance: {n_bands} bands need {2 * n_bands} snapshots, got {iq.shape[1]}")
    blocks = np.asarray(iq[:, : n_blocks * n_bands], np.complex128).reshape(len(iq), n_blocks, n_bands)
    window = np.hanning(n_bands + 2)[1:-1] if n_bands > 1 else np.ones(1)
    spectrum = np.fft.fftshift(np.fft.fft(blocks * window, axis=-1), axes=-1)  # [sensor, block, band]
    by_band = spectrum.transpose(2, 0, 1)
    covariance: C128 = by_band @ by_band.conj().swapaxes(-1, -2) / n_blocks
    return covariance, frequency_hz + sample_rate_hz * np.fft.fftshift(np.fft.fftfreq(n_bands))


def gain_phase_by_frequency(covariance: C128, frequency_hz: F64, position_m: F64, source_m: F64) -> GainPhase:
    """Gain and phase of the branches at each frequency, from one source at a known place.

    Args:
        covariance: ``[frequency, sensor, sensor]``, of bands of one recording or of recordings at other carriers.
        frequency_hz: ``[frequency]``.
        position_m: Sensors, ``[sensor, xyz]``, array frame.
        source_m: The source, ``[xyz]``, array frame.

    Raises:
        EstimationError: At some frequency the source does not stand above the noise, or a branch is dead.
    """
    gain, offset = [], []
    for r, f in zip(covariance, frequency_hz, strict=True):
        steering = steering_vector(position_m, source_m, wavelength_m(float(f)), amplitude=True)
        found = estimate_gain_phase(r[None], np.asarray(steering)[None])
        gain.append(found[0])
        offset.append(found[1])
    return GainPhase(np.asarray(frequency_hz, np.float64), np.array(gain), np.array(offset))
