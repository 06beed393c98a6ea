"""Sounding reference signals of 5G NR: 3GPP TS 38.211 section 6.4.1.4, for periodic resources.

What a terminal sends, symbol by symbol: which subcarriers, and what is on them. Subcarrier 0 is the lowest of the
carrier, symbol and slot numbers are those of the standard.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hil.errors import ParamError
from hil.formats.srs_tables import BANDWIDTH, PHI
from hil.params import Count, Index, Params

C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

SYMBOLS_PER_SLOT = 14
SUBCARRIERS_PER_RB = 12
FRAMES_PER_CYCLE = 1024
FRAME_S = 0.01


class Srs(Params, frozen=True, cache_hash=True):
    """One periodic SRS resource of a terminal, and the carrier it lies in. Names are those of TS 38.331."""

    n_rb: Annotated[Count, Meta(le=275, description="resource blocks of the carrier")] = 273
    scs_khz: Annotated[Literal[15, 30, 60, 120], Meta(description="subcarrier spacing")] = 30
    n_fft: Annotated[Count, Meta(le=8192, description="samples of an OFDM symbol, a multiple of 128")] = 4096
    comb: Annotated[Literal[2, 4], Meta(description="K_TC: every so many subcarriers")] = 2
    comb_offset: Annotated[Index, Meta(le=3)] = 0
    cyclic_shift: Annotated[Index, Meta(le=11)] = 0
    n_ports: Annotated[Literal[1, 2, 4], Meta(description="antenna ports of the terminal")] = 1
    c_srs: Annotated[Index, Meta(le=63, description="row of Table 6.4.1.4.3-1; 61 to 63 sound 272 blocks")] = 63
    b_srs: Annotated[Index, Meta(le=3)] = 0
    b_hop: Annotated[Index, Meta(le=3, description="frequency hopping where below b_srs")] = 0
    n_rrc: Annotated[Index, Meta(le=67, description="position in the band, in fours of blocks")] = 0
    n_shift: Annotated[Index, Meta(le=268, description="first block of the sounded band")] = 0
    sequence_id: Annotated[Index, Meta(le=1023)] = 0
    hopping: Annotated[Literal["neither", "group", "sequence"], Meta(description="of the sequence")] = "neither"
    start_symbol: Annotated[Index, Meta(le=13, description="l_0 in the slot")] = 13
    n_symbols: Literal[1, 2, 4] = 1
    repetition: Annotated[Literal[1, 2, 4], Meta(description="symbols of the same band in one slot")] = 1
    period_slots: Annotated[
        Literal[1, 2, 4, 5, 8, 10, 16, 20, 32, 40, 64, 80, 160, 320, 640, 1280, 2560], Meta(description="T_SRS")
    ] = 160
    offset_slots: Annotated[Index, Meta(le=2559, description="T_offset, below the period")] = 0

    def __post_init__(self) -> None:
        m_srs = BANDWIDTH[self.c_srs][self.b_srs][0]
        wrong = {
            f"n_fft must be a multiple of 128 with room for 12 x {self.n_rb}": self.n_fft % 128
            or self.n_fft < SUBCARRIERS_PER_RB * self.n_rb,
            f"comb_offset must be below {self.comb}": self.comb_offset >= self.comb,
            f"cyclic_shift must be below {self.n_shifts}": self.cyclic_shift >= self.n_shifts,
            f"{self.n_symbols} symbols from {self.start_symbol} do not fit a slot": self.start_symbol + self.n_symbols
            > SYMBOLS_PER_SLOT,
            "repetition cannot be above n_symbols": self.repetition > self.n_symbols,
            "offset_slots must be below period_slots": self.offset_slots >= self.period_slots,
            f"the band of c_srs {self.c_srs} from block {self.n_shift} does not fit {self.n_rb}": self.n_shift
            + BANDWIDTH[self.c_srs][0][0]
            > self.n_rb,
            "with comb 4 a band of 4 blocks has 12 subcarriers: only one or two ports": m_srs == 4
            and self.comb == 4
            and self.n_ports == 4,
        }
        for text, so in wrong.items():
            if so:
                raise ValueError(text)

    @property
    def scs_hz(self) -> float:
        return self.scs_khz * 1e3

    @property
    def n_shifts(self) -> int:
        """n_cs,max of Table 6.4.1.4.2-1."""
        return 8 if self.comb == 2 else 12

    @property
    def slots_per_frame(self) -> int:
        return 10 * self.scs_khz // 15

    @property
    def n_subcarriers(self) -> int:
        return SUBCARRIERS_PER_RB * self.n_rb

    @property
    def length(self) -> int:
        """M: subcarriers of one symbol."""
        return BANDWIDTH[self.c_srs][self.b_srs][0] * SUBCARRIERS_PER_RB // self.comb

    @property
    def sample_rate_hz(self) -> float:
        return self.n_fft * self.scs_hz

    @property
    def hops(self) -> bool:
        """Whether the sounded band is another one from time to time."""
        return self.b_hop < self.b_srs


class SrsSymbol(NamedTuple):
    """What one port sends in one symbol: ``value`` on ``subcarrier``, both ``[pilot]``."""

    subcarrier: I64
    value: C128


@lru_cache(maxsize=64)
def gold_sequence(c_init: int, n: int) -> npt.NDArray[np.int8]:
    """First ``n`` bits of the pseudo-random sequence of section 5.2.1, ``[n]``."""
    first = 1
    second = c_init & 0x7FFFFFFF
    out = np.empty(n, np.int8)
    for i in range(1600 + n):
        if i >= 1600:
            out[i - 1600] = (first ^ second) & 1
        first = (first >> 1) | (((first >> 3) ^ first) & 1) << 30
        second = (second >> 1) | (((second >> 3) ^ (second >> 2) ^ (second >> 1) ^ second) & 1) << 30
    out.flags.writeable = False
    return out


def _largest_prime_below(n: int) -> int:
    return next(p for p in range(n - 1, 1, -1) if all(p % d for d in range(2, math.isqrt(p) + 1)))


@lru_cache(maxsize=256)
def base_sequence(length: int, u: int, v: int) -> C128:
    r"""Low-PAPR base sequence of section 5.2.2, ``[length]`` of unit modulus.

    From 36 on a Zadoff-Chu sequence of the largest prime length below, repeated cyclically (5.2.2.1)
    ``exp(-j pi q m (m + 1) / N_ZC)``; of 30 the formula, of 12 and 24 the tables of 5.2.2.2.

    Args:
        length: 12, 24, 30 or from 36 on.
        u: Group, 0 .. 29.
        v: Sequence of the group, 0, from length 72 on 0 or 1.
    """
    n = np.arange(length, dtype=np.int64)
    if not 0 <= u < 30 or v not in (0, 1) or (v and length < 72):
        raise ParamError(f"base_sequence: expected u 0 .. 29 and v 0 (0 or 1 from length 72), got {u} and {v}")
    if length >= 36:
        prime = _largest_prime_below(length)
        # qbar = prime (u + 1) / 31, rounded, one further up or down for v = 1; in integers
        twice = 2 * prime * (u + 1)
        q = (twice + 31) // 62 + v * (-1) ** (twice // 31)
        m = n % prime
        half_turns = (q * m * (m + 1)) % (2 * prime)
        value = np.exp(-1j * np.pi * half_turns / prime)
    elif length == 30:
        value = np.exp(-1j * np.pi * (((u + 1) * (n + 1) * (n + 2)) % 62) / 31)
    elif length in PHI:
        value = np.exp(1j * np.pi * PHI[length][u] / 4)
    else:
        raise ParamError(f"base_sequence: expected a length of 12, 24, 30 or from 36 on, got {length}")
    value.flags.writeable = False
    return value


def group_and_sequence(srs: Srs, slot: int, symbol: int) -> tuple[int, int]:
    """``u`` and ``v`` of section 6.4.1.4.2 for a symbol of a slot of a frame."""
    if srs.hopping == "neither":
        return srs.sequence_id % 30, 0
    bits = gold_sequence(srs.sequence_id, 8 * SYMBOLS_PER_SLOT * srs.slots_per_frame)
    if srs.hopping == "group":
        place = 8 * (SYMBOLS_PER_SLOT * slot + symbol)
        group = int(np.dot(bits[place : place + 8].astype(np.int64), 1 << np.arange(8)))
        return (group % 30 + srs.sequence_id) % 30, 0
    return srs.sequence_id % 30, int(bits[SYMBOLS_PER_SLOT * slot + symbol]) if srs.length >= 72 else 0


def is_srs_slot(srs: Srs, frame: int, slot: int) -> bool:
    """Whether the terminal sounds in this slot."""
    return (srs.slots_per_frame * frame + slot - srs.offset_slots) % srs.period_slots == 0


def srs_symbol(srs: Srs, frame: int, slot: int, which: int = 0, port: int = 0) -> SrsSymbol:
    """What ``port`` sends in the ``which``-th SRS symbol of a slot.

    Args:
        srs: The resource.
        frame: System frame number, 0 .. 1023.
        slot: In the frame; the slot need not be an SRS slot, its numbers are taken as they are.
        which: l', 0 .. n_symbols - 1.
        port: 0 .. n_ports - 1.
    """
    if not (0 <= which < srs.n_symbols and 0 <= port < srs.n_ports):
        raise ParamError(f"srs_symbol: symbol {which} of {srs.n_symbols}, port {port} of {srs.n_ports}")
    sent = (srs.slots_per_frame * frame + slot - srs.offset_slots) // srs.period_slots
    count = sent * (srs.n_symbols // srs.repetition) + which // srs.repetition
    u, v = group_and_sequence(srs, slot, srs.start_symbol + which)
    return _symbol(srs, count % _hop_cycle(srs), u, v, port)


@lru_cache(maxsize=256)
def _symbol(srs: Srs, count: int, u: int, v: int, port: int) -> SrsSymbol:
    shift = (srs.cyclic_shift + srs.n_shifts * port // srs.n_ports) % srs.n_shifts
    n = np.arange(srs.length)
    value = base_sequence(srs.length, u, v) * np.exp(2j * np.pi * ((n * shift) % srs.n_shifts) / srs.n_shifts)
    value.flags.writeable = False
    subcarrier = first_subcarrier(srs, count, port) + srs.comb * n
    subcarrier.flags.writeable = False
    return SrsSymbol(subcarrier, value)


def first_subcarrier(srs: Srs, count: int, port: int = 0) -> int:
    """k_0 of section 6.4.1.4.3 for the ``count``-th transmission (n_SRS)."""
    comb_offset = srs.comb_offset
    if srs.n_ports == 4 and port in (1, 3) and srs.cyclic_shift >= srs.n_shifts // 2:
        comb_offset = (comb_offset + srs.comb // 2) % srs.comb
    first = SUBCARRIERS_PER_RB * srs.n_shift + comb_offset
    for b in range(srs.b_srs + 1):
        m_srs, n_b = BANDWIDTH[srs.c_srs][b]
        place = 4 * srs.n_rrc // m_srs + (_hop(srs, b, count) if b > srs.b_hop else 0)
        first += SUBCARRIERS_PER_RB * m_srs * (place % n_b)
    return first


def _hop(srs: Srs, b: int, count: int) -> int:
    """F_b(n_SRS)."""
    n_b = BANDWIDTH[srs.c_srs][b][1]
    # N of b_hop itself counts as 1
    below = math.prod(BANDWIDTH[srs.c_srs][i][1] for i in range(srs.b_hop + 1, b))
    if n_b % 2:
        return n_b // 2 * (count // below)
    rest = count % (below * n_b)
    return n_b // 2 * (rest // below) + rest // (2 * below)


def _hop_cycle(srs: Srs) -> int:
    """After so many transmissions the hopping begins anew."""
    return math.prod(BANDWIDTH[srs.c_srs][b][1] for b in range(srs.b_hop + 1, srs.b_srs + 1))


def subcarrier_offsets_hz(srs: Srs) -> F64:
    """Frequency of each subcarrier of the carrier less the centre frequency, ``[subcarrier]`` Hz."""
    return (np.arange(srs.n_subcarriers, dtype=np.float64) - srs.n_subcarriers // 2) * srs.scs_hz


def fft_bins(srs: Srs) -> I64:
    """FFT bin of each subcarrier, ``[subcarrier]``: the first at ``n_fft - 6 n_rb``, then it wraps."""
    return (np.arange(srs.n_subcarriers) - srs.n_subcarriers // 2) % srs.n_fft


def symbol_start(srs: Srs, slot: int, symbol: int) -> int:
    """First sample of a symbol behind its cyclic prefix, from the start of its slot (section 5.3.1, normal prefix)."""
    slots_per_subframe = srs.scs_khz // 15
    long_every = 7 * slots_per_subframe  # symbols from one longer prefix to the next
    extra = srs.n_fft * srs.scs_khz // 15 // 128  # 16 kappa T_c
    first = slot % slots_per_subframe * SYMBOLS_PER_SLOT
    n_long = sum((first + i) % long_every == 0 for i in range(symbol + 1))
    return symbol * srs.n_fft + (symbol + 1) * cyclic_prefix(srs) + n_long * extra


def cyclic_prefix(srs: Srs) -> int:
    """Samples of the prefix of every symbol but those that begin a half of a subframe."""
    return 9 * srs.n_fft // 128


def slot_samples(srs: Srs, slot: int) -> int:
    """Samples of a slot."""
    return symbol_start(srs, slot, SYMBOLS_PER_SLOT - 1) + srs.n_fft
