"""The streaming block on frames of a simulated scene: state that lives on, changes that are followed, refusals."""

import numpy as np
import pytest

from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.hi_aware.calibration_state import CalibrationState, changed_elements, coefficient_of, update
from blocks.hi_aware.hi_aware_block import HiAware
from blocks.hi_aware.joint_fit import Kind
from blocks.hi_aware.pilots import zadoff_chu
from hil.array import ArrayGeometry
from hil.descriptor import descriptor_frame
from hil.errors import EstimationError, ParamError
from hil.frame import Frame, Header
from hil.wavefront import steering_vector_polar
from tests.blocks.hi_aware.simulate import WAVELENGTH_M
from tests.jig import check_frames

ARRAY = ArrayGeometry.ula(64, WAVELENGTH_M / 2)
AZ, R = np.array([0.3, -0.25]), np.array([1.5, 3.0])
PILOTS = [{"length": 101, "root": 1}, {"length": 101, "root": 5}]


def header(seq=0, epoch=0):
    return Header(
        stream="sim.iq", seq=seq, epoch=epoch, sample_start=1000 * seq, sample_rate_hz=1e6, frequency_hz=30e9,
        time_ns=seq * 1_000_000, timebase="device",
    )  # fmt: skip


def descriptor():
    return descriptor_frame(header(), ARRAY, {"sim": {"pilots": PILOTS}})


def frame(seq, coefficient, rng, *, snr_db=15.0, az=AZ, epoch=0, pilots=True, second=1.0, range_m=R):
    tick = 1000 * seq
    if pilots:
        s = np.stack([zadoff_chu(p["length"], p["root"], tick, 100) for p in PILOTS])
    else:
        s = (rng.standard_normal((2, 100)) + 1j * rng.standard_normal((2, 100))) / np.sqrt(2)
    a = steering_vector_polar(ARRAY.position_m, az, range_m, WAVELENGTH_M, amplitude=True).T
    y = 0.01 * coefficient[:, None] * (a @ (np.array([[np.exp(0.3j)], [second * np.exp(2j)]]) * s))
    noise_power = 2e-4 / 10 ** (snr_db / 10)
    noise = np.sqrt(noise_power / 2) * (rng.standard_normal(y.shape) + 1j * rng.standard_normal(y.shape))
    return Frame.of(header(seq, epoch), iq=((y + noise).astype(np.complex64), "sensor snapshot", "FS"))


def run(block, frames):
    block.feed("iq", descriptor())
    return [{port: f for port, f in block.feed("iq", x)} for x in frames]


def maps(outputs):
    return {i: o["faults"].header.meta for i, o in enumerate(outputs) if "faults" in o}


@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_faults_appear_change_and_heal(mode):
    """Phase at 5, dead at 8, another phase at 12, all well at 16; each is told in its own frame and named."""
    rng = np.random.default_rng(1)
    c, frames = np.ones(64, complex), []
    for seq in range(20):
        if seq == 5:
            c[10] = np.exp(1.2j)
        if seq == 8:
            c[[20, 21]] = 0
        if seq == 12:
            c[10] = np.exp(-2j)
        if seq == 16:
            c[:] = 1
        frames.append(frame(seq, c, rng, pilots=mode == "pilots"))
    told = maps(run(HiAware("hi", mode=mode, n_sources=2 if mode == "blind" else 0, map_every=1000), frames))
    assert {i: (m["appeared"], m["healed"]) for i, m in told.items()} == {
        0: ([], []),
        5: ([10], []),
        8: ([20, 21], []),
        12: ([10], []),
        16: ([], [10, 20, 21]),
    }


def test_weak_faults_show_with_time_and_phases_get_better():
    """0.03 rad is two and a half deviations in one frame: nobody can tell it from noise there."""
    rng = np.random.default_rng(2)
    c = np.ones(64, complex)
    c[30], c[5] = np.exp(0.03j), np.exp(2j)
    block = HiAware("hi", map_every=1)
    outputs = run(block, [frame(i, c, rng) for i in range(60)])
    assert outputs[0]["faults"].header.meta["faulty"] == [5]
    assert outputs[-1]["faults"].header.meta["faulty"] == [5, 30]
    last = outputs[-1]["faults"]
    error = np.angle(last["coefficient"] * c.conj())
    assert (np.abs(error)[[5, 30]] < 4 * last["phase_std_rad"][[5, 30]]).all()
    first = outputs[0]["faults"]["phase_std_rad"][5]
    assert last["phase_std_rad"][5] == pytest.approx(first / np.sqrt(60), rel=0.1)


