import math
import random

import numpy as np
import pytest

from blocks.switched_array.phase_overflow import resolve_overflow
from hil.errors import ParamError
from tests.blocks.switched_array.simulate import as_signed_byte, packet

UNIT_RAD = math.pi / 201


def test_gives_back_what_the_byte_lost():
    rng = random.Random(2)
    right = wrong_before = total = 0
    for _ in range(40):
        true = packet(rng.uniform(-3, 3), 0.3, rng, noise=0.1)
        recorded = [[as_signed_byte(p) for p in row] for row in true]
        got = resolve_overflow(recorded, UNIT_RAD, math.pi / 4)
        for slot in range(37):
            for k in range(3):
                total += 1
                right += abs(got[slot, k] - true[slot][k]) < UNIT_RAD
                wrong_before += abs(recorded[slot][k] - true[slot][k]) > UNIT_RAD
    assert wrong_before > 0.15 * total  # 74 of 402 counts overflow
    assert right > 0.995 * total


def test_leaves_alone_what_is_not_ambiguous():
    phase = np.array([[0.1, 0.9, 1.7], [-3.1, -2.3, 1.0]])
    np.testing.assert_array_equal(resolve_overflow(phase, UNIT_RAD, math.pi / 4), phase)


def test_a_recorder_that_cannot_overflow_is_left_alone():
    phase = np.array([[-1.5, -1.0, -0.5]])
    np.testing.assert_array_equal(resolve_overflow(phase, math.pi / 128, 0.5), phase)


def test_unit_must_be_positive():
    with pytest.raises(ParamError, match="unit_rad must be above 0"):
        resolve_overflow(np.zeros((1, 3)), 0.0, 0.5)
