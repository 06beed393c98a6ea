"""The coherence test on channels of which it is known, and the command as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blocks.front_end.to_complex import ToComplex
from hil.doctor.self_test import C64, N_FRAMES, check_coherence, compare_channels
from hil.errors import DriverError
from hil.frame import Frame, Header, Loss
from hil.source import Reading, Source
from hil.streams import RAW_IQ, port_of
from tests.hil.cli.running import hil

RNG = np.random.default_rng(7)


def common_signal(phases_rad: list[float], snr_db: float, n: int = 4000) -> C64:
    """One signal on all channels, with independent noise."""
    signal = RNG.standard_normal((1, 2 * n)).view(np.complex128)
    noise = RNG.standard_normal((len(phases_rad), 2 * n)).view(np.complex128) * 10 ** (-snr_db / 20)
    x: C64 = (np.exp(1j * np.array(phases_rad))[:, None] * signal + noise).astype(np.complex64)
    return x


def test_coherence_of_a_common_signal_is_that_of_its_snr() -> None:
    for snr_db in (0.0, 10.0, 20.0):
        coherence, deviation_rad, silent = compare_channels([common_signal([0, 1, -2], snr_db) for _ in range(5)])
        snr = 10 ** (snr_db / 10)
        assert coherence == pytest.approx(snr / (1 + snr), abs=0.03)
        # the phase of a correlation over n snapshots deviates by sqrt((1 - c^2) / (2 n c^2))
        assert deviation_rad < 4 * np.sqrt((1 - coherence**2) / (2 * 4000 * coherence**2))
        assert silent == []


def test_phases_that_move_are_seen() -> None:
    moving = [common_signal([0, 0.2 * i], 40) for i in range(10)]
    coherence, deviation_rad, _ = compare_channels(moving)
    assert coherence > 0.99
    assert deviation_rad == pytest.approx(0.2 * np.std(np.arange(10)), rel=0.02)


def test_around_half_a_turn_phases_stand_still() -> None:
    still = [common_signal([0, np.pi + 0.001 * (-1) ** i], 60) for i in range(10)]
    assert compare_channels(still)[1] < 0.01


def test_silent_channels_are_named() -> None:
    x = common_signal([0, 0, 0], 20)
    x[1] = 0
    assert compare_channels([x])[2] == [1]


class Fake(Source):
    """Frames made up here, or an error."""

    outputs = {"iq": port_of(RAW_IQ)}
    samples: list[C64] = []
    lost = Loss()
    error: DriverError | None = None
    closed = False

    def open(self) -> None:
        if self.error is not None:
            raise self.error
        self._n = 0

    def read(self, timeout_s: float) -> Reading:
        if self._n == len(self.samples):
            return None
        x = self.samples[self._n]
        raw = (np.stack([x.real, x.imag], axis=-1) * 1000).astype(np.int16)
        header = Header(stream="fake.iq", seq=self._n, lost=self.lost if self._n else Loss())
        self._n += 1
        frame = Frame.of(header, iq=(raw, "sensor snapshot component", "count"))
        return [("iq", frame)]

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("phases", "snr_db", "lost", "state", "words"),
    [
        (0.0, 30.0, 0, "ok", "coherence 0.99"),
        (0.5, 30.0, 0, "warn", "phases stand still within"),
        (0.0, 0.0, 0, "warn", "coherence 0.4"),
        (0.0, 30.0, 7, "warn", "lost"),
    ],
)
def test_findings(phases: float, snr_db: float, lost: int, state: str, words: str) -> None:
    source = Fake("fake")
    source.samples = [common_signal([0, phases * i], snr_db) for i in range(N_FRAMES)]
    source.lost = Loss(samples=lost)
    finding = check_coherence(source, ToComplex("to_complex", full_scale=1000.0))
    assert finding.state == state and words in finding.says and source.closed
    assert bool(finding.remedy) == (state != "ok")


def test_a_device_that_cannot_be_opened_fails_with_its_own_words() -> None:
    source = Fake("fake")
    source.error = DriverError("Iio 'fake': cannot open ip:x: no such host; correct `uri`")
    finding = check_coherence(source, ToComplex("to_complex", full_scale=1000.0))
    assert finding.state == "fail" and "cannot open ip:x" in finding.says and source.closed
    source = Fake("fake")  # ends before it has given anything
    assert check_coherence(source, ToComplex("to_complex", full_scale=1000.0)).state == "fail"


def test_the_command_without_its_tests() -> None:
    result = hil("doctor", "--no-tests", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code == 1) == (told["state"] == "fail")
    groups = {finding["group"] for finding in told["findings"]}
    assert groups == {"packages", "devices", "permissions", "host"}
    words = hil("doctor", "--no-tests").stdout
    assert "to know of" in words and "Python" in words


@pytest.mark.slow
def test_the_command_with_its_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    told = json.loads(hil("doctor", "--json").stdout)
    tests = [finding for finding in told["findings"] if finding["group"] == "test"]
    assert [finding["what"] for finding in tests] == ["coherence of the simulated array", "receiver near_field_music"]
    assert tests[0]["state"] == "ok" and "8 channels" in tests[0]["says"], tests
    assert tests[1]["state"] in ("ok", "warn"), tests  # a busy host may drop frames


def test_a_device_that_is_not_there() -> None:
    result = hil("doctor", "--uri", "heimdall://127.0.0.1:1", "--json")
    assert result.exit_code == 1
    (test,) = [f for f in json.loads(result.stdout)["findings"] if f["group"] == "test"]
    assert test["state"] == "fail" and "127.0.0.1:1" in test["says"]
