import numpy as np
import pytest

from blocks.calibration.array_calibration import ArrayCalibration
from blocks.calibration.follow_calibration import FollowCalibration
from hil.errors import CalibrationError, ParamError
from tests.blocks.calibration.radio import SOURCE_M, Radio

QUICK = {"n_measure": 2048, "settle_frames": 1}


def given(block, *frames):
    """Data frames and events that come out."""
    out = [f for frame in frames for _, f in block.feed("iq", frame)]
    return [f for f in out if f.header.kind == "data"], [f.header.meta for f in out if f.header.kind == "event"]


def error(frame, radio):
    """Largest difference of phase from ideal channels, up to one common phase, rad; and of gain, dB."""
    ideal = radio.clean(frame.header.sample_start, frame["iq"].shape[1])
    branch = (frame["iq"] * ideal.conj()).sum(-1) / (np.abs(ideal) ** 2).sum(-1)
    phase = np.angle(branch * np.exp(-1j * np.angle(branch.sum())))
    level = 20 * np.log10(np.abs(branch))
    return np.abs(phase).max(), np.abs(level - level.mean()).max()


def noise(radio, n=3):
    return [radio.frame(noise=True) for _ in range(n)]


def quiet(radio, n=1):
    return [radio.frame(noise=False) for _ in range(n)]


def test_held_until_the_noise_source_tells_then_right():
    radio = Radio(gain_db=[0, 1.5, -2, 0.4])
    block = FollowCalibration("cal", **QUICK)
    data, events = given(block, radio.descriptor(), *quiet(radio, 2))
    assert data == []
    assert [(e["result"], e["state"]) for e in events] == [("new epoch", "none")]
    data, events = given(block, *noise(radio))
    assert [(e["result"], e["state"]) for e in events] == [("redone", "valid")]
    assert [f.header.seq for f in data] == [0, 1], "what was held comes out first, under its own headers"
    data += given(block, *quiet(radio, 2))[0]
    assert [f.header.seq for f in data] == [0, 1, 5, 6]
    for frame in data:
        assert frame.header.calibration == "valid"
        assert frame.header.calibration_id.startswith("radio-1@5000MHz#")
        phase, level = error(frame, radio)
        assert phase < 2e-3
        assert level < 0.02
    assert error(radio.frame(), radio)[0] > 0.5, "without it they are far off"


@pytest.mark.parametrize(("while_stale", "came"), [("hold", 0), ("drop", 0), ("flag", 2)])
def test_a_new_epoch_makes_it_stale(while_stale, came):
    radio = Radio()
    block = FollowCalibration("cal", **QUICK, while_stale=while_stale)
    given(block, radio.descriptor(), *noise(radio), *quiet(radio))
    radio.retune(5e9)
    data, events = given(block, *quiet(radio, 2))
    assert [(e["result"], e["state"]) for e in events] == [("new epoch", "stale")]
    assert len(data) == came
    assert all(f.header.calibration == "stale" and f.header.calibration_id for f in data)
    data, _ = given(block, *noise(radio), *quiet(radio))
    assert {f.header.calibration for f in data} == {"valid"}
    assert error(data[-1], radio)[0] < 2e-3
    assert len(data) == (3 if while_stale == "hold" else 1)
    lost = data[0].header.lost
    assert (lost.frames, lost.samples) == ((2, 2048) if while_stale == "drop" else (0, 0))


def test_frames_held_when_the_next_epoch_begins_are_counted_as_lost():
    radio = Radio()
    block = FollowCalibration("cal", **QUICK, hold_frames=3)
    given(block, radio.descriptor(), *quiet(radio, 5))  # the two oldest find no room
    radio.retune(5e9)
    data, _ = given(block, *quiet(radio), *noise(radio))
    assert len(data) == 1
    assert data[0].header.lost.frames == 5
    assert block.stats()["dropped"] == 5


def test_the_same_phases_are_verified_and_the_stored_ones_kept(tmp_path):
    radio = Radio(phase=lambda rng, m: np.linspace(0, 2, m) + rng.normal(0, 0.01, m))
    block = FollowCalibration("cal", **QUICK, store=str(tmp_path))
    _, events = given(block, radio.descriptor(), *noise(radio))
    first = events[-1]["calibration_id"]
    radio.retune(5e9)
    _, events = given(block, *noise(radio))
    assert [(e["result"], e["state"]) for e in events] == [("new epoch", "stale"), ("verified", "valid")]
    assert events[-1]["calibration_id"] == first
    assert 0 < events[-1]["phase_rad"] < 0.1


@pytest.mark.parametrize(("ambiguity", "turn"), [("quarter", np.pi / 2), ("half", np.pi)])
def test_quarter_and_half_turns_are_put_right_in_what_was_stored(ambiguity, turn, tmp_path):
    def phase(rng, m):
        return np.linspace(0, 2, m) + turn * rng.integers(0, 4, m)

    radio = Radio(phase=phase, seed=3)
    block = FollowCalibration("cal", **QUICK, store=str(tmp_path), ambiguity=ambiguity)
    given(block, radio.descriptor(), *noise(radio))
    results = []
    for _ in range(4):
        radio.retune(5e9)
        data, events = given(block, *noise(radio), *quiet(radio))
        results.append(events[-1]["result"])
        assert error(data[0], radio)[0] < 5e-3
    assert set(results) <= {"stepped", "verified"}
    assert "stepped" in results


