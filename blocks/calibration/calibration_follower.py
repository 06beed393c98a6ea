"""Whether a calibration holds, epoch by epoch: stale until it is verified, corrected by whole steps, or made anew."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from blocks.calibration.array_calibration import ArrayCalibration
from blocks.calibration.calibration_store import CalibrationStore
from blocks.calibration.channel_alignment import ChannelAlignment
from blocks.calibration.device_settings import DeviceSettings
from blocks.calibration.phase_ambiguity import phase_steps
from hil.errors import CalibrationError
from hil.frame import CalibrationState

F64 = npt.NDArray[np.float64]

Result = Literal["verified", "stepped", "redone"]


class Tolerance(NamedTuple):
    """How far a measurement may lie from what was stored for that to hold."""

    phase_rad: float = 0.1
    delay_samples: float = 0.05
    gain_db: float = 1.0
    frequency_hz: float = 0.0


class Verdict(NamedTuple):
    """What a measurement said of the stored calibration.

    Attributes:
        result: It holds; it does but for quarter or half turns, which were put right; or a new one was made.
        phase_rad: Largest difference in phase, steps taken out; not a number where there was nothing to compare with.
        delay_samples: Largest difference in delay.
        gain_db: Largest difference in gain.
        steps: Of each sensor, ``2 pi / n_states`` each; empty where a new one was made.
    """

    result: Result
    phase_rad: float
    delay_samples: float
    gain_db: float
    steps: tuple[int, ...]


class CalibrationFollower:
    """Keeps the calibration of one device.

    Args:
        store: Where calibrations are kept; ``None``: in memory, for as long as this lives.
        n_states: 4 where phases may come up quarter turns apart, 2 half turns, 1 neither.
        reference: Sensor that phases and delays are relative to.
        tolerance: Of a verification.
        trust_settings: A stored calibration of the same settings is valid at once: for devices whose phases survive a
            retune and a restart. Else it is stale until verified.

    Attributes:
        calibration: The one in use; ``None``: there is none for these settings.
        state: Of it.
    """

    def __init__(
        self,
        store: CalibrationStore | None,
        *,
        n_states: int = 1,
        reference: int = 0,
        tolerance: Tolerance | None = None,
        trust_settings: bool = False,
    ) -> None:
        self._store, self._n_states, self._reference = store, n_states, reference
        self._tolerance = tolerance or Tolerance()
        self._trust_settings = trust_settings
        self.settings = DeviceSettings()
        self.calibration: ArrayCalibration | None = None
        self.state: CalibrationState = "none"
        self.why = "nothing was measured yet"

    def new_epoch(self, settings: DeviceSettings) -> None:
        """The device was retuned, restarted, reconnected ...: find what there is for it. It is stale, or trusted."""
        self.settings = settings
        if self._store is not None:
            try:
                self.calibration = self._store.find(settings)
            except CalibrationError as error:
                self.calibration, self.why = None, str(error)
        elif self.calibration is not None and not self.calibration.applies_to(**settings._asdict()):
            self.calibration, self.why = None, "the one in memory was made for other settings"
        if self.calibration is None:
            self.state = "none"
        elif self._trust_settings:
            self.state = "valid"
        else:
            self.state, self.why = "stale", "a new epoch began, and nothing was measured in it yet"

    def measured(self, found: ChannelAlignment, sample_rate_hz: float | None, made_ns: int | None) -> Verdict:
        """Compare a measurement with what was stored; verify, correct or replace that. It is valid then.

        Args:
            found: Delay, phase and gain of each sensor's branch alone: what the source's place does is taken out.
            sample_rate_hz: Needed only where there are delays.
            made_ns: UTC.

        Raises:
            CalibrationError: Delays at a sample rate that is not known, or a store that cannot be written.
        """
        delay_s = self._seconds(found.delay_samples, sample_rate_hz)
        verdict = self._compared(found, sample_rate_hz)
        if self.calibration is None or verdict.result == "redone":
            offset, gain_db = found.phase_rad, found.gain_db
        elif verdict.result == "stepped":
            turn = 2 * np.pi / self._n_states * np.array(verdict.steps)
            offset, gain_db = np.angle(np.exp(1j * (self.calibration.offset_rad + turn))), self.calibration.gain_db
            delay_s = self.calibration.delay_s
        else:
            self.state = "valid"
            return verdict
        s = self.settings
        made = ArrayCalibration(
            calibration_id="",
            offset_rad=offset,
            gain_db=gain_db,
            delay_s=delay_s,
            device=s.device,
            channel_map=s.channel_map,
            frequency_hz=s.frequency_hz,
            frequency_tolerance_hz=self._tolerance.frequency_hz,
            receiver_gain_db=s.receiver_gain_db,
            temperature_c=s.temperature_c,
            made_ns=made_ns,
        )
        made = replace(made, calibration_id=_name(made))
        if self._store is not None:
            self._store.put(made)
        self.calibration, self.state = made, "valid"
        return verdict

    def _compared(self, found: ChannelAlignment, sample_rate_hz: float | None) -> Verdict:
        stored = self.calibration
        if stored is None or stored.n_sensors != len(found.phase_rad):
            return Verdict("redone", float("nan"), float("nan"), float("nan"), ())
        steps = phase_steps(found.phase_rad, stored.offset_rad, self._n_states, self._reference)
        late = found.delay_samples - stored.delay_s * (sample_rate_hz or 1.0)
        late = late - late[self._reference]
        louder = found.gain_db - stored.gain_db
        phase, delay, gain = (float(np.abs(a).max()) for a in (steps.residual_rad, late, louder - np.median(louder)))
        t = self._tolerance
        if phase > t.phase_rad or delay > t.delay_samples or gain > t.gain_db:
            return Verdict("redone", phase, delay, gain, ())
        return Verdict("stepped" if steps.steps.any() else "verified", phase, delay, gain, tuple(steps.steps.tolist()))

    def _seconds(self, delay_samples: F64, sample_rate_hz: float | None) -> F64:
        if sample_rate_hz is not None:
            return delay_samples / sample_rate_hz
        if np.any(delay_samples):
            raise CalibrationError(
                "delays were measured in samples, and the frames do not say their sample rate: let the source say it"
            )
        return delay_samples


def _name(made: ArrayCalibration) -> str:
    """Who, at which frequency, and a hash of what was found."""
    content = b"".join(a.tobytes() for a in (made.offset_rad, made.gain_db, made.delay_s))
    frequency = "" if made.frequency_hz is None else f"@{made.frequency_hz / 1e6:g}MHz"
    return f"{made.device or 'array'}{frequency}#{hashlib.sha256(content).hexdigest()[:8]}"
