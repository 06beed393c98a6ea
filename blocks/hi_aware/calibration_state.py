r"""Fault map and calibration of an array that live on between frames, and what one frame changes in them.

An element's state is the evidence since its last change, ``q = sum m^H z`` and ``h = sum |m|^2`` in units of the noise:
its coefficient is ``q / h`` and the variance of its phase ``1 / 2h``, averaged over time as Phase 2 of [HI] does. A
change too small for one frame shows in the last few: their evidence is summed beside it, with weights that fall by
``1 - 1 / WINDOW_FRAMES`` a frame, and tested too. Where phases drift ([HI] footnote 1) the sums are forgotten as a
scalar Kalman filter of a random walk does: with step ``d`` rad a frame the variance ``P`` of the phase becomes
``P + d^2`` before each frame.
"""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from blocks.hi_aware.fault_test import fault_test_of_sums
from blocks.hi_aware.joint_fit import I8, Kind
from blocks.hi_aware.scene import C128, F64

Bool = npt.NDArray[np.bool_]

#: Prior probability that an element changes in one frame: about four deviations are needed.
CHANGE_PROBABILITY = 1e-4
#: An element becomes faulty, or intact again without a sudden change, when the odds pass this.
HYSTERESIS = 2.0
#: Of the sum of the last frames; its evidence is that of ``2 WINDOW_FRAMES - 1`` frames.
WINDOW_FRAMES = 8
#: Prior probability that the last frames together show a change: they are tested at every frame.
SLOW_CHANGE_PROBABILITY = 1e-5
#: Of an element whose change was seen it is only asked what it is now.
AFTER_CHANGE_PROBABILITY = 0.3


class CalibrationState(NamedTuple):
    """State of all elements.

    Attributes:
        cross: ``q / sigma^2`` since the last change, ``[sensor]``.
        power: ``h / sigma^2`` since the last change, ``[sensor]``.
        kind: :class:`~blocks.hi_aware.joint_fit.Kind`, ``[sensor]``.
        age: Frames since the last change, ``[sensor]``.
        recent_cross: Weighted sum of ``q / sigma^2`` over the last frames, ``[sensor]``.
        recent_power: Likewise of ``h / sigma^2``, ``[sensor]``.
        scatter: Variance of the coefficients of intact elements about 1; of a calibrated array 0.
    """

    cross: C128
    power: F64
    kind: I8
    age: npt.NDArray[np.int64]
    recent_cross: C128
    recent_power: F64
    scatter: float = 0.0

    @classmethod
    def start(cls, cross: C128, power: F64, kind: I8, scatter: float = 0.0) -> Self:
        """From the first frame."""
        return cls(cross, power, kind, np.ones(len(kind), np.int64), cross, power, scatter)

    @property
    def coefficient(self) -> C128:
        """``c [sensor]``: 1 where intact."""
        return coefficient_of(self.cross, self.power, self.kind)

    @property
    def phase_variance_rad2(self) -> F64:
        """Of the phase of each element, ``[sensor]``; of one without signal 2 pi squared over 12, anything."""
        return np.minimum(0.5 / np.maximum(self.power, 1e-300), (2 * np.pi) ** 2 / 12)

    def drifted(self, drift_rad: float) -> Self:
        """One frame later: evidence on phases that walk by ``drift_rad`` a frame."""
        kept = 1 / (1 + 2 * drift_rad**2 * self.power)
        return self._replace(cross=self.cross * kept, power=self.power * kept)


def coefficient_of(cross: C128, power: F64, kind: I8) -> C128:
    """``[sensor]``: a phase of modulus 1, a complex ratio, or 1, by kind."""
    ratio = cross / np.maximum(power, 1e-300)
    return np.select([kind == Kind.PHASE, kind == Kind.COMPLEX], [np.exp(1j * np.angle(cross)), ratio], 1.0 + 0j)


