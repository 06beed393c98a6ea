"""Power spectra of beamformers on a dictionary: conventional (Bartlett) and minimum variance (Capon)."""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace
from msgspec import Meta

from blocks.subspace.block_input import carrier_wavelength_m, described_array
from blocks.subspace.data_check import require_finite, require_power
from blocks.subspace.dictionary import Dictionary, Grid, steering_dictionary
from blocks.subspace.spectrum import signal_projection
from hil.array import ArrayGeometry
from hil.block import Block, Result
from hil.errors import EstimationError, ParamError
from hil.params import Hz, Metres, Params
from hil.streams import COVARIANCE, SPECTRUM, port_of

Array = Any  # NumPy or torch


def bartlett_spectrum(covariance: Array, conjugate: Array) -> Array:
    r"""Conventional beamformer, :math:`P = a^H R a / |a|^4` with :math:`|a|^2 = N`: the power of one source there.

    NumPy or torch. Resolves no closer than the beam; indifferent to coherence and rank.

    Args:
        covariance: ``[..., sensor, sensor]`` Hermitian.
        conjugate: ``a^H / |a|``, ``[point, sensor]``, of the dtype of ``covariance``.

    Returns:
        ``[..., point]`` real, unit of the covariance. Where steering vectors have amplitudes (``|a|^2`` not ``N``) it
        is the power averaged over the sensors.
    """
    require_finite("bartlett_spectrum", covariance, "the covariance")
    xp = array_namespace(covariance)
    seen = conjugate @ covariance  # (..., point, sensor)
    real = xp.real(seen) * xp.real(conjugate) + xp.imag(seen) * xp.imag(conjugate)
    return xp.sum(real, axis=-1) / conjugate.shape[-1]


def bartlett_spectrum_of_samples(x: Array, conjugate: Array) -> Array:
    """As :func:`bartlett_spectrum` straight from samples ``[..., sensor, snapshot]``; cheaper where ``T < N``."""
    return signal_projection(conjugate, x) / (x.shape[-1] * conjugate.shape[-1])


def capon_spectrum(covariance: Array, conjugate: Array, *, loading: float = 1e-6) -> Array:
    r"""Minimum-variance beamformer, :math:`P = (a^H R^{-1} a)^{-1}` (Capon 1969). NumPy or torch.

    Needs an invertible covariance: more snapshots than sensors, or diagonal loading. Coherent sources cancel.

    Args:
        covariance: ``[..., sensor, sensor]`` Hermitian.
        conjugate: As in :func:`bartlett_spectrum`, which also says what power this is.
        loading: Added to the diagonal, relative to the mean power of a sensor; at least 0.

    Raises:
        EstimationError: Not positive definite, loading included.
    """
    if not loading >= 0:
        raise ParamError(f"capon_spectrum: expected loading >= 0, got {loading}")
    require_finite("capon_spectrum", covariance, "the covariance")
    xp = array_namespace(covariance)
    n = covariance.shape[-1]
    power = xp.mean(xp.real(xp.linalg.diagonal(covariance)), axis=-1)
    eye = xp.eye(n, dtype=covariance.dtype)
    loaded = covariance + xp.astype(loading * power[..., None, None], covariance.dtype) * eye
    try:
        factor = xp.linalg.cholesky(loaded)  # R = L L^H, so that a^H R^-1 a = |L^-1 a|^2
    except Exception as error:
        if type(error).__name__ not in ("LinAlgError", "_LinAlgError"):
            raise
        raise EstimationError(
            f"Capon: the covariance of {n} sensors is not positive definite with loading {loading:g}; take more "
            "snapshots than sensors or more loading"
        ) from error
    whitener = xp.linalg.inv(factor)  # triangular and shared by all points
    white = whitener @ xp.conj(xp.matrix_transpose(conjugate))  # (..., sensor, point)
    return 1 / (conjugate.shape[-1] * xp.sum(xp.real(white) ** 2 + xp.imag(white) ** 2, axis=-2))


class BeamSpectrumParams(Params, frozen=True):
    method: Annotated[Literal["bartlett", "capon"], Meta(description="capon resolves closer, needs full rank")] = (
        "bartlett"
    )
    loading: Annotated[float, Meta(ge=0, description="Capon's diagonal loading relative to the power")] = 1e-3
    near_field: Annotated[bool, Meta(description="Over azimuth and range; otherwise azimuth alone")] = False
    range_min_m: Annotated[Metres | None, Meta(description="Nearest range; absent: the Fresnel distance")] = None
    frequency_hz: Annotated[Hz | None, Meta(description="Carrier where frames do not carry it")] = None


class BeamSpectrum(Block):
    """Beamformed power over azimuth, and range where asked, of each covariance."""

    params: BeamSpectrumParams
    inputs = {"covariance": port_of(COVARIANCE)}
    outputs = {"spectrum": port_of(SPECTRUM)}

    def setup(self) -> None:
        self._built: tuple[ArrayGeometry, float, Dictionary] | None = None

    def process(self, arrays: dict[str, Any]) -> Result:
        dictionary = self._dictionary(len(arrays["covariance"]))
        covariance, conjugate = arrays["covariance"], dictionary.conjugate.astype(np.complex128)
        require_power(self.name, covariance)
        power: npt.NDArray[np.float64]
        if self.params.method == "bartlett":
            power = bartlett_spectrum(covariance, conjugate)
        else:
            power = capon_spectrum(covariance, conjugate, loading=self.params.loading)
        grid = dictionary.grid
        return {
            "spectrum_db": (10 * np.log10(power)).astype(np.float32).reshape(grid.n_azimuth, grid.n_range),
            "azimuth_rad": dictionary.azimuth_rad,
            "range_m": grid.range_m,
        }

    def _dictionary(self, n_sensors: int) -> Dictionary:
        array = described_array(self, n_sensors)
        wavelength = carrier_wavelength_m(self, self.params.frequency_hz)
        if self._built is None or self._built[0] is not array or self._built[1] != wavelength:
            grid = Grid.coarse(
                array,
                wavelength,
                range_min_m=self.params.range_min_m,
                far_field_only=not self.params.near_field,
            )
            self._built = array, wavelength, steering_dictionary(array, wavelength, grid, amplitude=False)
        return self._built[2]
