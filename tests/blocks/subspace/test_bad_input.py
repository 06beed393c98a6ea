"""Every estimator with data that no estimate can come from: an error that says so, or a flag; never a wild number."""

import numpy as np
import pytest

from blocks.subspace import (
    anti_diagonal,
    beamforming,
    esprit,
    fresnel_grid,
    joint_likelihood,
    joint_likelihood_batch,
    line_music,
    maximum_likelihood,
    moments,
    near_field_batch,
    near_field_line,
    near_field_music,
    null_descent,
    planar_grid,
    planar_music,
    range_music,
    root_music,
    signal_subspace,
    track_subspace,
)
from blocks.subspace.dictionary import steering_dictionary
from blocks.subspace.far_field_music import far_field_dictionary, far_field_music
from blocks.subspace.line_blocks import Esprit, RootMusic
from blocks.subspace.music import FarFieldMusic, NearFieldMusic
from blocks.subspace.null_descent import Box, Model
from blocks.subspace.planar_block import PlanarMusic
from hil.array import ArrayGeometry, fresnel_distance
from hil.errors import EstimationError, HilError
from tests.blocks.subspace.frames import covariance_frame, iq_frame, told
from tests.blocks.subspace.scene import LAMBDA, snapshots

N, T = 16, 50
LINE, PLANE = ArrayGeometry.ula(N, LAMBDA / 2), ArrayGeometry.ura(4, 4, LAMBDA / 2)
MODEL = Model(LINE.position_m, LAMBDA, False)
BOX = Box(np.array([-1.5, -1.5, 0]), np.array([1.5, 1.5, 2.0]), np.array([0.1, 0.1, 0.1]))
START = np.array([[0.1, 0, 0], [0.3, 0, 0]])
DICTIONARY, FAR = steering_dictionary(LINE, LAMBDA), far_field_dictionary(LINE, LAMBDA)
FRESNEL, RECTANGLE = fresnel_grid.fresnel_grid(LINE, LAMBDA), planar_grid.planar_grid(PLANE, LAMBDA)
SINES = line_music.line_grid(N, LAMBDA / 2, LAMBDA, 181)
RANGES = range_music.range_grid(LINE.aperture_m, LAMBDA, 1.0)
POINTS = DICTIONARY.conjugate.astype(np.complex128)

OF_SAMPLES = {
    "near_field_music_samples": lambda x, m: near_field_music.near_field_music_samples(x, DICTIONARY, m),
    "near_field_music_batch": lambda x, m: near_field_batch.near_field_music_batch(x[None], DICTIONARY, m),
    "line_music": lambda x, m: line_music.line_music(x.astype(np.complex64), SINES, m),
    "signal_subspace_from_samples": lambda x, m: signal_subspace.signal_subspace_from_samples(x, m),
    "leading_from_samples": lambda x, m: signal_subspace.leading_from_samples(x, m),
    "SubspaceTracker": lambda x, m: track_subspace.SubspaceTracker(m).update(x),
}
OF_COVARIANCE = {
    "near_field_music": lambda r, m: near_field_music.near_field_music(r, DICTIONARY, m, T),
    "far_field_music": lambda r, m: far_field_music(r, FAR, m, T),
    "unitary_esprit": lambda r, m: esprit.unitary_esprit(r, m),
    "esprit_variance": lambda r, m: esprit.esprit_variance(r, m, T),
    "reduced_dimension_music": lambda r, m: anti_diagonal.reduced_dimension_music(
        r, MODEL, np.linspace(0.1, 0.3, m), 0.1, RANGES
    ),
    "signal_subspace": lambda r, m: signal_subspace.signal_subspace(r, m),
    "leading_eigenpairs": lambda r, m: signal_subspace.leading_eigenpairs(r, m, T),
    "SubspaceTracker": lambda r, m: track_subspace.SubspaceTracker(m).update(r, samples=False),
    "refine_jointly": lambda r, m: joint_likelihood.refine_jointly(
        moments.Moments.of_covariance(r, T), MODEL, starts(m), BOX, ("azimuth",)
    ),
    "refine_jointly_batch": lambda r, m: joint_likelihood_batch.refine_jointly_batch(
        r, T, MODEL, starts(m), BOX, ("azimuth",)
    ),
}
FIT = {
    "refine_maximum_likelihood": lambda r, m: maximum_likelihood.refine_maximum_likelihood(
        moments.Moments.of_covariance(r, T), DICTIONARY, starts(m)[:, 0], starts(m)[:, 2]
    ),
}
SPECTRA = {
    "bartlett_spectrum": lambda r, m: beamforming.bartlett_spectrum(r, POINTS),
    "capon_spectrum": lambda r, m: beamforming.capon_spectrum(r, POINTS),
    "split_subspaces": lambda r, m: signal_subspace.split_subspaces(r, m),
}
OF_SUBSPACE = {
    "esprit": lambda u: esprit.esprit(u),
    "esprit ls": lambda u: esprit.esprit(u, "ls"),
    "root_music": lambda u: root_music.root_music(u),
    "range_music": lambda u: range_music.range_music(u, MODEL, np.array([0.1]), np.zeros(1), RANGES),
    "near_field_line": lambda u: near_field_line.near_field_line(u, FRESNEL),
    "planar_music": lambda u: planar_music.planar_music(u, RECTANGLE),
}