def changed_elements(
    state: CalibrationState, cross: C128, power: F64, change_probability: float = CHANGE_PROBABILITY
) -> Bool:
    """Which elements this frame's evidence ``cross, power [sensor]`` says to differ from their state.

    The test is that of :func:`~blocks.hi_aware.fault_test.fault_test_of_sums` for a frame seen through the coefficients
    known so far; what those are unsure of counts as noise.
    """
    c = state.coefficient
    seen = np.abs(c) ** 2 * power
    unsure = 1 + power * np.where(state.kind == Kind.INTACT, state.scatter, 1 / np.maximum(state.power, 1e-300))
    told = fault_test_of_sums(c.conj() * cross / unsure, seen / unsure, 1.0, change_probability).kind != Kind.INTACT
    # a dead element passes nothing that could be compared: it lives when it has power
    alive = np.abs(cross - c * power) ** 2 / np.maximum(power * unsure, 1e-300) > -np.log(change_probability / 10)
    return np.where(seen < 0.05 * power, alive, told)


def update(state: CalibrationState, cross: C128, power: F64, changed: Bool, drift_rad: float = 0.0) -> CalibrationState:
    """State after a frame: evidence added, begun anew where it changed, and each element judged again.

    Args:
        state: Before.
        cross: ``m^H z / sigma^2`` of this frame, ``[sensor]``.
        power: ``|m|^2 / sigma^2`` of this frame, ``[sensor]``.
        changed: From :func:`changed_elements`, ``[sensor]``.
        drift_rad: Standard deviation of the phases' random walk, a frame.
    """
    before = state.drifted(drift_rad) if drift_rad else state
    recent_cross, recent_power = _recent(state, cross, power, changed)
    if not drift_rad:  # else the state follows by forgetting
        changed = changed | _changed_slowly(before, recent_cross, recent_power)
    new_cross = np.where(changed, cross, before.cross + cross)
    new_power = np.where(changed, power, before.power + power)
    share = max(int(np.count_nonzero(state.kind)), 1) / len(cross)
    told = 1 / (1 + state.scatter * new_power)  # however long: intact elements are within their scatter
    q, h = np.multiply(new_cross, told), new_power * told
    now = fault_test_of_sums(q, h, 1.0, min(share, 0.5))
    lately = fault_test_of_sums(q, h, 1.0, AFTER_CHANGE_PROBABILITY)
    was_faulty = state.kind != Kind.INTACT
    faulty = np.where(was_faulty, now.log_odds > -HYSTERESIS, now.log_odds > HYSTERESIS)
    faulty = np.where(changed, lately.kind != Kind.INTACT, faulty)
    # between the two faults: what the evidence says, also inside the hysteresis
    which = fault_test_of_sums(new_cross, new_power, 1.0, 1 - 1e-12).kind
    kind = np.where(faulty, which, Kind.INTACT).astype(np.int8)
    age = np.where(changed, 1, state.age + 1)
    return CalibrationState(new_cross, new_power, kind, age, recent_cross, recent_power, state.scatter)


def _recent(state: CalibrationState, cross: C128, power: F64, changed: Bool) -> tuple[C128, F64]:
    kept = np.where(changed, 0.0, 1 - 1 / WINDOW_FRAMES)
    return kept * state.recent_cross + cross, kept * state.recent_power + power


def _changed_slowly(state: CalibrationState, recent_cross: C128, recent_power: F64) -> Bool:
    """Which elements the last frames together say to differ from a state that is much older, or to be intact again.

    That a faulty element is intact is one hypothesis against one; that it is anything else has to pay for its freedom.
    """
    # white evidence summed with weights w has the variance of sum w / sum w^2 times the sum
    scale = 2 - 1 / WINDOW_FRAMES
    q, h = scale * recent_cross, scale * np.maximum(recent_power, 1e-300)
    unsure = 1 + h / np.maximum(state.power, 1e-300)
    as_before = np.abs(q - state.coefficient * h) ** 2 / (h * unsure)
    healed = as_before - np.abs(q - h) ** 2 / (h * (1 + state.scatter * h)) > -np.log(CHANGE_PROBABILITY)
    told = changed_elements(state, q, h, SLOW_CHANGE_PROBABILITY) | (healed & (state.kind != Kind.INTACT))
    return told & (state.age > 2 * WINDOW_FRAMES)
