import cmath
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.descriptor import array_of
from hil.errors import ControlError, ParamError
from hil.frame import Loss
from hil.streams import IQ, TRUTH, port_of
from hil.wavefront import SPEED_OF_LIGHT_M_S
from hil.wire import DEFAULT_LIMITS, decode, encode
from sim_device.device import XlArrayDevice

WANDERING = {"kind": "wander", "centre_m": [0, 8, 0], "extent_m": [3, 3, 1], "speed_m_per_s": 2000.0}


def stand(id, x, y, **more):
    return {"id": id, "motion": {"kind": "stand", "position_m": [x, y, 0.0]}, **more}


def device(**params):
    return XlArrayDevice(
        "xl", **{"array": {"kind": "ula", "n": 6}, "real_time": False, "seed": 3, "frame_period_s": 0, **params}
    )


def data(frames, stream="iq"):
    return [f for f in frames if f.header.kind == "data" and f.header.stream == stream]


def run(xl, n):
    return [frame for _ in range(n) for frame in xl.step()]


def iq_of(frames):
    return np.concatenate([f["iq"] for f in data(frames)], axis=1)


# -- the one sample function ---------------------------------------------------------------------------------------


def changed_device():
    """A device whose state changes within blocks of ticks."""
    xl = device(
        sources=[{"id": 1, "motion": WANDERING}, stand(2, 1, 9, waveform={"kind": "qpsk"}, phase_rad=0.4)],
        n_snapshots=50,
        faults=[{"kind": "phase", "probability": 0.3}],
    )
    for k in range(12):
        xl.step()
        if k == 3:
            xl.tune(5.5e9)
        if k == 5:
            xl.move_source(2, (2.0, 7.0, 0.0), (5.0, 0.0, 0.0))
        if k == 7:
            xl.set_gain(6.0)
            xl.inject_fault(2, "dead")
    return xl


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 590), st.integers(1, 300)), min_size=1, max_size=6))
def test_samples_do_not_depend_on_chunks_or_order(reads):
    xl = changed_device()
    whole = changed_device().samples(0, 900)
    for start, n in reads:
        np.testing.assert_array_equal(xl.samples(start, n), whole[:, start : start + n])


def test_frames_are_the_sample_function():
    xl = device(sources=[{"id": 1, "motion": WANDERING}], n_snapshots=37)
    frames = data(run(xl, 9))
    for frame in frames:
        start = frame.header.sample_start
        np.testing.assert_array_equal(frame["iq"], device(sources=[{"id": 1, "motion": WANDERING}]).samples(start, 37))
    assert [f.header.sample_start for f in frames] == [37 * k for k in range(9)]


def test_other_frame_lengths_and_periods_give_the_same_ticks():
    source = [stand(1, 0.5, 4)]
    whole = device(sources=source).samples(0, 2000)
    for frame in data(run(device(sources=source, n_snapshots=20, frame_period_s=130e-6), 10)):
        start = frame.header.sample_start
        assert start % 130 == 0
        np.testing.assert_array_equal(frame["iq"], whole[:, start : start + 20])


def test_a_command_changes_nothing_before_its_tick():
    quiet, told = device(sources=[stand(1, 0, 5)]), device(sources=[stand(1, 0, 5)])
    quiet.step()
    told.step()
    told.move_source(1, (4.0, 4.0, 0.0))
    a, b = quiet.samples(0, 300), told.samples(0, 300)
    np.testing.assert_array_equal(a[:, :100], b[:, :100])
    assert np.all(np.any(a[:, 100:] != b[:, 100:], axis=0))


