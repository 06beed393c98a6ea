import numpy as np
import pytest

from blocks.calibration.apply_calibration import ApplyCalibration
from blocks.calibration.array_calibration import ArrayCalibration
from blocks.calibration.gain_phase import correction, estimate_gain_phase
from hil.errors import CalibrationError, EstimationError, ParamError
from hil.frame import Frame, Header
from tests.jig import check_block


def covariances(branch, n_emitters=3, noise=0.05, seed=1):
    rng = np.random.default_rng(seed)
    steering = np.exp(1j * rng.uniform(-np.pi, np.pi, (n_emitters, len(branch))))
    out = []
    for a in steering:
        s = rng.standard_normal(400) + 1j * rng.standard_normal(400)
        w = noise * (rng.standard_normal((len(branch), 400)) + 1j * rng.standard_normal((len(branch), 400)))
        x = np.outer(branch * a, s) + w
        out.append(x @ x.conj().T / 400)
    return np.array(out), steering


def test_finds_gains_and_phases_up_to_a_common_one():
    gain_db, phase = np.array([1.0, -2.0, 0.5, 0.5]), np.array([0.4, -0.3, 0.1, -0.2])
    branch = 10 ** (gain_db / 20) * np.exp(1j * (phase + 0.7))
    got_db, got = estimate_gain_phase(*covariances(branch))
    np.testing.assert_allclose(got_db, gain_db - gain_db.mean(), atol=0.1)
    np.testing.assert_allclose(got, phase - phase.mean(), atol=0.01)


def test_refuses_noise_dead_branches_and_wrong_shapes():
    with pytest.raises(EstimationError, match="no emitter stands above the noise"):
        estimate_gain_phase(np.eye(4)[None].astype(complex), np.ones((1, 4), complex))
    with pytest.raises(EstimationError, match="branch 2 hears nothing"):
        estimate_gain_phase(*covariances(np.array([1, 1, 0, 1j]), noise=1e-5))
    with pytest.raises(ParamError, match=r"got \[1, 4, 4\] and \[2, 4\]"):
        estimate_gain_phase(np.eye(4)[None].astype(complex), np.ones((2, 4), complex))


@pytest.fixture
def path(tmp_path):
    ArrayCalibration(
        calibration_id="c1", offset_rad=np.array([0.5, -0.5]), gain_db=np.array([6.0, 0.0]), frequency_hz=1e9
    ).save(tmp_path / "c.npz")
    return str(tmp_path / "c.npz")


def test_block_takes_gain_and_phase_out(path):
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((2, 30)) + 1j * rng.standard_normal((2, 30))).astype(np.complex64)
    expected = np.stack([x[0] / 10**0.3 * np.exp(-0.5j), x[1] * np.exp(0.5j)])
    check_block(lambda: ApplyCalibration("cal", path=path), x, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(correction(np.array([20.0]), np.array([np.pi])), [-0.1])


def test_a_retune_makes_it_stale_and_the_header_says_so(path):
    block = ApplyCalibration("cal", path=path)

    def state(epoch, frequency_hz):
        header = Header("iq", 0, epoch=epoch, frequency_hz=frequency_hz)
        frame = Frame.of(header, iq=(np.ones((2, 4), np.complex64), "sensor snapshot", "FS"))
        out = block.feed("iq", frame)[0][1].header
        assert out.calibration_id == "c1"
        return out.calibration

    assert [state(0, 1e9), state(1, 1.1e9), state(2, 1e9)] == ["valid", "stale", "valid"]


def test_refuses_where_asked(path):
    block = ApplyCalibration("cal", path=path, on_mismatch="refuse")
    frame = Frame.of(Header("iq", 0, frequency_hz=2e9), iq=(np.ones((2, 4), np.complex64), "sensor snapshot", "FS"))
    with pytest.raises(CalibrationError, match="frequency_hz differs"):
        block.feed("iq", frame)