def test_a_drifting_phase_is_tracked_as_a_kalman_filter_does():
    """Against the scalar Kalman recursion on the same measurements, and better than averaging."""
    rng = np.random.default_rng(3)
    h, q, n = 200.0, 0.02, 400
    phase = np.cumsum(q * rng.standard_normal(n))
    noise = np.sqrt(h / 2) * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
    cross = h * np.exp(1j * phase) + noise
    kind = np.array([Kind.PHASE], np.int8)
    state = CalibrationState.start(cross[:1], np.array([h]), kind)
    x, p = float(np.angle(cross[0])), 1 / (2 * h)
    errors, averaged = [], []
    for i in range(1, n):
        p += q**2
        gain = p / (p + 1 / (2 * h))
        x += gain * float(np.angle(cross[i] * np.exp(-1j * x)))
        p *= 1 - gain
        state = update(state, cross[i : i + 1], np.array([h]), np.zeros(1, bool), q)._replace(kind=kind)
        errors.append(np.angle(state.coefficient[0] * np.exp(-1j * phase[i])))
        averaged.append(np.angle(cross[: i + 1].sum() * np.exp(-1j * phase[i])))
        assert np.angle(state.coefficient[0] * np.exp(-1j * x)) == pytest.approx(0, abs=0.02)
        assert state.phase_variance_rad2[0] == pytest.approx(p, rel=1e-6)
    assert np.std(errors) == pytest.approx(np.sqrt(p), rel=0.15)
    assert np.std(averaged) > 2 * np.std(errors)


@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_where_all_elements_err_a_little_the_map_stays_that_of_faults(mode):
    """0.05 rad in every element is four deviations of a frame, and twenty of all frames."""
    rng = np.random.default_rng(17)
    scatter = np.exp(0.05j * rng.standard_normal(64))
    healthy, broken = scatter.copy(), scatter.copy()
    broken[7] *= np.exp(1j)
    frames = [frame(i, broken if 8 <= i < 16 else healthy, rng, pilots=mode == "pilots") for i in range(24)]
    out = run(HiAware("hi", mode=mode, n_sources=2 if mode == "blind" else 0), frames)
    assert [o["estimates"].header.meta["n_faulty"] for o in out] == [0] * 8 + [1] * 8 + [0] * 8
    assert {i: m["appeared"] + m["healed"] for i, m in maps(out).items() if m["appeared"] or m["healed"]} == {
        8: [7],
        16: [7],
    }


@pytest.mark.parametrize("phase_rad", [0.04, 0.05])
def test_a_fault_too_small_for_one_frame_comes_and_goes_in_the_last_few(phase_rad):
    """Three deviations of a frame, after an hour of intact frames and of faulty ones; the others stay as they are."""
    rng = np.random.default_rng(16)
    h = np.full(400, 0.5 / 0.0125**2)
    faulty = np.arange(400) < 20

    def measured(c):
        return h * c + np.sqrt(h / 2) * (rng.standard_normal(h.shape) + 1j * rng.standard_normal(h.shape))

    state = CalibrationState.start(h + 0j, h, np.zeros(400, np.int8))
    state = state._replace(cross=1000 * state.cross, power=1000 * state.power, age=1000 * state.age)
    for c in (np.exp(1j * phase_rad), 1.0):
        for _ in range(20):
            cross = measured(np.where(faulty, c, 1.0))
            state = update(state, cross, h, changed_elements(state, cross, h))
        assert np.mean((state.kind != Kind.INTACT)[faulty]) == pytest.approx(float(c != 1), abs=0.1)
        assert np.count_nonzero(state.kind[~faulty]) <= 2
        state = state._replace(cross=100 * state.cross, power=100 * state.power, age=100 * state.age)


def test_what_stays_as_it_is_does_not_change():
    rng = np.random.default_rng(4)
    h = np.full(20_000, 300.0)
    kind = np.zeros(20_000, np.int8)
    kind[::2] = Kind.PHASE
    true = np.where(kind == Kind.PHASE, np.exp(1j), 1)

    def measured():
        return h * true + np.sqrt(h / 2) * (rng.standard_normal(h.shape) + 1j * rng.standard_normal(h.shape))

    state = CalibrationState.start(measured(), h, kind)
    assert np.count_nonzero(changed_elements(state, measured(), h)) <= 5
    np.testing.assert_allclose(coefficient_of(h * true, h, kind), true)


