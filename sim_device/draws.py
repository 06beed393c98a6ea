"""Seeded draws that do not depend on the order in which they are made.

Every random quantity has its own generator, keyed by the device's seed, what is drawn and, for what goes on in time,
the number of a block of ``TICK_BLOCK`` ticks. So a sample is the same whether it is asked for first or last, alone or
in a long chunk. The bits are those of NumPy's SFC64 and distributions, which may change between NumPy versions
(NEP 19): a run repeats to the bit with the same NumPy, and in distribution with any.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

#: Ticks (sample periods) in a block: noise and waveforms are drawn, and source motion is held, by the block.
TICK_BLOCK = 64


class Draw(IntEnum):
    """What is drawn. The numbers are part of what a seed means: never reuse one."""

    NOISE = 0
    WAVEFORM = 1
    GROUP_WAVEFORM = 2
    MISMATCH = 3
    FAULTS = 4
    INJECTED_FAULT = 5
    WANDER = 6
    DROPS = 7
    SRS_NOISE = 8
    TUNER = 9
    NOISE_SOURCE = 10
    DISPLACEMENT = 11


def generator(seed: int, draw: Draw, *key: int) -> np.random.Generator:
    """Generator of one quantity; ``key`` holds integers from 0 (which source, which block of ticks)."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(int(draw), *key))))
