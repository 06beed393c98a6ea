"""The cell: terminals of the scene, when each sounds, and what the base station estimates then."""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hil.formats.srs import FRAMES_PER_CYCLE, Srs, SrsSymbol, fft_bins, srs_symbol, subcarrier_offsets_hz
from sim_device.scene import Source, kinematics
from sim_device.servers.sample_feed import SampleFeed
from sim_device.srs.channel import frequency_response, timing_advance_s
from sim_device.srs.sounding import (
    arrival_time_s,
    interpolate,
    least_squares,
    receive,
    separate_ports,
    to_counts,
)
from sim_device.srs.terminals import Terminal, terminals_of
from sim_device.srs.waveform import srs_slot

C128 = npt.NDArray[np.complex128]
F64 = npt.NDArray[np.float64]
I16 = npt.NDArray[np.int16]

#: Turns of the carrier's phase from one port of a terminal to the next: its antennas are close to one another.
_PORT_TURNS = 0.618


class Occasion(NamedTuple):
    """What one terminal's SRS of one slot gave.

    Attributes:
        terminal: Whose.
        frame: System frame number.
        slot: In the frame.
        tick: First sample of the slot.
        sent: First symbol of each port.
        estimate: Interpolated over the comb, ``[port, sensor, symbol, subcarrier]``.
        raw: On the pilots only, zero between, like ``estimate``.
        arrival_s: ``[sensor]`` of the first port.
        snr_db: Of a subcarrier, mean over antennas.
    """

    terminal: Terminal
    frame: int
    slot: int
    tick: int
    sent: tuple[SrsSymbol, ...]
    estimate: C128
    raw: C128
    arrival_s: F64
    snr_db: float


class Cell:
    """Measures terminals.

    Args:
        feed: The array, its scene and clock.
        srs: Resource of all terminals but for the offset.
        first_rnti: Of the first terminal of the scene.
        timing_advance: Whether terminals send earlier so that they arrive together.
    """

    def __init__(self, feed: SampleFeed, srs: Srs, first_rnti: int, timing_advance: bool) -> None:
        self.feed, self.srs, self.first_rnti, self.timing_advance = feed, srs, first_rnti, timing_advance
        self.slot_ticks = round(feed.sample_rate_hz * 0.01 / srs.slots_per_frame)
        self._offset_hz = subcarrier_offsets_hz(srs)
        self._scene: tuple[Source, ...] | None = None
        self._offsets: list[int] = []
        self._terminals: tuple[Terminal, ...] = ()
        self._response: dict[int, tuple[object, C128]] = {}

    @property
    def terminals(self) -> tuple[Terminal, ...]:
        """Of the scene as it is now."""
        self._follow_scene()
        return self._terminals

    def next_slot(self, number: int) -> int | None:
        """The first slot from ``number`` on in which a terminal sounds."""
        self._follow_scene()
        if not self._offsets:
            return None
        period = self.srs.period_slots  # it divides the cycle of frames
        begun, within = divmod(number, period)
        place = bisect_left(self._offsets, within)
        if place < len(self._offsets):
            return begun * period + self._offsets[place]
        return (begun + 1) * period + self._offsets[0]

    def sounding(self, number: int) -> list[Terminal]:
        """Terminals that sound in slot ``number`` since the start."""
        return [t for t in self.terminals if number % self.srs.period_slots == t.srs.offset_slots]

    def _follow_scene(self) -> None:
        sources = self.feed.device.state.sources
        if sources is not self._scene:
            self._scene, self._terminals = sources, terminals_of(sources, self.srs, self.first_rnti)
            self._offsets = sorted({t.srs.offset_slots for t in self._terminals})
            self._response.clear()

    def frame_and_slot(self, number: int) -> tuple[int, int]:
        """System frame number, and slot in it, of slot ``number`` since the start."""
        return number // self.srs.slots_per_frame % FRAMES_PER_CYCLE, number % self.srs.slots_per_frame

    def measure(self, terminal: Terminal, number: int) -> Occasion:
        """What the base station makes of ``terminal`` in slot ``number``."""
        srs, state = terminal.srs, self.feed.device.state
        frame, slot = self.frame_and_slot(number)
        response = self.response(terminal, number)
        gain = 10 ** (state.gain_db / 20)
        noise = gain * 10 ** (state.noise_power_db / 20)
        shape = (srs.n_ports, response.shape[1], srs.n_symbols, srs.n_subcarriers)
        estimate, raw = np.zeros(shape, np.complex128), np.zeros(shape, np.complex128)
        arrival_s = np.zeros(response.shape[1])
        for which in range(srs.n_symbols):
            sent = tuple(srs_symbol(srs, frame, slot, which, port) for port in range(srs.n_ports))
            reception = receive(response, sent, noise, self.feed.device.params.seed, terminal.rnti, number, which)
            pilots = separate_ports(srs, least_squares(reception))
            for port in range(srs.n_ports):
                raw[port, :, which, sent[port].subcarrier] = pilots[port].T
                estimate[port, :, which] = interpolate(pilots[port], sent[port], srs.n_subcarriers)
            if which == 0:
                first, arrival_s = sent, arrival_time_s(pilots[0], srs.comb * srs.scs_hz)
        power = float(np.mean(np.abs(response[:, :, first[0].subcarrier]) ** 2))
        snr_db = 10 * np.log10(power / noise**2) if power > 0 else -np.inf
        tick = number * self.slot_ticks
        return Occasion(terminal, frame, slot, tick, first, estimate, raw, arrival_s, float(snr_db))

    def waveform(self, terminal: Terminal, number: int) -> C128:
        """The slot as samples at the array without noise, ``[sensor, sample]``."""
        frame, slot = self.frame_and_slot(number)
        return srs_slot(terminal.srs, frame, slot, self.response(terminal, number))

    def response(self, terminal: Terminal, number: int) -> C128:
        """Channel of each port in slot ``number``, elements' errors and gain in it, ``[port, sensor, subcarrier]``."""
        feed, state, device = self.feed, self.feed.device.state, self.feed.device
        time_s = state.time_ns_at(number * self.slot_ticks) / 1e9
        moved = [kinematics(p, time_s, device.array, device.params.seed).position_m for p in terminal.paths]
        path_m = device.array.from_world(np.array(moved))
        key = state, path_m.tobytes()
        cached = self._response.get(terminal.rnti)
        if cached is not None and cached[0] == key:  # states compare by identity
            return cached[1]
        distance_m = np.linalg.norm(path_m, axis=-1)
        advance_s = timing_advance_s(distance_m.tolist(), self.srs.scs_khz) if self.timing_advance else 0.0
        weight = np.array([10 ** ((p.power_db + feed.gain_db) / 20) * np.exp(1j * p.phase_rad) for p in terminal.paths])
        channel = frequency_response(
            device.array.position_m, path_m, weight, state.frequency_hz, self._offset_hz, advance_s
        )
        channel = (channel * state.response[:, None])[list(device.array.channel_map)]
        turns = np.exp(2j * np.pi * _PORT_TURNS * np.arange(self.srs.n_ports))
        response = turns[:, None, None] * channel
        self._response[terminal.rnti] = key, response
        return response


def in_fft_bins(srs: Srs, estimate: C128, scale: float) -> I16:
    """Counts in the order of an FFT, ``[..., bin, component]``, from ``[..., subcarrier]``."""
    out = np.zeros((*estimate.shape[:-1], srs.n_fft, 2), np.int16)
    out[..., fft_bins(srs), :] = to_counts(estimate, scale)
    return out
