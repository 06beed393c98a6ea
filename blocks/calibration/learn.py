"""From what was heard at known places to a calibration of the array and a survey of the site."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.calibration.known_emitters import (
    CalibrationPrior,
    KnownEmitterFit,
    calibrate_known_emitters,
    wrap,
)
from blocks.calibration.phase_manifold import calibrated_phase
from blocks.calibration.site_survey import SiteSurvey, bearing_scatter, phase_scatter_exponent
from blocks.switched_array.group_bearing import signature_bearing

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]

_REFERENCE_M = 8.0
_LEAST_STD_RAD = 1e-4  # a deviation of zero could not weigh anything


class Learned(NamedTuple):
    """The fit, and the survey that goes with it."""

    fit: KnownEmitterFit
    survey: SiteSurvey


def learn_array_and_site(
    response: C128,
    emitter: npt.ArrayLike,
    emitter_m: F64,
    receiver_m: F64,
    position_m: F64,
    wavelength_m: float,
    *,
    n_harmonics: int = 2,
    prior: CalibrationPrior | None = None,
) -> Learned:
    """Calibrate on groups heard at known places, and learn how far bearings scatter there.

    Args:
        response: Response of the array to each group, ``[group, sensor]``.
        emitter: Which emitter each group is, ``[group]``.
        emitter_m: Its place on the map, ``[group, xy]``.
        receiver_m: Where it was heard, ``[group, xy]``; equal rows are one place with one heading.
        position_m: Sensors as drawn, ``[sensor, xyz]``.
        wavelength_m: Carrier wavelength.
        n_harmonics: As in :func:`calibrate_known_emitters`.
        prior: As there.
    """
    place = np.unique(receiver_m, axis=0, return_inverse=True)[1].ravel()
    fit = calibrate_known_emitters(
        response,
        emitter_m - receiver_m,
        place,
        emitter,
        position_m,
        wavelength_m,
        n_harmonics=n_harmonics,
        prior=prior,
    )
    labels = np.unique(np.asarray(emitter))
    survey = SiteSurvey(
        stretch=fit.stretch,
        emitter=tuple(int(e) for e in labels),
        shift_m=tuple((float(x), float(y)) for x, y in fit.emitter_shift_m),
        reference_m=_REFERENCE_M,
    )
    seen = survey.emitter_place(emitter, emitter_m) - survey.place(receiver_m)
    distance = np.hypot(seen[:, 0], seen[:, 1])
    exponent = phase_scatter_exponent(fit.residual_rad, distance)

    def phase(azimuth: F64) -> F64:
        return calibrated_phase(
            azimuth,
            position_m,
            wavelength_m,
            offset_rad=fit.offset_rad,
            scale=fit.scale,
            harmonic_rad=fit.harmonic_rad,
        )

    azimuth = np.array([signature_bearing(r, phase)[0] for r in response])
    error = wrap(azimuth - np.arctan2(seen[:, 0], seen[:, 1]))
    std = bearing_scatter(error, place, distance, exponent, _REFERENCE_M)
    return Learned(fit, replace(survey, bearing_std_rad=max(std, _LEAST_STD_RAD), distance_exponent=exponent))
