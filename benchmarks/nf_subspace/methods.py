"""What is compared: each method gives azimuths and ranges of every test example, for a given number of sources."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.nf_subspace import published
from benchmarks.nf_subspace.networks import Chosen, choose
from blocks.neural.learned_positions import array_as_learned, learned_array
from blocks.neural.likeliest import explains, likeliest
from blocks.subspace.beamforming import bartlett_spectrum
from blocks.subspace.dictionary import Dictionary, Grid, steering_dictionary
from blocks.subspace.greedy_likelihood import explain_all, greedy_likelihood
from blocks.subspace.maximum_likelihood import refine_maximum_likelihood
from blocks.subspace.moments import Moments
from blocks.subspace.near_field_music import near_field_from_subspace
from blocks.subspace.spatial_smoothing import smooth_line
from blocks.subspace.spectrum import local_maxima
from hil.array import ArrayGeometry
from hil.errors import EstimationError
from sim_device.near_field_places import NearFieldPlaces

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
C128 = npt.NDArray[np.complex128]

#: Examples that go through a network at once.
_CHUNK = 128

#: How the names of methods begin that know the array as NF-SubspaceNet learned it, and of that network nothing else.
LEARNED = "2D MUSIC positions learned"


class Found(NamedTuple):
    """Of one example: ``[source]``, ``[source]``."""

    azimuth_rad: F64
    range_m: F64


class Test:
    """Test examples, and what several methods need of them.

    Args:
        places: Where they come from.
        batch: The examples.
    """

    def __init__(self, places: NearFieldPlaces, batch: dict[str, npt.NDArray[Any]]) -> None:
        self.places, self.batch = places, batch
        self.samples = batch["samples"]
        self.n_sources: I64 = batch["n_sources"]
        # every method may know from where to where sources are drawn
        self.limits_m = (float(places.range_m[0]), float(places.range_m[1]))
        self.dictionary = self.dictionary_of(places.array)
        self._surrogates: dict[str, C128] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def dictionary_of(self, array: ArrayGeometry) -> Dictionary:
        """Steering vectors on the coarse grid of a line."""
        limit, nearest = self.places.params.azimuth_limit_rad, self.limits_m[0]
        grid = Grid.coarse(array, self.places.wavelength_m, range_min_m=nearest, azimuth_limit_rad=limit)
        return steering_dictionary(array, self.places.wavelength_m, grid)

    def as_learned(self, chosen: Chosen) -> Dictionary:
        """The same grid with the elements where training found them, where it looked for them."""
        array = array_as_learned(chosen.model, self.places.array)
        return steering_dictionary(array, self.places.wavelength_m, self.dictionary.grid)

    def truth(self, i: int) -> Found:
        m = int(self.n_sources[i])
        return Found(self.batch["azimuth_rad"][i, :m], self.batch["range_m"][i, :m])

    def moments(self, i: int) -> Moments:
        return Moments.of_samples(self.samples[i].astype(np.complex128))

    @cached_property
    def covariance(self) -> C128:
        """Sample covariances ``[example, sensor, sensor]``."""
        x = self.samples.astype(np.complex128)
        return x @ np.swapaxes(x.conj(), -1, -2) / x.shape[-1]

    def surrogate(self, name: str, model: Callable[[torch.Tensor], torch.Tensor]) -> C128:
        """What a network makes of the samples, ``[example, sensor, sensor]``; kept by name."""
        if name not in self._surrogates:
            with torch.no_grad():
                parts = [model(torch.from_numpy(self.samples[i : i + _CHUNK])) for i in range(0, len(self), _CHUNK)]
            self._surrogates[name] = torch.cat(parts).numpy()
        return self._surrogates[name]

    def of(self, estimate: Any) -> Found:
        """Azimuths and inverse ranges, held within the searched ranges."""
        k = np.clip(estimate.inverse_range_per_m, 1 / self.limits_m[1], 1 / self.limits_m[0])
        return Found(estimate.azimuth_rad, 1 / k)


def run(name: str, test: Test, n_sources: I64) -> tuple[list[Found], str] | None:
    """What a method finds, and a word on the weights it used; None where there are none.

    Args:
        name: One of :data:`benchmarks.nf_subspace.cases.ALL`.
        test: The examples.
        n_sources: To look for in each, ``[example]``.
    """
    if name in _CLASSIC:
        return [_CLASSIC[name](test, i, int(m)) for i, m in enumerate(n_sources)], ""
    if name == "published choices":
        return _published(test, n_sources)
    chosen = _chosen(name, test)
    if chosen is None:
        return None
    told = weights_of(name, test)
    if name.startswith(LEARNED):
        if learned_array(chosen.model) is None:
            return None
        dictionary, polish = test.as_learned(chosen), "refined" in name
        return [_music(test, i, int(m), dictionary, polish=polish) for i, m in enumerate(n_sources)], told
    if name.startswith("NF-SubspaceNet"):
        return _surrogate(name, test, n_sources, chosen), told
    located = _located(test, n_sources, chosen)
    if located is None:
        return None
    if "refined" not in name:
        return located, told
    dictionary = test.as_learned(chosen)
    return [_refined(test, i, f, dictionary) for i, f in enumerate(located)], told


def weights_of(name: str, test: Test) -> str:
    """The weights that a method takes for these data, and what they are not trained for; empty where it takes none."""
    if name in _CLASSIC:
        return ""
    if name == "published choices":
        return published.WEIGHTS.stem if published.WEIGHTS.exists() else ""
    chosen = _chosen(name, test)
    if chosen is None:
        return ""
    return chosen.name + (f", not trained for this {' and '.join(chosen.foreign)}" if chosen.foreign else "")


def key_of(name: str, test: Test) -> str:
    """What tells the results of a method from those with other weights."""
    chosen = None if name in _CLASSIC or name == "published choices" else _chosen(name, test)
    return f"{name}; {weights_of(name, test)}" + (f"; {chosen.digest}" if chosen is not None else "")


def _chosen(name: str, test: Test) -> Chosen | None:
    return choose(next(system for word, system in _SYSTEMS.items() if name.startswith(word)), test.places)


def _signal(covariance: C128, n_sources: int) -> C128:
    return np.ascontiguousarray(np.linalg.eigh(covariance)[1][:, ::-1][:, :n_sources])


def _music(test: Test, i: int, m: int, dictionary: Dictionary | None = None, *, polish: bool = False) -> Found:
    signal = _signal(test.covariance[i], m)
    return test.of(near_field_from_subspace(signal, test.moments(i), dictionary or test.dictionary, polish=polish))


def _smoothed(test: Test, i: int, m: int) -> Found:
    """As many subarrays as sources; what they see is said to be the middle of the array."""
    n = len(test.places.array.channel_position_m)
    n_sub = n - m + 1
    spacing = float(np.diff(test.places.array.channel_position_m[:2, 0])[0])
    dictionary = test.dictionary_of(ArrayGeometry.ula(n_sub, spacing))
    covariance = smooth_line(test.covariance[i], n_sub)
    moments = Moments.of_covariance(covariance, test.samples.shape[-1])
    return test.of(near_field_from_subspace(_signal(covariance, m), moments, dictionary, polish=False))


def _beamforming(test: Test, i: int, m: int) -> Found:
    """The highest maxima of the conventional beamformer's power on 241 x 85 points."""
    limit = test.places.params.azimuth_limit_rad
    grid = Grid(
        azimuth_min_rad=-limit,
        azimuth_max_rad=limit,
        n_azimuth=241,
        spacing="sine",
        range_min_m=test.limits_m[0],
        range_max_m=test.limits_m[1],
        n_range=85,
    )
    fine = steering_dictionary(test.places.array, test.places.wavelength_m, grid)
    power = bartlett_spectrum(test.covariance[i].astype(np.complex64), fine.conjugate)
    azimuth, k = fine.point(local_maxima(power.reshape(grid.n_azimuth, grid.n_range))[:m])
    return Found(azimuth, 1 / k)


