"""From the sources to the elements: exact spherical wavefront with amplitude, narrowband."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hil.wavefront import steering_vector, wavelength_m

C64 = npt.NDArray[np.complex64]
C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]


def channel_matrix(element_m: F64, source_m: F64, frequency_hz: float) -> C128:
    r"""Complex amplitude of each source at each element, 1 at the array's centre.

    .. math:: a_{mk} = \frac{r_k}{r_{mk}} \exp(-j 2\pi (r_{mk} - r_k) / \lambda)

    [NF] Eq. (4), [HI] Eq. (1) with amplitude. Phase and power are referred to the array's centre, so what the path to
    the centre does (its loss, its phase, the Doppler shift of a moving source) is not modelled: ``Source.power_db`` and
    ``phase_rad`` are what arrives there. Narrowband: the envelope is taken to be the same at all elements, valid while
    aperture times bandwidth is far below the speed of light.

    Args:
        element_m: ``[sensor, xyz]`` metres, array frame.
        source_m: ``[source, xyz]`` metres, array frame.
        frequency_hz: Centre frequency.

    Returns:
        ``[sensor, source]`` complex128.
    """
    steering: C128 = steering_vector(element_m, source_m, wavelength_m(frequency_hz), amplitude=True)
    return np.ascontiguousarray(steering.T)


def field_at_elements(channel: C128, weight: C128, envelope: C128) -> C64:
    r"""``sum_k a_mk w_k s_k(t)``, ``[sensor, snapshot]`` complex64: [HI] Eq. (5) without noise and faults.

    Args:
        channel: ``[sensor, source]`` of :func:`channel_matrix`.
        weight: Amplitude and phase of each source, ``[source]``.
        envelope: Unit-power waveforms, ``[source, snapshot]``.
    """
    field: C64 = (channel * weight).astype(np.complex64) @ envelope.astype(np.complex64)
    return field
