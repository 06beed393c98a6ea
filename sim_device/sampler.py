"""The one sample function: what the array receives at any ticks, in any order, in any chunks.

Commands do not change the past: each state of the device holds from a tick on, and the timeline of states is kept, so
that two runs with the same seed and the same commands at the same ticks give the same samples. Source positions are
held for a block of ``TICK_BLOCK`` ticks, at their value in the middle of the block. Finished blocks are cached, so that
reading on costs each block once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hil.array import ArrayGeometry
from hil.errors import ParamError
from sim_device.draws import TICK_BLOCK, Draw
from sim_device.front_end import front_end, noise_block
from sim_device.propagation import channel_matrix, field_at_elements
from sim_device.scene import Source, kinematics
from sim_device.waveforms import envelope

C64 = npt.NDArray[np.complex64]
C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

#: States that are remembered; ticks before the oldest cannot be asked for any more.
MAX_STATES = 4096
#: Finished blocks that are kept: at least two, and as many as fit into so many bytes.
CACHE_BYTES = 4 << 20

_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """What holds from ``tick`` on.

    Attributes:
        tick: First tick.
        time_ns: Device time of that tick.
        sample_rate_hz: Ticks per second from there on.
        frequency_hz: Centre frequency.
        sources: The scene.
        response: Complex factor of each element, mismatch and faults, ``[element]``.
        noise_power_db: Before the gain.
        gain_db: Of all channels.
        clip: Whether there is a full scale.
    """

    tick: int
    time_ns: int
    sample_rate_hz: float
    frequency_hz: float
    sources: tuple[Source, ...]
    response: C128 = field(repr=False)
    noise_power_db: float
    gain_db: float
    clip: bool

    def time_ns_at(self, tick: int) -> int:
        """Device time of ``tick`` in integer nanoseconds, rounded down."""
        numerator, denominator = float(self.sample_rate_hz).as_integer_ratio()
        return self.time_ns + (tick - self.tick) * _NS_PER_S * denominator // numerator


class _Block(NamedTuple):
    samples: C64  # (channel, TICK_BLOCK)
    clipped: I64  # (TICK_BLOCK,)


class Sampler:
    """Computes samples of the array.

    Args:
        array: Geometry and channel map, as the descriptor tells them.
        seed: Of all draws.
        initial: State from tick 0 on.
        element_m: Where the elements really are, ``[element, xyz]`` m in the array's frame.
    """

    def __init__(self, array: ArrayGeometry, seed: int, initial: State, element_m: F64) -> None:
        self.array, self.seed, self._element_m = array, seed, element_m
        self._states, self._ticks = [initial], [initial.tick]
        self._channels = list(array.channel_map)
        self._cache: OrderedDict[int, _Block] = OrderedDict()
        self._cache_blocks = max(2, CACHE_BYTES // (len(self._channels) * TICK_BLOCK * 8))
        self._channel_key: tuple[State, bytes] = (initial, b"")
        self._channel: C128 = np.empty((0, 0), np.complex128)

    @property
    def state(self) -> State:
        """The newest state."""
        return self._states[-1]

    def state_at(self, tick: int) -> State:
        """The state that holds at ``tick``.

        Raises:
            ParamError: So old a state is not remembered.
        """
        place = bisect_right(self._ticks, tick) - 1
        if place < 0:
            raise ParamError(f"tick {tick} lies before {self._ticks[0]}, the oldest that is remembered")
        return self._states[place]

    def apply(self, state: State) -> None:
        """Let ``state`` hold from its tick on; one of the same tick is replaced.

        Raises:
            ParamError: It would change the past.
        """
        if state.tick < self.state.tick:
            raise ParamError(f"a state from tick {state.tick} cannot follow one from tick {self.state.tick}")
        if state.tick == self.state.tick:
            self._states[-1] = state
        else:
            self._states.append(state)
            self._ticks.append(state.tick)
            del self._states[:-MAX_STATES], self._ticks[:-MAX_STATES]
        for block in [b for b in self._cache if (b + 1) * TICK_BLOCK > state.tick]:
            del self._cache[block]

    def samples(self, tick_start: int, n: int) -> tuple[C64, int]:
        """Samples of ticks ``tick_start .. tick_start + n - 1``.

        Returns:
            ``[sensor, n]`` complex64 in channel order, full scale 1, memory of its own; and how many were clipped.

        Raises:
            ParamError: Ticks before 0 or before the oldest state that is remembered, or none.
        """
        if tick_start < 0 or n < 1:
            raise ParamError(f"samples: expected tick_start from 0 and n from 1, got {tick_start} and {n}")
        self.state_at(tick_start)
        out = np.empty((len(self._channels), n), np.complex64)
        n_clipped = 0
        for number in range(tick_start // TICK_BLOCK, (tick_start + n - 1) // TICK_BLOCK + 1):
            block = self._block(number)
            first, origin = number * TICK_BLOCK, max(tick_start, number * TICK_BLOCK)
            end = min(tick_start + n, first + TICK_BLOCK)
            out[:, origin - tick_start : end - tick_start] = block.samples[:, origin - first : end - first]
            n_clipped += int(block.clipped[origin - first : end - first].sum())
        return out, n_clipped

    def positions(self, tick: int) -> tuple[F64, F64]:
        """World positions and velocities of the sources at ``tick``, ``[source, xyz]`` m and m/s, in scene order."""
        state = self.state_at(tick)
        return self._positions(state, state.time_ns_at(tick) / _NS_PER_S)

    def _positions(self, state: State, time_s: float) -> tuple[F64, F64]:
        moved = [kinematics(s, time_s, self.array, self.seed) for s in state.sources]
        position = np.array([k.position_m for k in moved]).reshape(-1, 3)
        return position, np.array([k.velocity_m_per_s for k in moved]).reshape(-1, 3)

    def _block(self, number: int) -> _Block:
        block = self._cache.get(number)
        if block is None:
            block = self._cache[number] = self._compute(number)
            if len(self._cache) > self._cache_blocks:
                self._cache.popitem(last=False)
        return block

    def _compute(self, number: int) -> _Block:
        first, end = number * TICK_BLOCK, (number + 1) * TICK_BLOCK
        noise = noise_block(len(self._channels), number, self.seed)
        changes = self._ticks[bisect_right(self._ticks, first) : bisect_right(self._ticks, end - 1)]
        starts = [first, *changes]
        samples = np.zeros((len(self._channels), TICK_BLOCK), np.complex64)
        clipped = np.zeros(TICK_BLOCK, np.int64)
        for start, stop in zip(starts, [*starts[1:], end], strict=True):
            # of a block that began before the oldest state only ticks from that state on can be asked for
            state = self.state_at(max(start, self._ticks[0]))
            part = slice(start - first, stop - first)
            samples[:, part], clipped[part] = front_end(
                # all of the block, then its part: the bits of a matrix product depend on its shape
                self._signal(state, first)[:, part],
                noise[:, part],
                noise_power_db=state.noise_power_db,
                gain_db=state.gain_db,
                clip=state.clip,
            )
        return _Block(samples, clipped)

    def _signal(self, state: State, first: int) -> C64:
        """Noiseless field at the channels, ``[channel, TICK_BLOCK]``; positions are those of the block's middle."""
        if not state.sources:
            return np.zeros((len(self._channels), TICK_BLOCK), np.complex64)
        middle_s = state.time_ns_at(first + TICK_BLOCK // 2) / _NS_PER_S
        position, _ = self._positions(state, middle_s)
        key = state, position.tobytes()
        if key != self._channel_key:  # states compare by identity
            channel = channel_matrix(self._element_m, self.array.from_world(position), state.frequency_hz)
            self._channel, self._channel_key = (channel * state.response[:, None])[self._channels], key
        weight = np.array([10 ** (s.power_db / 20) * np.exp(1j * s.phase_rad) for s in state.sources])
        return field_at_elements(self._channel, weight, self._envelopes(state, first))

    def _envelopes(self, state: State, tick: int) -> C128:
        drawn: dict[tuple[Draw, int], C128] = {}
        for source in state.sources:
            key = _waveform_key(source)
            if key not in drawn:
                drawn[key] = envelope(
                    source.waveform,
                    tick,
                    TICK_BLOCK,
                    sample_rate_hz=state.sample_rate_hz,
                    seed=self.seed,
                    draw=key[0],
                    key=key[1],
                )
        return np.stack([drawn[_waveform_key(s)] for s in state.sources])


def _waveform_key(source: Source) -> tuple[Draw, int]:
    return (Draw.WAVEFORM, source.id) if source.group is None else (Draw.GROUP_WAVEFORM, source.group)