def _greedy(test: Test, i: int, m: int) -> Found:
    return test.of(greedy_likelihood(test.moments(i), test.dictionary, m))


def greedy_with_order(test: Test) -> list[Found]:
    """The number of sources too: the fewest that leave noise alone, at most as many as there ever are."""
    most = int(test.places.params.n_sources[1])
    return [test.of(explain_all(test.moments(i), test.dictionary, most)) for i in range(len(test))]


def _surrogate(name: str, test: Test, n_sources: I64, chosen: Chosen) -> list[Found]:
    surrogate = test.surrogate(chosen.name, chosen.model)
    polish, dictionary = name != "NF-SubspaceNet", test.as_learned(chosen)
    out = []
    for i, m in enumerate(n_sources.tolist()):
        moments = test.moments(i)
        found = near_field_from_subspace(_signal(surrogate[i], m), moments, dictionary, polish=polish)
        if name.endswith("block") and m and not explains(found, moments, dictionary):
            found = likeliest(moments, dictionary, m, [found])
        out.append(test.of(found))
    return out


def _located(test: Test, n_sources: I64, chosen: Chosen) -> list[Found] | None:
    """Of networks that give places themselves; None where they cannot give as many as asked for."""
    fixed = getattr(chosen.model.config, "n_sources", None)
    if fixed is not None and (n_sources != fixed).any():
        return None
    out = [Found(np.zeros(0), np.zeros(0))] * len(test)
    for m in np.unique(n_sources[n_sources > 0]).tolist():
        rows = np.flatnonzero(n_sources == m)
        for part in np.array_split(rows, -(-len(rows) // _CHUNK)):
            with torch.no_grad():
                at = chosen.model(torch.from_numpy(test.samples[part]), m)
            for row, azimuth, ranges in zip(part, at.azimuth_rad.numpy(), at.range_m.numpy(), strict=True):
                out[row] = Found(azimuth.astype(np.float64), ranges.astype(np.float64))
    return out


def _refined(test: Test, i: int, start: Found, dictionary: Dictionary) -> Found:
    """By likelihood from the places that a network gives."""
    try:
        fit = refine_maximum_likelihood(test.moments(i), dictionary, start.azimuth_rad, 1 / start.range_m)
    except EstimationError:
        return start  # two on one spot: no likelihood tells them apart
    return test.of(fit)


def _published(test: Test, n_sources: I64) -> tuple[list[Found], str] | None:
    whole = published.WholePlaces()
    n_sensors = len(test.places.array.channel_position_m)
    if not published.WEIGHTS.exists() or n_sensors != 15 or (n_sources != 2).any():
        return None
    surrogate = test.surrogate("published", published.load())
    rng = np.random.default_rng(0)
    return [Found(*published.estimate(one, whole, 2, rng)) for one in surrogate], published.WEIGHTS.stem


_CLASSIC: dict[str, Callable[[Test, int, int], Found]] = {
    "2D MUSIC": _music,
    "2D MUSIC refined": lambda test, i, m: _music(test, i, m, polish=True),
    "2D MUSIC smoothed": _smoothed,
    "beamforming": _beamforming,
    "greedy likelihood": _greedy,
}
_SYSTEMS = {
    "NF-SubspaceNet": "nf_subspacenet",
    "DCD-MUSIC": "dcd_music",
    "DeepCNN": "deep_cnn",
    "TransMUSIC": "trans_music",
    LEARNED: "nf_subspacenet",
}
