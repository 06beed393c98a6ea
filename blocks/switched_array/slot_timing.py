"""When a switched receiver listens to which element."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hil.errors import ParamError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SlotTiming:
    """Timing of a receiver that is switched over the elements of an array, one slot each.

    Slot ``s`` starts at ``s * slot_period_s`` and listens to element ``element_order[s % len(element_order)]``.

    Attributes:
        slot_period_s: From the start of one slot to the start of the next.
        sample_period_s: From one sample to the next inside a slot.
        element_order: Elements in the order in which they are switched on; the order repeats.
        first_slot: First slot that is used: what comes before is transient.
        last_slot: Last slot that is used.
        sample_weight: Weight of each sample of a slot. A sample that is taken while the switch already moves gets 0.
        tone_hz: Frequency of the tone above the carrier, as sent.
    """

    slot_period_s: float
    sample_period_s: float
    element_order: tuple[int, ...]
    first_slot: int
    last_slot: int
    sample_weight: tuple[float, ...]
    tone_hz: float

    def __post_init__(self) -> None:
        if not (self.slot_period_s > 0 and self.sample_period_s > 0):
            raise ParamError(
                f"SlotTiming: periods must be above 0, got {self.slot_period_s} s a slot, "
                f"{self.sample_period_s} s a sample"
            )
        if self.first_slot < 0 or self.last_slot < self.first_slot:
            raise ParamError(
                f"SlotTiming: expected 0 <= first_slot <= last_slot, got {self.first_slot} and {self.last_slot}"
            )
        if len(self.element_order) == 0 or min(self.element_order) < 0:
            raise ParamError(f"SlotTiming.element_order: expected elements from 0 up, got {self.element_order}")
        if len(self.sample_weight) == 0 or min(self.sample_weight) < 0 or max(self.sample_weight) == 0:
            raise ParamError(f"SlotTiming.sample_weight: expected weights >= 0, not all 0, got {self.sample_weight}")
        missing = set(range(self.n_elements)) - set(self.element_of_slot.tolist())
        if missing:
            raise ParamError(f"SlotTiming: no slot from {self.first_slot} to {self.last_slot} uses {sorted(missing)}")

    @property
    def n_elements(self) -> int:
        return max(self.element_order) + 1

    @property
    def slots(self) -> I64:
        """Numbers of the slots that are used, ``[slot]``."""
        return np.arange(self.first_slot, self.last_slot + 1)

    @property
    def element_of_slot(self) -> I64:
        """Element that each used slot listens to, ``[slot]``."""
        return np.array(self.element_order)[self.slots % len(self.element_order)]

    @property
    def tone_per_slot_rad(self) -> float:
        """Phase by which the tone as sent moves on from slot to slot, within -pi .. pi."""
        cycles = self.tone_hz * self.slot_period_s
        return 2 * np.pi * (cycles - round(cycles))

    @property
    def tone_per_sample_rad(self) -> float:
        """Phase by which the tone as sent moves on from sample to sample."""
        return 2 * np.pi * self.tone_hz * self.sample_period_s

    def offset_hz(self, offset_rad: npt.ArrayLike) -> F64:
        """Carrier offset in Hz of an offset in radians a slot."""
        return np.asarray(offset_rad, dtype=np.float64) / (2 * np.pi * self.slot_period_s)


def ble_cte_timing() -> SlotTiming:
    """A constant-tone extension as the nRF52811 with an 8-way switch records it: 37 slots of 3 samples, 4 us apart.

    Slots 0..2 and 32..36 are transients and the end of the extension. The third sample of a slot is not used: its
    phase is drawn towards that of the next element (docs/ble-uca8.md), the switch is already moving.
    """
    return SlotTiming(
        slot_period_s=4e-6,
        sample_period_s=0.5e-6,
        element_order=tuple(range(8)),
        first_slot=3,
        last_slot=31,
        sample_weight=(1.0, 1.0, 0.0),
        tone_hz=250e3,
    )