def test_each_frequency_has_its_own_and_a_restarted_receiver_finds_it(tmp_path):
    phases = {5e9: np.array([0.0, 1, 2, -1]), 5.1e9: np.array([0.0, -2, 0.3, 2.5])}
    radio = Radio(phase=lambda rng, m: phases[radio_frequency[0]])
    for frequency in phases:
        radio_frequency[0] = frequency
        radio.retune(frequency)
        block = FollowCalibration("cal", **QUICK, store=str(tmp_path))
        given(block, radio.descriptor(), *noise(radio))
    trusting = FollowCalibration("cal", store=str(tmp_path), trust="settings")
    for frequency in phases:
        radio_frequency[0] = frequency
        radio.retune(frequency)
        data, events = given(trusting, radio.descriptor(), *quiet(radio))
        assert [(e["result"], e["state"]) for e in events] == [("new epoch", "valid")]
        radio.device.set_params(frequency_hz=5e9)  # ideal channels are compared at the same carrier
        assert error(data[0], radio)[0] < 5e-3
    radio_frequency[0] = 5e9
    radio.retune(5.2e9)
    data, events = given(trusting, *quiet(radio))
    assert data == []
    assert "frequency_hz differs: it was made for 5000000000" in events[0]["why"]


radio_frequency = [5e9]


def test_a_known_source_calibrates_too_and_its_place_is_taken_out():
    radio = Radio(n_channels=8, gain_db=[0, 1, -1, 0, 0.5, 0, 0, -2])
    block = FollowCalibration("cal", **QUICK, measure="known_source", source_m=SOURCE_M)
    data, events = given(block, radio.descriptor(), *quiet(radio, 5))
    assert [e["result"] for e in events] == ["new epoch", "redone"]
    assert [f.header.seq for f in data] == [0, 1, 2, 3, 4]
    for frame in data:
        phase, level = error(frame, radio)
        assert phase < 5e-3
        assert level < 0.05


def test_boards_that_started_apart_come_out_together():
    late = [0, 0, 137, 137]
    radio = Radio(delay=late)
    block = FollowCalibration("cal", n_measure=4096, max_delay_samples=300)
    data, events = given(block, radio.descriptor(), *quiet(radio, 2), *noise(radio, 6), *quiet(radio, 3))
    assert events[-1]["result"] == "redone"
    assert sum(f["iq"].shape[1] for f in data) == 5 * 1024 - 2 * 137, "each stretch ends where the last board ends"
    for frame in data:
        assert error(frame, radio)[0] < 5e-3
        assert frame.header.time_ns == frame.header.sample_start * 1000
        ideal = radio.clean(frame.header.sample_start, frame["iq"].shape[1])
        coherent = np.abs((frame["iq"] * ideal.conj()).sum(-1)) / np.sqrt(
            (np.abs(frame["iq"]) ** 2).sum(-1) * (np.abs(ideal) ** 2).sum(-1)
        )
        assert coherent.min() > 0.99
    assert data[2].header.lost.samples == 137, "what had no partner is counted"


def test_antennas_before_the_noise_source_are_taken_out_as_well(tmp_path):
    radio = Radio()
    cables = np.array([0.0, 0.7, -0.3, 0.1])
    clean = radio.clean
    radio.clean = lambda tick, n: clean(tick, n) * np.exp(1j * cables)[:, None]
    ArrayCalibration(calibration_id="antennas", offset_rad=cables, gain_db=np.zeros(4)).save(tmp_path / "a.npz")
    block = FollowCalibration("cal", **QUICK, antennas=str(tmp_path / "a.npz"))
    data, _ = given(block, radio.descriptor(), *noise(radio), *quiet(radio))
    radio.clean = clean
    assert error(data[0], radio)[0] < 5e-3
    ArrayCalibration(calibration_id="other", offset_rad=np.zeros(5), gain_db=np.zeros(5)).save(tmp_path / "a.npz")
    block = FollowCalibration("cal", **QUICK, antennas=str(tmp_path / "a.npz"))
    with pytest.raises(CalibrationError, match="n_sensors differs: it was made for 5, the data have 4"):
        given(block, radio.descriptor(), *noise(radio))


def test_what_tells_nothing_is_refused_and_said():
    radio = Radio()
    radio._noise = lambda tick: np.random.default_rng().standard_normal((radio.n, 2)) @ [0.1, 0.1j]  # not common
    block = FollowCalibration("cal", **QUICK)
    data, events = given(block, radio.descriptor(), *quiet(radio), *noise(radio, 4))
    assert data == []
    assert events[-1]["result"] == "refused"
    assert "the common signal is too weak there" in events[-1]["why"]
    assert block.stats()["refused"] == len([e for e in events if e["result"] == "refused"])


def test_a_gap_begins_the_measurement_anew():
    radio = Radio()
    block = FollowCalibration("cal", **QUICK)
    given(block, radio.descriptor(), *noise(radio, 2))
    radio.tick += 5000
    _, events = given(block, *noise(radio, 1))
    assert events == []
    _, events = given(block, *noise(radio, 1))
    assert events[-1]["result"] == "redone"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"measure": "known_source"}, "give source_m"),
        ({"source_m": [1.0, 2.0, 0.0]}, "give source_m"),
        ({"max_delay_samples": 2000, "n_measure": 4096}, "n_measure must be at least 4 max_delay_samples = 8000"),
        (
            {"measure": "known_source", "source_m": [1.0, 2.0, 0.0], "noise_source": {"verb": "radio.noise"}},
            "a noise source is of no use",
        ),
    ],
)
def test_refuses_parameters_that_contradict(params, message):
    with pytest.raises(ParamError, match=message):
        FollowCalibration("cal", **params)
