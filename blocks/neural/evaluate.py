"""How far off the places are: a network's covariance and the sample covariance, with and without refinement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from blocks.evaluation.rmspe import rmspe
from blocks.neural.learned_positions import array_as_learned
from blocks.neural.training import Data, FiniteData, at_most
from blocks.subspace.dictionary import Dictionary, Grid, steering_dictionary
from blocks.subspace.maximum_likelihood import refine_maximum_likelihood
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_music import near_field_from_subspace
from blocks.subspace.planar_grid import PlanarGrid, planar_grid
from blocks.subspace.planar_likelihood import planar_from_subspace
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from hil.view.spectra import Spectrum
from hil.wavefront import direction_vector, steering_vector_polar

F64 = npt.NDArray[np.float64]
C128 = npt.NDArray[np.complex128]

#: Examples that go through the network at once.
_CHUNK = 128


class Errors(NamedTuple):
    """Position errors of one method.

    Attributes:
        method: Which.
        mean_m: Mean over examples of the mean over sources of the distance, best permutation: what the published
            code of [NF] calls RMSPE.
        ci95_m: Half the 95 % confidence interval of that mean.
        median_m: Median over examples.
        rms_m: Root of the mean over examples of the square of [NF] Eq. (23).
        short: Share of the examples in which fewer sources were found than there are; each that is missing costs the
            cut-off.
        n: Examples.
    """

    method: str
    mean_m: float
    ci95_m: float
    median_m: float
    rms_m: float
    short: float
    n: int


def evaluate(
    model: nn.Module,
    data: Data,
    array: ArrayGeometry,
    wavelength_m: float,
    range_limits_m: tuple[float, float],
    n: int,
    *,
    on_done: Callable[[int], None] | None = None,
) -> list[Errors]:
    """Errors of the network and of plain MUSIC on the same ``n`` test examples, the number of sources given.

    Ranges are held within the limits that the data were drawn from, as a search grid over them does. Where the model
    has learned where the elements are, what it makes is searched so, and plain MUSIC both so and as the array is said
    to be. Positions are compared in space; a network that sees ``elevation`` is compared with planar MUSIC.

    Args:
        model: Samples in, covariance out; or, where it ``gives_places``, samples and a number of sources in, azimuths
            and ranges out.
        data: Test data.
        array: That they come from.
        wavelength_m: Metres.
        range_limits_m: Nearest and farthest; the farthest is also the cut-off.
        n: How many examples; of data that end no more than there are.
        on_done: Told after each chunk how many are done.
    """
    planar, grid = _sees_elevation(model), Grid.coarse(array, wavelength_m)
    said, as_learned = (
        planar_grid(one, wavelength_m, amplitude=True) if planar else steering_dictionary(one, wavelength_m, grid)
        for one in (array, array_as_learned(model, array))
    )
    music = "planar MUSIC" if planar else "2D MUSIC"
    methods = {"network": (True, as_learned, False), "network + ML": (True, as_learned, True)}
    methods |= {music: (False, said, False), f"{music} + ML": (False, said, True)}
    if as_learned is not said:
        methods[f"{music}, positions learned"] = (False, as_learned, False)
        methods[f"{music} + ML, positions learned"] = (False, as_learned, True)
    error: dict[str, list[tuple[float, float, bool]]] = {name: [] for name in methods}
    n = at_most(data, n)
    for number, first in enumerate(range(0, n, _CHUNK)):
        batch = _chunk(data, number, first, min(_CHUNK, n - first))
        places = _given_places(model, batch) if getattr(model, "gives_places", False) else None
        surrogate = None if places is not None else _given_covariances(model, batch)
        for i, x in enumerate(batch["samples"].astype(np.complex128)):
            truth = _truth(batch, i)
            for name, (learned, dictionary, polish) in methods.items():
                if learned and places is not None:
                    assert isinstance(dictionary, Dictionary)  # none of these networks sees elevation
                    at = _refined(places[i], x, dictionary, range_limits_m) if polish else places[i][0]
                else:
                    covariance = x @ x.conj().T / x.shape[1] if surrogate is None or not learned else surrogate[i]
                    at = _places(covariance, x, dictionary, len(truth), range_limits_m, polish)
                one, two = (rmspe(at, truth, range_limits_m[1], order=p) for p in (1, 2))
                error[name].append((one, two, len(at) < len(truth)))
        if on_done is not None:
            on_done(min(first + _CHUNK, n))
    return [_summary(name, values) for name, values in error.items()]


def _chunk(data: Data, number: int, first: int, n: int) -> dict[str, Any]:
    """``n`` examples; of data that end none twice, though the last chunk is a short one."""
    return data.examples(first, n) if isinstance(data, FiniteData) else data.batch(number, n)


def _sees_elevation(model: nn.Module) -> bool:
    return bool(getattr(getattr(model, "config", None), "elevation", False))


def _truth(batch: dict[str, Any], i: int) -> F64:
    m = int(batch["n_sources"][i])
    elevation = batch["elevation_rad"][i, :m] if "elevation_rad" in batch else 0.0
    at: F64 = direction_vector(batch["azimuth_rad"][i, :m], elevation) * batch["range_m"][i, :m, None]
    return at


def _places(
    covariance: C128,
    x: C128,
    dictionary: Dictionary | PlanarGrid,
    n_sources: int,
    limits_m: tuple[float, float],
    polish: bool,
) -> F64:
    signal = np.ascontiguousarray(np.linalg.eigh(covariance)[1][:, ::-1][:, :n_sources])
    if isinstance(dictionary, PlanarGrid):
        fit = planar_from_subspace(signal, Moments.of_samples(x), dictionary, polish=polish).fit
        if fit is None:
            return np.zeros((0, 3))
        k = np.clip(fit.point[:, 2:], 1 / limits_m[1], 1 / limits_m[0])
        in_space: F64 = direction_vector(fit.point[:, 0], fit.point[:, 1]) / k
        return in_space
    found = near_field_from_subspace(signal, Moments.of_samples(x), dictionary, polish=polish)
    k = np.clip(found.inverse_range_per_m, 1 / limits_m[1], 1 / limits_m[0])
    at: F64 = direction_vector(found.azimuth_rad) / k[:, None]
    return at


def _given_covariances(model: nn.Module, batch: dict[str, Any]) -> C128:
    with torch.no_grad():
        covariances: C128 = model(torch.from_numpy(batch["samples"])).cpu().numpy()
    return covariances


def _given_places(model: nn.Module, batch: dict[str, Any]) -> list[tuple[F64, F64, F64]]:
    """Positions ``[source, xyz]``, azimuths and ranges ``[source]`` of each example, from the network itself."""
    out = []
    for x, m in zip(batch["samples"], batch["n_sources"].tolist(), strict=True):
        with torch.no_grad():
            found = model(torch.from_numpy(x[None]), m)
        azimuth, ranges = (v[0].cpu().numpy().astype(np.float64) for v in (found.azimuth_rad, found.range_m))
        out.append((direction_vector(azimuth) * ranges[:, None], azimuth, ranges))
    return out


def _refined(start: tuple[F64, F64, F64], x: C128, dictionary: Dictionary, limits_m: tuple[float, float]) -> F64:
    """By likelihood from the places of a network; those themselves where two of them are on one spot."""
    at, azimuth, ranges = start
    try:
        fit = refine_maximum_likelihood(Moments.of_samples(x), dictionary, azimuth, 1 / ranges)
    except EstimationError:
        return at
    k = np.clip(fit.inverse_range_per_m, 1 / limits_m[1], 1 / limits_m[0])
    refined: F64 = direction_vector(fit.azimuth_rad) / k[:, None]
    return refined


def _summary(name: str, values: list[tuple[float, float, bool]]) -> Errors:
    one, two, short = (np.array(column) for column in zip(*values, strict=True))
    n = len(one)
    spread = 1.96 * one.std(ddof=1) / np.sqrt(n) if n > 1 else float("inf")
    return Errors(
        name,
        float(one.mean()),
        float(spread),
        float(np.median(one)),
        float(np.sqrt(np.mean(two**2))),
        float(short.mean()),
        n,
    )


def spectra(model: nn.Module, data: Any, array: ArrayGeometry, wavelength_m: float) -> list[Spectrum]:
    """MUSIC spectra of the first test example, on the sample covariance and on the network's: [NF] Figs. 9 and 10.

    Of networks that see elevation the plane at the elevation of the first source, and this source alone.
    """
    if getattr(model, "gives_places", False):
        raise ParamError("spectra: this network gives places and no covariance: it has no spectrum to draw")
    batch = data.batch(0, 1)
    x = batch["samples"][0].astype(np.complex128)
    with torch.no_grad():
        surrogate = model(torch.from_numpy(batch["samples"]))[0].cpu().numpy()
    m = int(batch["n_sources"][0])
    n_shown, elevation = (1, float(batch["elevation_rad"][0, 0])) if _sees_elevation(model) else (m, 0.0)
    azimuth = np.linspace(-data.params.azimuth_limit_rad, data.params.azimuth_limit_rad, 241)
    nearest, farthest = data.range_m
    ranges = np.linspace(float(nearest), float(farthest), 120)
    position_m = array_as_learned(model, array).channel_position_m
    steering = steering_vector_polar(
        position_m, azimuth[:, None], ranges, wavelength_m, elevation_rad=elevation, amplitude=True
    )
    steering /= np.linalg.norm(steering, axis=-1, keepdims=True)
    truth = np.stack([batch["azimuth_rad"][0, :n_shown], batch["range_m"][0, :n_shown]], axis=-1)
    out = []
    for title, covariance in (("sample covariance", x @ x.conj().T / x.shape[1]), ("network's covariance", surrogate)):
        signal = np.linalg.eigh(covariance)[1][:, ::-1][:, :m]
        depth = 1 - (np.abs(steering.conj() @ signal) ** 2).sum(-1)
        out.append(Spectrum(title, -10 * np.log10(np.maximum(depth, 1e-12)), azimuth, ranges, truth))
    return out
