"""The block CramerRao: how well the array could have done, beside each estimate."""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.bounds.cramer_rao import conditional_crb, stochastic_crb
from blocks.bounds.observable import Observable, observable_coordinates
from blocks.bounds.steering_derivative import steering_derivatives
from hil.block import Block, Out, Result
from hil.errors import EstimationError, ParamError
from hil.params import Hz, Params
from hil.port import field
from hil.streams import COVARIANCE, ESTIMATES, IQ, port_of
from hil.wavefront import wavelength_m

C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]

#: Cramer-Rao bounds in the order of the estimates. A coordinate that was known has 0; the range of a plane wave inf.
#: ``polar`` as in ESTIMATES; ``ratio`` is what the estimate claims as its standard deviation over the bound, azimuth,
#: elevation and inverse range, NaN where nothing is claimed or nothing is to be told.
BOUNDS = {
    "azimuth_std_rad": field("float64", "source", "rad"),
    "elevation_std_rad": field("float64", "source", "rad"),
    "range_std_m": field("float64", "source", "m"),
    "polar_covariance": field("float64", "source polar polar"),
    "ratio": field("float64", "source polar", optional=True),
}
_POLAR: tuple[Observable, ...] = ("azimuth", "elevation", "inverse_range")


class CramerRaoParams(Params, frozen=True):
    kind: Annotated[
        Literal["stochastic", "conditional"],
        Meta(description="stochastic: waveforms Gaussian; conditional: unknown constants, for few snapshots"),
    ] = "stochastic"
    amplitude: Annotated[bool, Meta(description="Near elements receive more than far ones")] = True
    frequency_hz: Annotated[Hz | None, Meta(description="Carrier where frames do not carry it")] = None


class CramerRao(Block):
    """Bound of each estimate from the estimates and the covariance that they are of; any array, any estimator.

    Powers, correlations and noise are those that fit the covariance with sources at the estimates: the bound is that of
    a scene like the one seen, at most as right as the estimates are. Coordinates: azimuth; elevation where the array
    sees it; range where an estimate has one (:func:`blocks.bounds.observable.observable_coordinates`). Sources that
    coincide have no bound: an ``EstimationError``, the frame is skipped.
    """

    params: CramerRaoParams
    inputs = {"estimates": port_of(ESTIMATES), "covariance": port_of(COVARIANCE)}
    outputs = {"bounds": port_of(BOUNDS)}

    def process(self, estimates: dict[str, Any], arrays: dict[str, Any]) -> Result:
        return self.bounds(estimates, arrays["covariance"], int(arrays["n_snapshots"]))

    def bounds(self, estimates: dict[str, Any], covariance: C128, n_snapshots: int) -> Out:
        """Bounds at the estimates, in a frame."""
        if self.array is None:
            raise EstimationError(f"{self.name}: no array descriptor has come; send one before the data")
        if len(self.array.channel_map) != len(covariance):
            raise EstimationError(
                f"{self.name}: array {self.array.array_id!r} has {len(self.array.channel_map)} channels, "
                f"the data {len(covariance)}"
            )
        carrier = self.header.frequency_hz or self.params.frequency_hz
        if carrier is None:
            raise EstimationError(f"{self.name}: frames carry no centre frequency; set the parameter frequency_hz")
        wavelength = wavelength_m(carrier)
        azimuth, elevation, range_m = (estimates[name] for name in ("azimuth_rad", "elevation_rad", "range_m"))
        if not (np.isfinite(covariance).all() and np.isfinite(azimuth).all() and (range_m > 0).all()):
            raise EstimationError(f"{self.name}: covariance or estimates are not finite, or a range is not positive")
        n_sources, n_sensors = len(azimuth), len(covariance)
        if n_sources >= n_sensors:
            raise EstimationError(f"{self.name}: {n_sources} estimates of {n_sensors} sensors; expected fewer")
        polar = np.zeros((n_sources, 3, 3))
        if n_sources:
            unknown = observable_coordinates(self.array, wavelength, range_m)
            position, amplitude = self.array.channel_position_m, self.params.amplitude
            a = steering_derivatives(
                position, azimuth, elevation, 1 / range_m, wavelength, amplitude=amplitude
            ).a.T  # fmt: skip
            p, noise_power = source_moments(covariance, a)
            bound_of = stochastic_crb if self.params.kind == "stochastic" else conditional_crb
            try:
                bound = bound_of(
                    position,
                    azimuth,
                    elevation,
                    range_m,
                    wavelength,
                    p,
                    noise_power,
                    n_snapshots,
                    parameters=unknown,
                    amplitude=amplitude,
                )
            except ParamError as error:
                raise EstimationError(f"{self.name}: {error}") from error
            columns = np.array([_POLAR.index(name) for name in unknown])
            polar[:, columns[:, None], columns] = bound[np.arange(n_sources), :, np.arange(n_sources), :]
        return Out(_arrays(polar, range_m, estimates.get("polar_covariance")), {"meta": {"kind": self.params.kind}})


class CramerRaoFromSamples(CramerRao):
    """As :class:`CramerRao`, from the samples that the estimates are of."""

    inputs = {"estimates": port_of(ESTIMATES), "iq": port_of(IQ)}

    def process(self, estimates: dict[str, Any], iq: npt.NDArray[np.complex64]) -> Result:  # type: ignore[override]
        x = iq.astype(np.complex128)
        return self.bounds(estimates, x @ x.conj().T / x.shape[1], x.shape[1])


def source_moments(covariance: C128, steering: C128) -> tuple[C128, float]:
    r"""Covariance of the sources ``[source, source]`` and noise power per sensor that fit ``[sensor, sensor]``.

    :math:`A^+ (R - \sigma^2 I) A^{+H}` (maximum likelihood), except that a source has at least the power that is noise
    in one snapshot of the array, where the estimate is below it or negative.
    """
    n_sensors, n_sources = steering.shape
    q, r = np.linalg.qr(steering)
    diagonal = np.abs(np.diagonal(r))
    if not diagonal.min() > 1e-7 * diagonal.max():
        raise EstimationError("Cramer-Rao bound: estimates coincide; their powers cannot be told apart")
    inside = q.conj().T @ covariance @ q
    noise_power = float((np.trace(covariance) - np.trace(inside)).real) / (n_sensors - n_sources)
    if not noise_power > 0:
        raise EstimationError(
            f"Cramer-Rao bound: the noise power that is left is {noise_power}; expected a positive one"
        )
    inverse = np.linalg.inv(r)
    signal = inside - noise_power * np.eye(n_sources)
    values, vectors = np.linalg.eigh(signal)
    least = noise_power / n_sensors
    positive = (vectors * np.maximum(values, least)) @ vectors.conj().T
    return inverse @ positive @ inverse.conj().T, noise_power


def _arrays(polar: F64, range_m: F64, claimed: F64 | None) -> dict[str, npt.NDArray[Any]]:
    deviation = np.sqrt(np.einsum("sii->si", polar))
    with np.errstate(invalid="ignore"):
        range_std = np.where(np.isfinite(range_m), deviation[:, 2] * range_m**2, np.inf)
    arrays = {
        "azimuth_std_rad": deviation[:, 0],
        "elevation_std_rad": deviation[:, 1],
        "range_std_m": range_std,
        "polar_covariance": polar,
    }
    if claimed is not None:
        told = np.sqrt(np.einsum("sii->si", claimed))
        known = (deviation > 0) & (told > 0)
        arrays["ratio"] = np.where(known, told / np.where(known, deviation, 1.0), np.nan)
    return arrays
