"""What the MUSIC blocks share: parameters, model order, dictionary of the array that the descriptor names, output."""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.subspace.block_input import carrier_wavelength_m, check_separable, described_array
from blocks.subspace.dictionary import Grid, Search, steering_dictionary
from blocks.subspace.fresnel_grid import fresnel_reach
from blocks.subspace.line_dictionary import LARGE_LINE, line_dictionary, suits_line_dictionary
from blocks.subspace.model_order import Criterion, model_order
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_music import NearFieldEstimate, near_field_from_subspace
from blocks.subspace.signal_subspace import (
    Leading,
    leading_eigenpairs,
    leading_from_samples,
    signal_subspace,
    signal_subspace_from_samples,
)
from blocks.subspace.spectrum import music_spectrum
from blocks.subspace.track_subspace import SubspaceTracker
from hil.array import ArrayGeometry
from hil.block import Block, Out, Result
from hil.errors import EstimationError, ParamError
from hil.params import Hz, Metres, Params, Radians

F64 = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complexfloating[Any, Any]]


class MusicParams(Params, frozen=True):
    n_sources: Annotated[int, Meta(ge=0, le=64, description="Sources to look for; 0: as the criterion says")] = 0
    criterion: Annotated[Criterion, Meta(description="Model order: mdl is consistent, aic finds weaker ones")] = "mdl"
    max_sources: Annotated[int, Meta(ge=1, le=64, description="Most that the criterion may say")] = 8
    frequency_hz: Annotated[Hz | None, Meta(description="Carrier where frames do not carry it")] = None
    azimuth_limit_rad: Annotated[Radians | None, Meta(description="Search within plus and minus this azimuth")] = None
    elevation_rad: Annotated[Radians, Meta(description="Elevation of the plane that is searched")] = 0.0
    search: Annotated[
        Literal["auto", "dictionary", "fft"],
        Meta(
            description="Grid search by steering vectors or by FFT; auto: FFT for uniform lines of 128 elements or more"
        ),
    ] = "auto"
    polish: Annotated[bool, Meta(description="End with a joint maximum-likelihood fit")] = True
    keep_unresolved: Annotated[
        bool, Meta(description="Give shallow nulls too: coherent sources, but now and then a ghost")
    ] = False
    track: Annotated[
        bool, Meta(description="Start from the last frame's subspace and places, where they hold; needs n_sources")
    ] = False
    spectrum_every: Annotated[
        int, Meta(ge=0, description="Give a spectrum to look at every so many frames; 0: none")
    ] = 0


class NearFieldMusicParams(MusicParams, frozen=True):
    range_min_m: Annotated[Metres | None, Meta(description="Nearest range; absent: the Fresnel distance")] = None
    amplitude: Annotated[bool, Meta(description="Near elements receive more than far ones")] = True