def starts(m):
    point = np.zeros((m, 3))
    point[:, 0] = np.linspace(-1, 1, m)
    return point


def noise():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(N, T)) + 1j * rng.normal(size=(N, T))) / np.sqrt(2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", ["one place", "everywhere"])
@pytest.mark.parametrize("name", sorted({**OF_SAMPLES}))
def test_samples_that_are_not_finite(name, value, at):
    x = noise()
    x[(3, 4) if at == "one place" else ...] = value
    with pytest.raises(EstimationError), np.errstate(all="ignore"):
        OF_SAMPLES[name](x, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(3, 7), (7, 3), (5, 5), (0, 0), (N - 1, N - 1)])
@pytest.mark.parametrize("name", sorted({**OF_COVARIANCE, **SPECTRA, **FIT}))
def test_covariances_that_are_not_finite_anywhere(name, value, at):
    """LAPACK reads one triangle: what is wrong in the other must be found too."""
    r = noise() @ noise().conj().T / T
    r[at] = value
    with pytest.raises(EstimationError), np.errstate(all="ignore"):
        {**OF_COVARIANCE, **SPECTRA, **FIT}[name](r, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", sorted(OF_SUBSPACE))
def test_subspaces_that_are_not_finite(name, value):
    u = np.linalg.qr(noise()[:, :2])[0]
    u[3, 1] = value
    with pytest.raises(EstimationError, match="not finite"), np.errstate(all="ignore"):
        OF_SUBSPACE[name](u)


@pytest.mark.parametrize("name", sorted({**OF_COVARIANCE, **FIT}))
def test_no_power_at_all(name):
    with pytest.raises(EstimationError):
        {**OF_COVARIANCE, **FIT}[name](np.zeros((N, N), complex), 2)


@pytest.mark.parametrize("name", sorted(OF_SAMPLES))
def test_silence(name):
    with pytest.raises(EstimationError):
        OF_SAMPLES[name](np.zeros((N, T), complex), 2)


@pytest.mark.parametrize("name", sorted(set(OF_COVARIANCE) - {"signal_subspace", "leading_eigenpairs"}))
def test_as_many_sources_as_sensors(name):
    """(Of a subspace as large as the space there is no such thing as too many.)"""
    with pytest.raises(HilError, match=r"16|17"):
        OF_COVARIANCE[name](noise() @ noise().conj().T / T, N + (name == "SubspaceTracker"))


@pytest.mark.parametrize("name", sorted(OF_SAMPLES))
def test_more_sources_than_snapshots(name):
    with pytest.raises(HilError, match=r"2|3"):
        OF_SAMPLES[name](noise()[:, :2].copy(), 3)


def test_a_degenerate_subspace_is_not_a_crash():
    with pytest.raises(EstimationError, match="esprit: the subspace is degenerate"):
        esprit.esprit(np.zeros((N, 2), complex))
    with pytest.raises(EstimationError, match="degenerate"):
        esprit.esprit(np.eye(N, 2, 2 - N) + 0j, "ls")
    torch = pytest.importorskip("torch")
    with pytest.raises(EstimationError, match="degenerate"):
        esprit.esprit(torch.zeros((N, 2), dtype=torch.complex128), "ls")


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (LINE, NearFieldMusic),
        (ArrayGeometry.ula(128, LAMBDA / 2), NearFieldMusic),
        (ArrayGeometry.uca(12, LAMBDA), NearFieldMusic),
        (ArrayGeometry.ura(6, 6, LAMBDA / 2), PlanarMusic),
    ],
)
@pytest.mark.parametrize("part", [0.15, 0.4, 0.7])
def test_sources_nearer_than_the_search_are_left_out_or_right(array, kind, part):
    range_m = part * fresnel_distance(array.aperture_m, LAMBDA)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        azimuth = rng.uniform(-1, 1)
        x = snapshots(array, [azimuth], [range_m], 15, 80, rng).x
        outputs = told(kind("music", n_sources=1), array).feed("iq", iq_frame(x))
        (out,) = [f for name, f in outputs if name == "estimates"]
        assert len(out["azimuth_rad"]) + out.header.meta["n_unresolved"] == 1
        np.testing.assert_allclose(out["azimuth_rad"], azimuth, atol=0.02)
        np.testing.assert_allclose(1 / out["range_m"], 1 / range_m, rtol=0.2)