def test_seeds_repeat_and_differ():
    params = {"sources": [{"id": 1, "motion": WANDERING}], "drops": {"probability": 0.5, "samples": 7}}
    first, again, other = (iq_of(run(device(**params, seed=s), 5)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == other)


def test_removing_a_source_leaves_the_draws_of_the_others():
    both = device(sources=[stand(1, 0, 5), stand(2, 3, 5)], noise_power_db=-200).samples(0, 100).astype(complex)
    one = device(sources=[stand(1, 0, 5)], noise_power_db=-200).samples(0, 100)
    two = device(sources=[stand(2, 3, 5)], noise_power_db=-200).samples(0, 100)
    np.testing.assert_allclose(both, one + two, rtol=0, atol=1e-7)


def test_the_past_beyond_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr("sim_device.sampler.MAX_STATES", 3)
    xl = device(sources=[stand(1, 0, 5)])
    for k in range(6):
        xl.step()
        xl.set_power(1, -30.0 - k)
    xl.samples(400, 10)
    with pytest.raises(ParamError, match="tick 5 lies before 400, the oldest that is remembered"):
        xl.samples(5, 10)


# -- physics -------------------------------------------------------------------------------------------------------


def test_a_noiseless_tone_is_the_closed_form():
    """The whole chain against loops of the standard library: positions, wavefront, amplitude, power, phase, gain."""
    xl = device(
        array={
            "kind": "elements",
            "position_m": [[-0.3, 0, 0], [0.1, 0.05, 0.2], [0.2, -0.05, -0.2]],
            "origin_m": [1, 0, 0],
        },
        sources=[stand(1, 3.0, 4.0, power_db=-20.0, phase_rad=0.7, waveform={"kind": "tone", "frequency_hz": 1e4})],
        noise_power_db=-200.0,
        gain_db=6.0,
    )
    got = xl.samples(0, 8)
    elements, source = [[-0.3, 0, 0], [0.1, 0.05, 0.2], [0.2, -0.05, -0.2]], [2.0, 4.0, 0.0]
    r, wavelength = math.hypot(*source), SPEED_OF_LIGHT_M_S / 5e9
    for m, element in enumerate(elements):
        r_m = math.dist(source, element)
        for t in range(8):
            phase = -2 * math.pi * (r_m - r) / wavelength + 0.7 + 2 * math.pi * 1e4 * t / 1e6
            expected = 10 ** ((6.0 - 20.0) / 20) * r / r_m * cmath.exp(1j * phase)
            assert abs(got[m, t] - expected) < 1e-6  # float32


def test_snr_is_power_over_noise_power_at_each_element():
    far = {"id": 1, "motion": {"kind": "bearing", "azimuth_rad": 0.3, "range_m": 1e6}, "power_db": -33.0}
    n = 40_000
    power = np.mean(np.abs(device(sources=[far]).samples(0, n)) ** 2, axis=1)
    noise = np.mean(np.abs(device().samples(0, n)) ** 2, axis=1)
    # each is a mean of n exponentials: relative standard deviation 0.005
    np.testing.assert_allclose(noise, 1e-4, rtol=0.025)
    np.testing.assert_allclose(10 * np.log10(power / noise - 1), 7.0, atol=0.3)


def test_coherent_sources_span_one_dimension_with_the_fixed_ratio():
    def covariance(group):
        sources = [
            {**stand(1, -2, 5, power_db=-20.0, phase_rad=0.2), "group": group},
            {**stand(2, 2, 5, power_db=-26.0, phase_rad=1.3), "group": group},
        ]
        x = device(sources=sources, noise_power_db=-200.0).samples(0, 2000).astype(np.complex128)
        return np.linalg.svd(x @ x.conj().T / 2000, compute_uv=False), sources

    coherent, sources = covariance(4)
    assert coherent[1] / coherent[0] < 1e-10
    independent, _ = covariance(None)
    assert independent[1] / independent[0] > 1e-2
    alone = [device(sources=[s], noise_power_db=-200.0).samples(0, 50).astype(complex)[0] for s in sources]
    steering = [
        device(
            sources=[{**s, "group": None, "phase_rad": 0.0, "power_db": 0.0, "waveform": {"kind": "tone"}}],
            noise_power_db=-200.0,
            clip=False,
        ).samples(0, 1)[0, 0]
        for s in sources
    ]
    ratio = (alone[1] / steering[1]) / (alone[0] / steering[0])
    np.testing.assert_allclose(ratio, 10 ** (-6 / 20) * cmath.exp(1.1j), rtol=1e-5)


def test_dead_elements_keep_their_noise_and_channels_follow_the_map():
    channel_map = [5, 3, 1]
    xl = device(array={"kind": "ula", "n": 6, "channel_map": channel_map}, sources=[stand(1, 0, 5, power_db=-10.0)])
    whole = device(sources=[stand(1, 0, 5, power_db=-10.0)], noise_power_db=-200.0).samples(0, 64)
    quiet = device(
        array={"kind": "ula", "n": 6, "channel_map": channel_map},
        sources=[stand(1, 0, 5, power_db=-10.0)],
        noise_power_db=-200.0,
    ).samples(0, 64)
    np.testing.assert_allclose(quiet, whole[channel_map], rtol=0, atol=1e-9)  # the noise, which is the channels' own
    xl.inject_fault(3, "dead")
    power = np.mean(np.abs(xl.samples(0, 20_000)) ** 2, axis=1)
    assert power[1] == pytest.approx(1e-4, rel=0.05)
    assert power[[0, 2]] == pytest.approx(0.1 + 1e-4, rel=0.05)


def test_positions_are_held_within_a_block_and_move_between():
    moving = {
        "id": 1,
        "motion": {"kind": "straight", "position_m": [-5, 5, 0], "velocity_m_per_s": [1e4, 0, 0]},
        "waveform": {"kind": "tone"},
    }
    phase = np.angle(device(sources=[moving], noise_power_db=-200.0).samples(0, 256)[0])
    steps = np.flatnonzero(np.abs(np.diff(phase)) > 1e-4) + 1
    assert steps.tolist() == [64, 128, 192]


# -- frames --------------------------------------------------------------------------------------------------------


def test_frames_fit_their_streams_and_say_what_is_known():
    xl = device(sources=[{"id": 9, "motion": WANDERING}, stand(4, 1, 5)], sample_rate_hz=2e6, gain_db=3.0)
    xl.step()
    truth, iq = xl.step()
    port_of(IQ).check(iq.arrays, {}, "iq")
    port_of(TRUTH).check(truth.arrays, {}, "truth")
    h = iq.header
    assert (h.stream, h.seq, h.epoch, h.sample_start, h.sample_rate_hz, h.frequency_hz) == ("iq", 1, 0, 100, 2e6, 5e9)
    assert (h.time_ns, h.timebase, h.array_id, h.lost) == (50_000, "device", "xl-array", Loss())
    assert truth.header.time_ns == h.time_ns
    assert truth["id"].tolist() == [9, 4]
    np.testing.assert_allclose(truth["power_db"], -27.0)
    for frame in (truth, iq, *xl.descriptors()):
        again = decode([bytes(p) for p in encode(frame)])
        assert again.header == frame.header or frame.header.kind == "descriptor"


def test_truth_is_where_the_source_is_in_the_middle_of_the_frame():
    motion = {"kind": "straight", "position_m": [1, 5, 0], "velocity_m_per_s": [100.0, 0, 0]}
    xl = device(sources=[{"id": 1, "motion": motion}])
    truth = data(run(xl, 3), "truth")[2]
    # ticks 200..299 at 1 MHz: the middle is tick 250
    np.testing.assert_allclose(truth["position_m"], [[1 + 100.0 * 250e-6, 5, 0]], rtol=1e-12)
    np.testing.assert_allclose(truth["velocity_m_per_s"], [[100.0, 0, 0]])


def test_no_sources_is_an_empty_truth():
    truth, iq = device().step()
    port_of(TRUTH).check(truth.arrays, {}, "truth")
    assert truth["position_m"].shape == (0, 3)
    assert iq["iq"].shape == (6, 100)


def test_descriptors_tell_the_seed_and_the_iq_one_no_truth():
    xl = device(
        sources=[stand(1, 0, 5, waveform={"kind": "pilot", "length": 31}), stand(2, 1, 5)],
        faults=[{"kind": "dead", "probability": 0.5}],
        mismatch={"phase_std_rad": 0.1},
    )
    iq, truth = xl.descriptors()
    assert array_of(iq) == array_of(truth) == xl.array
    assert iq.header.meta["sim"]["seed"] == 3
    assert iq.header.meta["sim"]["pilots"] == [{"kind": "pilot", "length": 31, "root": 1}]
    assert set(iq.header.meta["sim"]) == {"device", "seed", "gain_db", "pilots"}
    sim = truth.header.meta["sim"]
    response = np.array(sim["response_real"]) + 1j * np.array(sim["response_imag"])
    assert np.flatnonzero(response == 0).tolist() == sim["faulty_elements"] == [f["element"] for f in xl.faults()]


def test_the_largest_description_fits_into_a_header():
    n, sources = 4096, [stand(k, 0.1 * k, 5, group=1) for k in range(256)]
    xl = device(
        array={"kind": "elements", "position_m": [[0.01 * k, 0.1, 0.3] for k in range(n)]},
        sources=sources,
        mismatch={"gain_std_db": 1.0},
        faults=[{"kind": "phase", "probability": 1.0}],
    )
    for frame in xl.descriptors():
        assert len(encode(frame)[1]) < DEFAULT_LIMITS.header_bytes
    with pytest.raises(ParamError, match="at most 4096 elements"):
        device(array={"kind": "ura", "nx": 65, "nz": 64})


def test_clipped_samples_are_counted_in_the_header():
    xl = device(sources=[stand(1, 0, 5, power_db=3.0)])
    frames = data(run(xl, 20))
    total = sum(f.header.lost.clipped for f in frames)
    iq = iq_of(frames)
    at_limit = (np.abs(iq.real) == 1) | (np.abs(iq.imag) == 1)
    assert total == at_limit.sum() > 0
    assert xl.stats()["samples_clipped"] == total


def test_dropped_samples_are_an_event_a_loss_and_a_gap_in_the_ticks():
    xl = device(sources=[stand(1, 0, 5)])
    xl.step()
    xl.drop_samples(30)
    event, truth, iq = xl.step()
    assert event.header.meta == {"event": "gap", "samples": 30}
    assert iq.header.lost == Loss(samples=30)
    assert truth.header.lost == Loss()
    assert iq.header.sample_start == truth.header.sample_start == 130
    assert iq.header.time_ns == 130_000
    np.testing.assert_array_equal(iq["iq"], device(sources=[stand(1, 0, 5)]).samples(130, 100))
    assert xl.step()[1].header.lost == Loss()


def test_random_drops_have_their_rate_and_are_all_accounted():
    xl = device(drops={"probability": 0.2, "samples": 11}, n_snapshots=10)
    frames = data(run(xl, 1000))
    lost = [f.header.lost.samples for f in frames]
    assert set(lost) == {0, 11}
    assert sum(map(bool, lost)) == pytest.approx(200, abs=5 * math.sqrt(160))
    assert frames[-1].header.sample_start == 999 * 10 + sum(lost)


def test_overrun_passes_over_frames_and_counts_them():
    xl = device()
    xl.step()
    xl.overrun(3)
    event, truth, iq = xl.step()
    assert event.header.meta == {"event": "overflow", "frames": 3, "samples": 300}
    assert iq.header.lost == Loss(frames=3, samples=300)
    assert truth.header.lost == Loss(frames=3)
    assert (iq.header.seq, iq.header.sample_start) == (4, 400)


def test_the_stream_ends_after_n_frames():
    xl = device(n_frames=2)
    run(xl, 2)
    assert xl.ended
    assert [(f.header.stream, f.header.kind, f.header.seq) for f in xl.step()] == [
        ("iq", "eof", 2),
        ("truth", "eof", 2),
    ]


# -- verbs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "value", "event", "field"),
    [
        ("tune", 6e9, "retune", "frequency_hz"),
        ("set_gain", 10.0, "gain", "gain_db"),
        ("set_sample_rate", 2e6, "sample_rate", "sample_rate_hz"),
    ],
)
def test_what_makes_a_calibration_stale_is_a_new_epoch_with_event_and_descriptors(verb, value, event, field):
    xl = device(sources=[stand(1, 0, 5)])
    xl.step()
    assert getattr(xl, verb)(value) == 1
    told, iq_descriptor, truth_descriptor, truth, iq = xl.step()
    assert told.header.meta == {"event": event, field: value}
    assert {f.header.kind for f in (iq_descriptor, truth_descriptor)} == {"descriptor"}
    assert {f.header.epoch for f in (told, iq_descriptor, truth_descriptor, truth, iq)} == {1}
    assert getattr(xl, verb)(value) == 1, "the same value again is no new epoch"