class MusicBlock(Block):
    """Base of the MUSIC blocks: ``estimates``, and now and then ``spectrum``.

    Uniform lines of 128 elements or more are searched by FFT (:mod:`blocks.subspace.line_dictionary`), others, and
    ranges nearer than that reaches, on a dictionary; the estimates are the same.

    The number asked for and the number that was not resolved are in the frame's ``meta`` as ``n_requested`` and
    ``n_unresolved``. A frame that shows fewer sources than asked gives those it shows.

    With ``track`` the subspace is that of the last frame after a step of orthogonal iteration where the residuals say
    that this is enough (``meta`` has ``subspace: "tracked"``), else it is computed (``"computed"``): the first frame, a
    jump, a new source, another array, a new epoch. It pays for large arrays whose scene is steady over some frames; its
    subspace errs by at most 0.02 rad, which the likelihood fit (``polish``) removes.
    """

    params: MusicParams

    def setup(self) -> None:
        self._n_frames = 0
        self._n_missed = 0
        self._built: tuple[ArrayGeometry, float, Search] | None = None
        self._tracker: SubspaceTracker | None = None
        self._tracked_epoch = -1
        self._start: tuple[F64, F64] | None = None
        if self.params.track:
            if not self.params.n_sources:
                raise ParamError(
                    f"{self.name}: track needs n_sources; the criterion needs all eigenvalues, every frame"
                )
            self._tracker = SubspaceTracker(self.params.n_sources)

    def stats(self) -> dict[str, Any]:
        told: dict[str, Any] = {"sources_requested_not_resolved": self._n_missed}
        if self._tracker is not None:
            told |= {"subspaces_tracked": self._tracker.n_warm, "subspaces_computed": self._tracker.n_cold}
        return told

    def grid(self, wavelength: float) -> Grid:
        """Search grid of this block for ``self.array``."""
        raise NotImplementedError

    @property
    def amplitude(self) -> bool:
        return False

    @property
    def wavefront_array(self) -> ArrayGeometry:
        """The array that wavefronts are modelled with: as the descriptor says it is."""
        assert self.array is not None
        return self.array

    def from_samples(self, x: npt.NDArray[np.complex64]) -> Result:
        exact = x.astype(np.complex128)
        n_leading = self._n_leading(x.shape[0], x.shape[1])
        if self._tracker is not None and n_leading < x.shape[1]:  # it needs a direction beyond the sources
            signal = self._track(exact, samples=True)
        elif self.params.n_sources:
            signal = signal_subspace_from_samples(exact, n_leading)
        else:
            signal = self._ordered(leading_from_samples(exact, n_leading))
        return self._estimate(signal, Moments.of_samples(exact))

    def from_covariance(self, arrays: dict[str, Any]) -> Result:
        covariance, n_snapshots = arrays["covariance"], int(arrays["n_snapshots"])
        n_leading = self._n_leading(len(covariance), n_snapshots)
        if self._tracker is not None:
            signal = self._track(covariance, samples=False)
        elif self.params.n_sources:
            signal = signal_subspace(covariance, n_leading)
        else:
            signal = self._ordered(leading_eigenpairs(covariance, n_leading, n_snapshots))
        return self._estimate(signal, Moments.of_covariance(covariance, n_snapshots))

    def _track(self, data: Complex, *, samples: bool) -> Complex:
        assert self._tracker is not None
        if self.header.epoch != self._tracked_epoch:
            self._tracker.forget()
            self._start, self._tracked_epoch = None, self.header.epoch
        return self._tracker.update(data, samples=samples)

    def _ordered(self, leading: Leading) -> Complex:
        return leading.vectors[:, : int(model_order(leading.summary, self.params.criterion))]

    def _n_leading(self, n_sensors: int, n_snapshots: int) -> int:
        check_separable(self, self.params.n_sources, n_sensors, n_snapshots)
        return min(self.params.n_sources or self.params.max_sources, n_sensors - 1, n_snapshots)

    def search(self, wavelength: float) -> Search:
        """What the nulls are searched on: the dictionary of :meth:`grid`, or an FFT."""
        array, grid, wanted = self.wavefront_array, self.grid(wavelength), self.params.search
        suits = suits_line_dictionary(array, wavelength, grid)
        if wanted == "fft" and not suits:
            raise EstimationError(
                f"{self.name}: search 'fft' needs a uniform line along x, half a wavelength apart or less, elevation 0 "
                f"and ranges from {fresnel_reach(array.aperture_m, wavelength):.4g} m; take search 'auto'"
            )
        if suits and (wanted == "fft" or (wanted == "auto" and len(array.channel_map) >= LARGE_LINE)):
            return line_dictionary(array, wavelength, grid, amplitude=self.amplitude)
        return steering_dictionary(array, wavelength, grid, amplitude=self.amplitude)

    def _dictionary(self, n_sensors: int) -> Search:
        array = described_array(self, n_sensors)
        wavelength = carrier_wavelength_m(self, self.params.frequency_hz)
        if self._built is None or self._built[0] is not array or self._built[1] != wavelength:
            self._built = array, wavelength, self.search(wavelength)
            self._start = None
        return self._built[2]

    def _estimate(self, signal: Complex, moments: Moments) -> Result:
        dictionary = self._dictionary(moments.n_sensors)
        estimate = near_field_from_subspace(signal, moments, dictionary, polish=self.params.polish, start=self._start)
        estimate = self._settle(estimate, moments, dictionary)
        if self._tracker is not None:
            self._start = (estimate.azimuth_rad, estimate.inverse_range_per_m) if estimate.complete else None
        show = self.params.spectrum_every and self._n_frames % self.params.spectrum_every == 0
        self._n_frames += 1
        return self._arrays(estimate), self._spectrum(signal) if show else None

    def _settle(self, estimate: NearFieldEstimate, moments: Moments, dictionary: Search) -> NearFieldEstimate:
        """What is given for an estimate; a block that knows a better one gives that."""
        return estimate

    def _arrays(self, estimate: NearFieldEstimate) -> Out:
        n_resolved = int(estimate.resolved.sum())
        self._n_missed += estimate.n_requested - n_resolved
        kept = estimate.resolved | self.params.keep_unresolved
        covariance = np.zeros((int(kept.sum()), 3, 3))
        covariance[:, ::2, ::2] = estimate.covariance[kept]  # elevation is the plane that was searched: known
        arrays = {
            "azimuth_rad": estimate.azimuth_rad[kept],
            "elevation_rad": np.full(len(covariance), self.params.elevation_rad),
            "range_m": estimate.range_m[kept],
            "polar_covariance": covariance,
            "power_db": 10 * np.log10(estimate.power[kept]),
        }
        meta: dict[str, Any] = {
            "n_requested": estimate.n_requested, "n_unresolved": estimate.n_requested - n_resolved
        }  # fmt: skip
        if self._tracker is not None:
            meta["subspace"] = "tracked" if self._tracker.was_warm else "computed"
        return Out(arrays, {"meta": meta})

    def _spectrum(self, signal: Complex) -> dict[str, Any]:
        """Pseudo-spectrum on a grid made for the eye: finer in azimuth and range than the search needs."""
        wavelength = carrier_wavelength_m(self, self.params.frequency_hz)
        search = self.grid(wavelength)
        fine = Grid(
            azimuth_min_rad=search.azimuth_min_rad,
            azimuth_max_rad=search.azimuth_max_rad,
            n_azimuth=2 * search.n_azimuth - 1,
            spacing=search.spacing,
            range_min_m=search.range_min_m,
            range_max_m=search.range_max_m,
            n_range=4 * search.n_range if search.n_range > 1 else 1,
            elevation_rad=search.elevation_rad,
        )
        dictionary = steering_dictionary(self.wavefront_array, wavelength, fine, amplitude=self.amplitude)
        spectrum = music_spectrum(dictionary.conjugate, signal.astype(np.complex64))
        return {
            "spectrum_db": 10 * np.log10(spectrum).reshape(fine.n_azimuth, fine.n_range),
            "azimuth_rad": fine.azimuth_rad,
            "range_m": fine.range_m,
        }
