import cmath
import math
import random

import numpy as np
import pytest

from blocks.switched_array.slot_snapshots import element_samples, slot_snapshots
from blocks.switched_array.slot_timing import SlotTiming, ble_cte_timing
from hil.errors import EstimationError, ParamError
from tests.blocks.switched_array.simulate import packet

PLAIN = {
    "slot_period_s": 4e-6,
    "sample_period_s": 0.5e-6,
    "element_order": (0, 1, 2),
    "first_slot": 0,
    "last_slot": 5,
    "sample_weight": (1.0, 1.0),
    "tone_hz": 250e3,
}


def test_snapshots_match_a_loop():
    timing = ble_cte_timing()
    phase = packet(0.4, 0.3, random.Random(1))
    got = slot_snapshots(phase, timing)
    for i, slot in enumerate(range(3, 32)):
        mean = sum(cmath.exp(1j * (phase[slot][k] - k * math.pi / 4)) for k in (0, 1)) / 2
        assert cmath.isclose(got[i], mean, abs_tol=1e-12)  # a slot is one period of the tone: nothing left to take out


def test_a_tone_that_is_no_whole_number_of_periods_a_slot_is_taken_out():
    timing = SlotTiming(**{**PLAIN, "tone_hz": 300e3})
    phase = [[2 * math.pi * 300e3 * (s * 4e-6 + k * 0.5e-6) for k in range(2)] for s in range(6)]
    np.testing.assert_allclose(slot_snapshots(phase, timing), np.ones(6), atol=1e-9)


def test_element_samples_average_the_slots_of_each_element_without_the_offset():
    timing = SlotTiming(**PLAIN)
    phase = np.array([[0.1 * (s % 3) + 0.2 * s + k * math.pi / 4 for k in range(2)] for s in range(6)])
    got = element_samples(slot_snapshots(phase, timing), 0.2, timing)
    np.testing.assert_allclose(got, [1, cmath.exp(0.1j), cmath.exp(0.2j)], atol=1e-9)


def test_offset_in_hz():
    assert SlotTiming(**PLAIN).offset_hz(0.2) == pytest.approx(0.2 / (2 * math.pi * 4e-6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slot_period_s": 0.0}, "periods must be above 0"),
        ({"first_slot": 6}, "first_slot <= last_slot"),
        ({"element_order": ()}, "element_order"),
        ({"sample_weight": (0.0, 0.0)}, "sample_weight"),
        ({"last_slot": 1}, r"no slot from 0 to 1 uses \[2\]"),
    ],
)
def test_timing_refuses(change, message):
    with pytest.raises(ParamError, match=message):
        SlotTiming(**{**PLAIN, **change})


def test_refuses_short_packets_and_values_not_finite():
    timing = SlotTiming(**PLAIN)
    with pytest.raises(EstimationError, match=r"slot > 5, sample = 2\], got \[4, 2\]"):
        slot_snapshots(np.zeros((4, 2)), timing)
    with pytest.raises(EstimationError, match="not finite"):
        slot_snapshots(np.full((6, 2), np.nan), timing)