def test_time_goes_on_across_a_change_of_sample_rate():
    xl = device()
    xl.step()
    xl.set_sample_rate(2e6)
    times = [data(xl.step())[0].header.time_ns for _ in range(3)]
    assert times == [100_000, 150_000, 200_000]


def test_retuning_changes_the_wavefront_and_not_the_array():
    xl = device(sources=[stand(1, 3, 5, waveform={"kind": "tone"})], noise_power_db=-200.0)
    before = xl.samples(0, 1)
    xl.step()
    xl.tune(2.5e9)
    after = xl.samples(100, 1)
    phase = np.unwrap(np.angle(before[:, 0])), np.unwrap(np.angle(after[:, 0]))
    np.testing.assert_allclose(np.diff(phase[0]), 2 * np.diff(phase[1]), atol=1e-4)


def test_faults_are_silent_on_iq_and_told_on_truth():
    xl = device(sources=[stand(1, 0, 5)])
    xl.step()
    assert xl.inject_fault([1, 4], "phase", phase_rad=1.0) == [1, 4]
    frames = xl.step()
    assert [(f.header.stream, f.header.kind) for f in frames] == [
        ("truth", "event"), ("truth", "descriptor"), ("truth", "data"), ("iq", "data"),
    ]  # fmt: skip
    assert frames[0].header.meta == {"event": "fault", "elements": [1, 4]}
    assert frames[-1].header.epoch == 0
    clean = device(sources=[stand(1, 0, 5)], noise_power_db=-200.0)
    faulty = device(sources=[stand(1, 0, 5)], noise_power_db=-200.0)
    faulty.inject_fault([1, 4], "phase", phase_rad=1.0)
    ratio = faulty.samples(0, 10) / clean.samples(0, 10)
    np.testing.assert_allclose(np.angle(ratio), np.array([0, 1, 0, 0, 1, 0])[:, None] * np.ones(10), atol=1e-5)
    assert faulty.clear_fault(1) == [4]
    assert faulty.clear_fault() == []
    np.testing.assert_array_equal(faulty.samples(0, 10), clean.samples(0, 10))