def test_a_target_that_jumps_is_found_again_and_the_map_is_kept():
    rng = np.random.default_rng(5)
    c = np.ones(64, complex)
    c[40] = -1
    block = HiAware("hi", map_every=1)
    frames = [frame(i, c, rng) for i in range(5)] + [frame(i, c, rng, az=AZ + 0.3) for i in range(5, 10)]
    outputs = run(block, frames)
    assert all(o["faults"].header.meta["faulty"] == [40] for o in outputs)
    np.testing.assert_allclose(outputs[-1]["estimates"]["azimuth_rad"], AZ + 0.3, atol=1e-3)
    assert block.stats()["searched"] == 2


def test_a_silent_pilot_gives_no_position_and_is_found_when_it_speaks_again():
    rng = np.random.default_rng(10)
    c = np.ones(64, complex)
    c[20] = -1j
    frames = [frame(i, c, rng, second=0.0 if 3 <= i < 6 else 1.0, az=AZ - 0.2 * (i >= 6)) for i in range(9)]
    outputs = run(HiAware("hi", map_every=1), frames)
    assert [len(o["estimates"]["azimuth_rad"]) for o in outputs] == [2, 2, 2, 1, 1, 1, 2, 2, 2]
    assert [o["estimates"].header.meta["n_silent"] for o in outputs] == [0, 0, 0, 1, 1, 1, 0, 0, 0]
    assert all(o["faults"].header.meta["faulty"] == [20] for o in outputs)
    np.testing.assert_allclose(outputs[4]["estimates"]["azimuth_rad"], AZ[:1], atol=1e-3)
    np.testing.assert_allclose(outputs[6]["estimates"]["azimuth_rad"], AZ - 0.2, atol=1e-3)


