"""Block: channel frequency responses from a capture of sounding reference signals."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.cfr.srs_estimate import correlation, demodulate, estimate_responses
from hil.block import Block, Out, Payload, Result
from hil.errors import EstimationError, ParamError
from hil.formats.srs import (
    FRAMES_PER_CYCLE,
    Srs,
    cyclic_prefix,
    fft_bins,
    slot_samples,
    srs_symbol,
    subcarrier_offsets_hz,
    symbol_start,
)
from hil.params import Params, Seconds
from hil.streams import CFR, IQ, port_of

C64 = npt.NDArray[np.complex64]
C128 = npt.NDArray[np.complex128]


class SrsToCfrParams(Params, frozen=True):
    srs: Annotated[Srs, Meta(description="The terminal's resource")] = Srs()
    rnti: Annotated[int, Meta(ge=0, le=65535, description="What to call the terminal")] = 1
    start_sample: Annotated[
        int | None,
        Meta(description="Sample at which frame 0 begins, by the header's count; absent: look for the signal"),
    ] = None
    before_s: Annotated[Seconds, Meta(description="Keep delays from so long before the strongest path ...")] = 0.2e-6
    after_s: Annotated[Seconds, Meta(description="... to so long after it")] = 1.0e-6
    detect: Annotated[
        float, Meta(gt=0, lt=1, description="Part of the power that must be the signal where it is looked for")
    ] = 0.2


class SrsToCfr(Block):
    """CFR of each SRS symbol in a stream of samples, one frame a port, whatever chunks the samples come in.

    Samples at ``n_fft`` times the subcarrier spacing, mixed to the carrier's centre. Where the start of the frames is
    not known, the signal is looked for by correlation; its sequence must then be the same each time: no hopping. The
    first occasion is found within the samples of one symbol; delays are then
    counted from an eighth of a prefix before its strongest path.
    """

    params: SrsToCfrParams
    inputs = {"iq": port_of(IQ)}
    outputs = {"cfr": port_of(CFR)}

    def setup(self) -> None:
        p = self.params
        if p.start_sample is None and (p.srs.hopping != "neither" or p.srs.hops):
            raise ParamError(
                f"{self.name}: a signal that hops cannot be looked for: give start_sample, where frame 0 begins"
            )
        self._kept: C64 = np.empty((0, 0), np.complex64)
        self._first = 0  # number of the first sample that is kept
        self._frame0 = p.start_sample
        self._slot: int | None = None  # next SRS slot, counted from frame 0
        self._searched = 0
        self._epoch = self.header.epoch
        self._n_found = 0
        slots = [slot_samples(p.srs, i) for i in range(p.srs.slots_per_frame)]
        self._slot_start = np.concatenate([[0], np.cumsum(slots)])
        self._offset_hz = subcarrier_offsets_hz(p.srs)
        self._symbol = self._reference() if self._frame0 is None else None

    def stats(self) -> dict[str, Any]:
        return {"occasions": self._n_found, "frame_0_at_sample": self._frame0}

    def process(self, iq: C64) -> Result:
        self._take(iq)
        if self._frame0 is None:
            self._search()
        out: list[Payload] = []
        while self._frame0 is not None:
            done = self._occasion()
            if done is None:
                break
            out += done
        return out or None

    # -- inside ----------------------------------------------------------------------------------------------------

    def _take(self, iq: C64) -> None:
        srs, header = self.params.srs, self.header
        rate_hz = header.sample_rate_hz
        if rate_hz is not None and abs(rate_hz / srs.sample_rate_hz - 1) > 1e-9:
            raise EstimationError(
                f"{self.name}: samples at {rate_hz:.6g} Hz, this SRS needs {srs.sample_rate_hz:.6g}: choose srs.n_fft "
                f"({srs.scs_khz} kHz times it) or resample"
            )
        start = self._first + self._kept.shape[1] if header.sample_start is None else header.sample_start
        follows = start == self._first + self._kept.shape[1] and header.epoch == self._epoch
        if not follows or len(self._kept) != len(iq):
            if self.params.start_sample is None and header.epoch != self._epoch:
                self._frame0 = None  # the samples' clock began anew
            self._kept, self._first, self._slot = np.empty((len(iq), 0), np.complex64), start, None
            self._searched = start
        self._epoch = header.epoch
        self._time = header.time_ns, start
        self._kept = np.concatenate([self._kept, iq], axis=1)

    def _occasion(self) -> list[Payload] | None:
        """The next occasion, once its samples are there; ``None`` where they are not yet."""
        srs = self.params.srs
        assert self._frame0 is not None
        if self._slot is None:
            self._slot = self._next_slot(self._first)
        start = self._start_of(self._slot) + symbol_start(srs, self._slot % srs.slots_per_frame, srs.start_symbol)
        last_start = self._start_of(self._slot) + symbol_start(
            srs, self._slot % srs.slots_per_frame, srs.start_symbol + srs.n_symbols - 1
        )
        if last_start + srs.n_fft > self._first + self._kept.shape[1]:
            self._drop_before(min(start, self._first + self._kept.shape[1]))
            return None
        out = self._estimates(self._slot)
        self._n_found += 1
        self._slot += srs.period_slots
        return out

    def _estimates(self, number: int) -> list[Payload]:
        p, srs = self.params, self.params.srs
        frame, slot = number // srs.slots_per_frame % FRAMES_PER_CYCLE, number % srs.slots_per_frame
        out: list[Payload] = []
        for which in range(srs.n_symbols):
            at = self._start_of(number) + symbol_start(srs, slot, srs.start_symbol + which) - self._first
            subcarriers = demodulate(self._kept[:, at : at + srs.n_fft], srs)
            sent = tuple(srs_symbol(srs, frame, slot, which, port) for port in range(srs.n_ports))
            estimates = estimate_responses(subcarriers, srs, sent, before_s=p.before_s, after_s=p.after_s)
            for port, found in enumerate(estimates):
                arrays: dict[str, npt.NDArray[Any]] = {
                    "cfr": found.cfr.astype(np.complex64),
                    "subcarrier_hz": self._offset_hz[found.subcarrier],
                    "rnti": np.array(p.rnti, np.int64),
                }
                meta: dict[str, Any] = {"port": port, "symbol": which, "delay_s": found.delay_s}
                meta["noise_power"] = found.noise_power
                if p.start_sample is not None:
                    meta |= {"frame": frame, "slot": slot}
                out.append(Out(arrays, {"meta": meta, **self._stamp(at + self._first)}))
        return out

    def _stamp(self, sample: int) -> dict[str, Any]:
        time_ns, start = self._time
        changes: dict[str, Any] = {"sample_start": sample}
        if time_ns is not None:
            changes["time_ns"] = time_ns + round((sample - start) / self.params.srs.sample_rate_hz * 1e9)
        return changes

    def _start_of(self, number: int) -> int:
        """First sample of slot ``number`` since frame 0."""
        frames, slot = divmod(number, self.params.srs.slots_per_frame)
        assert self._frame0 is not None
        return self._frame0 + frames * int(self._slot_start[-1]) + int(self._slot_start[slot])

    def _next_slot(self, sample: int) -> int:
        """The first SRS slot whose symbols begin at ``sample`` or later."""
        srs = self.params.srs
        assert self._frame0 is not None
        frames = (sample - self._frame0) // int(self._slot_start[-1]) - 1
        number = frames * srs.slots_per_frame
        number += (srs.offset_slots - number) % srs.period_slots
        while self._start_of(number) + symbol_start(srs, number % srs.slots_per_frame, srs.start_symbol) < sample:
            number += srs.period_slots
        return number

    def _drop_before(self, sample: int) -> None:
        if sample > self._first:
            self._kept = self._kept[:, sample - self._first :].copy()
            self._first = sample

    def _reference(self) -> C128:
        """The symbol as the terminal sends it, all ports, ``[n_fft]``."""
        srs = self.params.srs
        spectrum = np.zeros(srs.n_fft, np.complex128)
        for port in range(srs.n_ports):
            sent = srs_symbol(srs, 0, 0, 0, port)
            spectrum[fft_bins(srs)[sent.subcarrier]] += sent.value
        return np.fft.ifft(spectrum)

    def _search(self) -> None:
        """Look for the first symbol; places are looked at in blocks that do not depend on how samples came."""
        srs = self.params.srs
        assert self._symbol is not None
        block = 4 * srs.n_fft
        while self._searched + block + 3 * srs.n_fft <= self._first + self._kept.shape[1]:
            at = self._searched - self._first
            likeness = correlation(self._kept[:, at : at + block + srs.n_fft - 1], self._symbol)
            if likeness.max() > self.params.detect:
                # a comb repeats within its symbol, so that a part of it is like the whole: the best place counts
                hit = int(np.argmax(likeness > self.params.detect))
                around = correlation(self._kept[:, at + hit : at + hit + 3 * srs.n_fft - 1], self._symbol)
                best = self._searched + hit + int(np.argmax(around))
                # begin a little early, within the prefix, for paths that come before the strongest
                self._found(best - cyclic_prefix(srs) // 8)
                return
            self._searched += block
            self._drop_before(self._searched)

    def _found(self, symbol_at: int) -> None:
        srs = self.params.srs
        self._frame0 = 0
        slot = srs.offset_slots % srs.slots_per_frame
        self._frame0 = symbol_at - symbol_start(srs, slot, srs.start_symbol) - self._start_of(srs.offset_slots)