def test_sources_come_go_and_move():
    xl = device(sources=[stand(1, 0, 5)])
    xl.step()
    added = msgspec.convert(stand(7, 2, 6, power_db=-25.0), type(xl.params.sources[0]))
    xl.add_source(added)
    truth = data(xl.step(), "truth")[0]
    assert truth["id"].tolist() == [1, 7]
    xl.move_source(7, (4.0, 4.0, 1.0), (1000.0, 0.0, 0.0))
    xl.set_power(1, -50.0)
    truth = data(xl.step(), "truth")[0]
    np.testing.assert_allclose(truth["position_m"], [[0, 5, 0], [4 + 1000 * 50e-6, 4, 1]])
    np.testing.assert_allclose(truth["power_db"], [-50, -25])
    xl.remove_source(1)
    assert data(xl.step(), "truth")[0]["id"].tolist() == [7]


def refusals():
    yield lambda xl: xl.move_source(3, (0.0, 1.0, 0.0)), ControlError, "source 3: there are 1"
    yield lambda xl: xl.remove_source(3), ControlError, "source 3: there are 1"
    yield lambda xl: xl.inject_fault(6), ControlError, "element 6: this array has elements 0 to 5"
    yield lambda xl: xl.inject_fault("some"), ControlError, "a number, a list of numbers or 'all', got 'some'"
    yield lambda xl: xl.set_params(seed=4), ControlError, "seed is fixed while the device runs.*may be set: sources"
    yield lambda xl: xl.set_params(gain_db=1e6), ParamError, r"<= 120.0 - at `\$.gain_db`"
    yield lambda xl: xl.set_params(frame_period_s=-1.0), ParamError, r">= 0.0 - at `\$.frame_period_s`"
    yield lambda xl: xl.set_params(sources=[stand(1, 0, 1), stand(1, 0, 2)]), ParamError, "an id of its own"
    yield (
        lambda xl: xl.set_params(sources=[stand(1, 0, 1, group=2), stand(2, 0, 2, group=2, waveform={"kind": "tone"})]),
        ParamError,
        "sources 1 and 2 of group 2 need the same waveform",
    )


@pytest.mark.parametrize(("call", "error", "message"), list(refusals()))
def test_refusals_say_what_is_allowed_and_change_nothing(call, error, message):
    xl = device(sources=[stand(1, 0, 5)])
    before = xl.params
    with pytest.raises(error, match=message):
        call(xl)
    assert xl.params is before
    assert len(xl.step()) == 2
    assert xl.epoch == 0
