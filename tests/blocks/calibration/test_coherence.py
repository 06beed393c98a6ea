import numpy as np
import pytest

from blocks.calibration.coherence import phase_stability, relative_phase
from blocks.calibration.coherence_check import CoherenceCheck
from hil.errors import EstimationError, ParamError
from hil.frame import Frame, Header
from tests.blocks.calibration.radio import Radio


def test_phases_and_coherences_of_known_mixtures():
    rng = np.random.default_rng(1)
    s, n = (rng.standard_normal((2, 200_000, 2)) @ [1, 1j]) / 2**0.5
    share = 0.6  # of the power that is common: coherence sqrt(share) with a clean reference
    x = np.stack([s, np.exp(1.1j) * s, 3 * np.exp(-2j) * (share**0.5 * s + (1 - share) ** 0.5 * n)])
    found = relative_phase(x)
    np.testing.assert_allclose(found.phase_rad, [0, 1.1, -2], atol=0.01)
    np.testing.assert_allclose(found.coherence, [1, 1, share**0.5], atol=0.01)
    with pytest.raises(EstimationError, match="channel 1 is silent"):
        relative_phase(np.stack([s, 0 * s]))


def test_a_line_and_noise_about_it():
    rng = np.random.default_rng(2)
    t = np.linspace(10, 20, 4001)
    phase = np.stack([0 * t, 0.8 * t, 0.05 * rng.standard_normal(len(t))], axis=1)
    found = phase_stability(np.angle(np.exp(1j * phase)), t)
    np.testing.assert_allclose(found.drift_rad_per_s, [0, 0.8, 0], atol=2e-3)
    # a straight line over T has the deviation slope T / sqrt(12)
    np.testing.assert_allclose(found.deviation_rad, [0, 8 / 12**0.5, 0.05], rtol=0.02)
    assert found.largest_step_rad[1] == pytest.approx(0.8 * 10 / 4000)
    with pytest.raises(ParamError, match="two times or more"):
        phase_stability(np.zeros((1, 3)), np.zeros(1))


def watched(turn, n=40, **params):
    """Events and data for a receiver whose channel 2 is turned by ``turn(time_s)``."""
    radio = Radio(n=500, phase=lambda rng, m: rng.uniform(-3, 3, m))
    block = CoherenceCheck("check", **{"n_snapshots": 1000, "n_phases": 16, **params})
    out = []
    for _ in range(n):
        frame = radio.frame(noise=True)
        iq = frame["iq"] * np.exp(1j * np.array([0, 0, turn(frame.header.sample_start / 1e6), 0]))[:, None]
        out += block.feed("iq", Frame.of(frame.header, iq=(iq.astype(np.complex64), "sensor snapshot", "FS")))
    frames = [f for _, f in out]
    return [f for f in frames if f.header.kind == "data"], [f.header.meta for f in frames if f.header.kind == "event"]


def test_channels_that_keep_their_phase():
    data, events = watched(lambda t: 0.0)
    assert len(data) == 19
    assert events == []
    assert all(f.header.meta["coherent"] for f in data)
    assert data[-1]["deviation_rad"].max() < 1e-3


def test_a_channel_on_another_clock_is_named_with_its_drift():
    data, events = watched(lambda t: 2 * np.pi * 15.0 * t)
    assert [(e["event"], e["coherent"], e["worst"]) for e in events] == [("coherence", False, 2)]
    assert data[-1]["drift_rad_per_s"][2] == pytest.approx(2 * np.pi * 15, rel=0.01)


def test_a_step_is_seen_and_forgotten():
    data, events = watched(lambda t: 0.0 if t < 0.011 else 1.5, n=80)
    assert [e["coherent"] for e in events] == [False, True]
    assert max(f["largest_step_rad"][2] for f in data) == pytest.approx(1.5, abs=1e-2)


def test_an_epoch_begins_anew():
    radio = Radio(n=1000)
    block = CoherenceCheck("check", n_snapshots=1000)
    for _ in range(4):
        block.feed("iq", radio.frame(noise=True))
    radio.retune(5e9)
    out = [f for _ in range(4) for _, f in block.feed("iq", radio.frame(noise=True))]
    assert [f.header.kind for f in out] == ["data"] * 3
    assert all(f.header.meta["coherent"] for f in out)
    assert block.stats()["coherent"]


def test_a_channel_that_hears_nothing_is_no_evidence():
    rng = np.random.default_rng(3)
    block = CoherenceCheck("check", n_snapshots=1000)
    out = []
    for seq in range(8):
        x = np.repeat(rng.standard_normal((1, 1000, 2)) @ [1, 1j], 3, axis=0)
        x[2] = rng.standard_normal((1000, 2)) @ [1, 1j]
        header = Header("radio.iq", seq, sample_start=1000 * seq, sample_rate_hz=1e6)
        out += block.feed("iq", Frame.of(header, iq=(x.astype(np.complex64), "sensor snapshot", "FS")))
    meta = out[-1][1].header.meta
    assert (meta["coherent"], meta["unheard"]) == (True, [2])


def test_frames_without_time_are_refused():
    block = CoherenceCheck("check", n_snapshots=4)
    with pytest.raises(EstimationError, match="neither sample_start and sample_rate_hz nor time_ns"):
        block.feed("iq", Frame.of(Header("r", 0), iq=(np.ones((2, 4), np.complex64), "sensor snapshot", "FS")))
