"""Whether channels keep their phases relative to one another: what is first asked of an array of several devices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hil.errors import EstimationError, ParamError

F64 = npt.NDArray[np.float64]


class RelativePhase(NamedTuple):
    """Of each channel against the reference, ``[sensor]``.

    Attributes:
        phase_rad: 0 at the reference.
        coherence: Magnitude of the correlation coefficient, 0..1.
    """

    phase_rad: F64
    coherence: F64


class PhaseStability(NamedTuple):
    """How relative phases move, ``[sensor]``.

    Attributes:
        deviation_rad: Root mean square about the mean.
        drift_rad_per_s: Slope of the straight line through them.
        largest_step_rad: From one time to the next.
    """

    deviation_rad: F64
    drift_rad_per_s: F64
    largest_step_rad: F64


def relative_phase(samples: npt.NDArray[np.complexfloating], reference: int = 0) -> RelativePhase:
    """Phases of channels against one of them at lag zero, from any signal that all of them hear.

    With several sources the phase is that of their sum; it stands still as long as they do. The standard deviation of
    a phase is ``sqrt((1 - c^2) / (2 n c^2))`` for a coherence ``c`` and ``n`` independent snapshots.

    Args:
        samples: ``[sensor, snapshot]``.
        reference: Which one.

    Raises:
        EstimationError: A channel is silent.
    """
    x = np.asarray(samples, np.complex128)
    energy = (np.abs(x) ** 2).sum(-1)
    if not energy.min(initial=np.inf) > 0:
        raise EstimationError(f"relative_phase: channel {int(np.argmin(energy))} is silent: it is dead, or not on")
    cross = x @ x[reference].conj()
    return RelativePhase(np.angle(cross), np.abs(cross) / np.sqrt(energy * energy[reference]))


def phase_stability(phase_rad: F64, time_s: F64) -> PhaseStability:
    """How phases move over time; they are unwrapped from each time to the next.

    Args:
        phase_rad: ``[time, sensor]``.
        time_s: ``[time]``, rising.

    Raises:
        ParamError: Fewer than two times, or shapes that differ.
    """
    if len(time_s) < 2 or phase_rad.ndim != 2 or len(phase_rad) != len(time_s):
        raise ParamError(
            f"phase_stability: expected phase_rad [time, sensor] at two times or more, got {list(phase_rad.shape)} "
            f"and {len(time_s)} times"
        )
    phase = np.unwrap(phase_rad, axis=0)
    since = time_s - time_s.mean()
    return PhaseStability(
        phase.std(axis=0), since @ phase / (since @ since), np.abs(np.diff(phase, axis=0)).max(axis=0)
    )