@pytest.mark.parametrize("far_m", [50.0, 1e3, 1e9])
def test_sources_beyond_the_near_field_have_a_range_that_says_so(far_m):
    block = told(NearFieldMusic("music", n_sources=1), LINE)
    for seed in range(5):
        x = snapshots(LINE, [0.3], [far_m], 10, 80, np.random.default_rng(seed)).x
        (out,) = [f for name, f in block.feed("iq", iq_frame(x)) if name == "estimates"]
        deviation = np.sqrt(out["polar_covariance"][0, 2, 2])
        assert abs(1 / out["range_m"][0] - 1 / far_m) < 5 * deviation
        assert deviation * far_m > 0.3, "its error says that the range is not known"


@pytest.mark.parametrize("kind", [NearFieldMusic, FarFieldMusic, RootMusic, Esprit])
def test_more_targets_than_there_are(kind):
    """Five asked, two there, at high SNR: two right ones, at most, and the rest counted."""
    far = np.full(2, np.inf)
    for seed in range(5):
        x = snapshots(LINE, [-0.4, 0.3], far, 25, 200, np.random.default_rng(seed)).x
        frame = iq_frame(x) if "iq" in kind.inputs else covariance_frame(x)
        outputs = told(kind("music", n_sources=5), LINE).feed(next(iter(kind.inputs)), frame)
        (out,) = [f for name, f in outputs if name == "estimates"]
        assert len(out["azimuth_rad"]) + out.header.meta["n_unresolved"] == 5
        strong = out["azimuth_rad"][out["power_db"] > 10]
        np.testing.assert_allclose(np.sort(strong), [-0.4, 0.3], atol=5e-3)


def test_descents_without_numbers_are_not_converged():
    u = np.linalg.qr(noise()[:, :2])[0]
    u[3, 1] = np.nan
    with np.errstate(all="ignore"):
        ended = null_descent.descend_nulls(u, MODEL, START, BOX, ("azimuth",))
    assert not ended.converged.any() and np.isnan(ended.depth).all()
