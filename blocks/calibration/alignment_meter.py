"""Collects what a calibration is measured from, frame by frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blocks.calibration.channel_alignment import ChannelAlignment, measure_alignment
from blocks.calibration.known_source import ExpectedResponse
from hil.errors import EstimationError

C64 = npt.NDArray[np.complex64]


class AlignmentMeter:
    """Takes frames of a common signal until there are enough of them in one stretch.

    Args:
        n_snapshots: How many are enough.
        settle_frames: Frames that are passed over first: in the first one the noise source came on half-way.
        reference: Sensor that the others are compared with.
        max_delay_samples: 0: the channels share one clock.
        least_coherence: With the reference; below it something else was heard.
    """

    def __init__(
        self, n_snapshots: int, settle_frames: int, reference: int, max_delay_samples: int, least_coherence: float
    ) -> None:
        self._n_snapshots, self._settle_frames = n_snapshots, settle_frames
        self._reference, self._max_delay_samples = reference, max_delay_samples
        self._least_coherence = least_coherence
        self.begin()

    def begin(self) -> None:
        """A new measurement."""
        self._n_passed = 0
        self.cut()

    def cut(self) -> None:
        """Samples are missing here: what was collected is of no use for delays."""
        self._taken: list[C64] = []
        self._n_taken = 0

    def add(self, iq: C64) -> bool:
        """Take a frame ``[sensor, snapshot]``; true: there are enough."""
        if self._n_passed < self._settle_frames:
            self._n_passed += 1
            return False
        if self._n_taken < self._n_snapshots:
            self._taken.append(iq.copy())
            self._n_taken += iq.shape[1]
        return self._n_taken >= self._n_snapshots

    def measure(self, expected: ExpectedResponse | None, sample_rate_hz: float | None) -> ChannelAlignment:
        """What the branches do to the signal: the source's place, where it has one, is taken out.

        Raises:
            EstimationError: The signal tells too little; says what to do. What was collected is gone.
        """
        samples = np.concatenate(self._taken, axis=1)[:, : self._n_snapshots]
        self.cut()
        ref = self._reference
        found = measure_alignment(samples, reference=ref, max_delay_samples=self._max_delay_samples)
        weakest = int(found.coherence.argmin())
        if found.coherence[weakest] < self._least_coherence:
            raise EstimationError(
                f"channel {weakest} has a coherence of {found.coherence[weakest]:.2f} with channel {ref}, less than "
                f"{self._least_coherence}: the common signal is too weak there, or others are as strong"
            )
        if expected is None:
            return found
        phase = found.phase_rad - (expected.phase_rad - expected.phase_rad[ref])
        gain = found.gain_db - (expected.gain_db - expected.gain_db.mean())
        delay = found.delay_samples
        if self._max_delay_samples and sample_rate_hz is not None:
            delay = delay - (expected.delay_s - expected.delay_s[ref]) * sample_rate_hz
        return found._replace(phase_rad=np.angle(np.exp(1j * phase)), gain_db=gain, delay_samples=delay)
