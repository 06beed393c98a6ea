"""A radio with a noise source that is put on by a verb: importable by worker processes."""

from __future__ import annotations

import time

from drivers.base import Driver
from hil.params import Params
from hil.source import Reading
from hil.streams import IQ, port_of
from tests.blocks.calibration.radio import Radio


class NoisyRadioParams(Params, frozen=True):
    n_frames: int = 160
    retune_at: int = 70
    period_s: float = 0.005


class NoisyRadio(Driver):
    """Frames of the test receiver; it retunes by itself once, and does what ``noise_source`` says."""

    params: NoisyRadioParams
    outputs = {"iq": port_of(IQ)}
    finite = True
    verbs = ("noise_source",)

    def open(self) -> None:
        self._radio = Radio(n=512)
        self._described = -1
        self._on = False

    def noise_source(self, on: bool) -> bool:
        """Put the noise source on or off."""
        self._on = on
        return on

    def read(self, timeout_s: float) -> Reading:
        radio = self._radio
        if radio.seq >= self.params.n_frames:
            return None
        time.sleep(self.params.period_s)
        if radio.seq == self.params.retune_at and radio.epoch == 0:
            radio.retune(5e9)
        out = []
        if self._described != radio.epoch:
            self._described = radio.epoch
            out.append(("iq", radio.descriptor()))
        return [*out, ("iq", radio.frame(noise=self._on))]
