"""A switched circular array in plain loops: nothing is shared with the code under test."""

import cmath
import math
import random

RADIUS_M = 0.0456 / (2 * math.sin(math.pi / 8))
WAVELENGTH_M = 299_792_458.0 / 2.44e9
#: Elements of the 8 channels, counter-clockwise.
CHANNEL_MAP = (0, 7, 6, 5, 4, 3, 2, 1)


def element_phase(channel: int, azimuth: float, offsets: list[float] | None = None) -> float:
    """Phase of a plane wave at a channel's element; azimuth clockwise from +y."""
    own = -2 * math.pi * channel / 8
    x, y = RADIUS_M * math.sin(own), RADIUS_M * math.cos(own)
    path = x * math.sin(azimuth) + y * math.cos(azimuth)
    return 2 * math.pi * path / WAVELENGTH_M + (offsets[channel] if offsets else 0.0)


def packet(
    azimuth: float,
    offset: float,
    rng: random.Random,
    *,
    noise: float = 0.1,
    offsets: list[float] | None = None,
    multipath: tuple[float, float, float] | None = None,
) -> list[list[float]]:
    """Phases ``[37][3]`` of one packet: tone of 250 kHz, 4 us slots, 0.5 us samples, ``offset`` rad a slot.

    ``multipath``: azimuth, amplitude and phase of a second path. ``noise``: of the complex sample's each part.
    """
    start = rng.uniform(-math.pi, math.pi)
    rows = []
    for slot in range(37):
        row = []
        for sample in range(3):
            wave = cmath.exp(1j * element_phase(slot % 8, azimuth, offsets))
            if multipath is not None:
                wave += multipath[1] * cmath.exp(1j * (multipath[2] + element_phase(slot % 8, multipath[0], offsets)))
            seconds = slot * 4e-6 + sample * 0.5e-6
            wave *= cmath.exp(1j * (start + 2 * math.pi * 250e3 * seconds + offset * (slot + sample / 8)))
            wave += complex(rng.gauss(0, noise), rng.gauss(0, noise))
            row.append(cmath.phase(wave))
        rows.append(row)
    return rows


def as_signed_byte(phase: float) -> float:
    """What a recorder of 201 units a half turn makes of a phase when it keeps positive counts in a signed byte."""
    count = round(phase * 201 / math.pi)
    return (count - 256 if count >= 128 else count) * math.pi / 201