def test_a_new_epoch_starts_anew():
    rng = np.random.default_rng(6)
    c = np.ones(64, complex)
    block = HiAware("hi", map_every=1000)
    told = maps(run(block, [frame(i, c, rng, epoch=i // 3) for i in range(6)]))
    assert list(told) == [0, 3]
    assert block.stats()["searched"] == 2


def test_the_number_of_targets_is_found_without_pilots_though_elements_are_faulty():
    rng = np.random.default_rng(7)
    c = np.ones(64, complex)
    c[[3, 30, 31]] = np.exp([1j, 2j, 3j])
    (out,) = run(HiAware("hi", mode="blind"), [frame(0, c, rng, pilots=False)])
    assert len(out["estimates"]["azimuth_rad"]) == 2
    assert out["faults"].header.meta["faulty"] == [3, 30, 31]


def test_frame_by_frame_read_only_and_across_the_wire():
    rng = np.random.default_rng(8)
    c = np.ones(64, complex)
    c[12] = 1j

    def check(out):
        estimates = [f for port, f in out if port == "estimates" and f.header.kind == "data"]
        assert len(estimates) == 3
        np.testing.assert_allclose(np.sort(estimates[-1]["azimuth_rad"]), np.sort(AZ), atol=1e-3)

    check_frames(lambda: HiAware("hi"), [descriptor(), *(frame(i, c, rng) for i in range(3))], check)


@pytest.mark.parametrize(
    ("params", "change", "match"),
    [
        ({"mode": "pilots"}, lambda f: Frame(f.header._replace(sample_start=None), f.arrays), "carry sample_start"),
        ({"mode": "blind", "n_sources": 64}, lambda f: f, r"1 \.\. 63"),
        ({}, lambda f: Frame(f.header, {"iq": f["iq"] * np.nan}), "finite"),
        ({"mode": "pilots"}, lambda f: Frame(f.header, {"iq": 0 * f["iq"]}), r"samples \[64, 100\] are zero"),
        ({"mode": "blind", "n_sources": 2}, lambda f: Frame(f.header, {"iq": 0 * f["iq"]}), "are zero"),
        ({}, lambda f: Frame(f.header, {"iq": f["iq"][:10]}), "64 channels, the data 10"),
    ],
)
def test_refuses_with_the_reason(params, change, match):
    block = HiAware("hi", **params)
    block.feed("iq", descriptor())
    with pytest.raises(EstimationError, match=match):
        block.feed("iq", change(frame(0, np.ones(64), np.random.default_rng(9))))


@pytest.mark.parametrize("mode", ["pilots", "blind"])
@pytest.mark.parametrize("near_m", [0.2, 0.3, 0.4])
def test_a_target_nearer_than_searched_is_an_error_and_not_a_number(mode, near_m):
    """The Fresnel distance of this array is 0.50 m."""
    block = HiAware("hi", mode=mode, n_sources=2 if mode == "blind" else 0)
    near = frame(0, np.ones(64), np.random.default_rng(12), range_m=np.array([near_m, 3.0]))
    with pytest.raises(EstimationError, match=r"unexplained|do not fit|sources show"):
        run(block, [near])


@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_a_target_beyond_the_near_field_has_a_direction_and_no_position(mode):
    """10 km, where the Rayleigh distance is 20 m: its range is infinite or less than three deviations of it."""
    rng = np.random.default_rng(14)
    block, cartesian = HiAware("hi", mode=mode), PolarToCartesian("cartesian")
    cartesian.feed("estimates", descriptor())
    far = [frame(i, np.ones(64), rng, range_m=np.array([1e4, 3.0])) for i in range(3)]
    for out in run(block, far):
        deviation = np.sqrt(np.einsum("saa->sa", out["estimates"]["polar_covariance"]))
        first = np.abs(out["estimates"]["azimuth_rad"] - AZ[0]).argmin()
        assert abs(out["estimates"]["azimuth_rad"][first] - AZ[0]) < 5 * deviation[first, 0]
        assert 1 / out["estimates"]["range_m"][first] < 5 * deviation[first, 2]
        assert out["bounds"]["range_std_m"][first] > 100
        told = dict(cartesian.feed("estimates", out["estimates"]))
        np.testing.assert_allclose(told["positions"]["azimuth_rad"], AZ[1:], atol=1e-3)
        np.testing.assert_allclose(told["directions"]["azimuth_rad"], AZ[:1], atol=1e-3)


@pytest.mark.parametrize("apart_rad", [0.0, 1e-4])
def test_two_targets_on_one_spot_are_told_by_their_pilots_and_refused_without(apart_rad):
    """A hundredth of a beam apart."""
    az, r = np.array([0.1, 0.1 + apart_rad]), np.array([2.0, 2.0])
    both = frame(0, np.ones(64), np.random.default_rng(15), az=az, range_m=r)
    found = run(HiAware("hi"), [both])[0]["estimates"]
    deviation = np.sqrt(np.einsum("saa->sa", found["polar_covariance"]))
    assert (np.abs(found["azimuth_rad"] - az) < 5 * deviation[:, 0]).all()
    assert (np.abs(1 / found["range_m"] - 1 / r) < 5 * deviation[:, 2]).all()
    with pytest.raises(EstimationError, match="1 of 2 sources show"):
        run(HiAware("hi", mode="blind", n_sources=2), [both])


def test_more_targets_than_asked_is_an_error_and_not_a_number():
    rng = np.random.default_rng(13)
    both = frame(0, np.ones(64), rng, pilots=False)
    with pytest.raises(EstimationError, match=r"unexplained|do not fit"):
        run(HiAware("hi", mode="blind", n_sources=1), [both])


@pytest.mark.parametrize("mode", ["pilots", "blind"])
def test_channels_that_give_nothing_at_all_are_dead_elements(mode):
    """A cable that is off: zeros, without the noise of a receiver; and half of the snapshots lost."""
    good = frame(0, np.ones(64), np.random.default_rng(18), pilots=mode == "pilots")
    iq = good["iq"].copy()
    iq[[5, 40]] = 0
    iq[:, 50:] = 0
    out = run(HiAware("hi", mode=mode), [Frame(good.header, {"iq": iq})])[0]
    np.testing.assert_allclose(np.sort(out["estimates"]["azimuth_rad"]), np.sort(AZ), atol=1e-3)
    assert out["faults"].header.meta["faulty"] == [5, 40]
    np.testing.assert_allclose(np.abs(out["faults"]["coefficient"][[5, 40]]), 0, atol=1e-6)


def test_pilots_are_checked():
    with pytest.raises(ParamError, match="prime to it"):
        zadoff_chu(99, 3, 0, 10)
