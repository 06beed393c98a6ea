"""A receiver whose channels come up anew in each epoch, in front of the simulated array, with a noise source."""

import numpy as np

from hil.descriptor import descriptor_frame
from hil.frame import Frame, Header
from sim_device.device import XlArrayDevice

SOURCE_M = (0.6, 3.0, 0.0)


class Radio:
    """Frames of ``n`` samples from four to sixteen channels; what each channel does is drawn at every epoch.

    Args:
        phase: Draws phases of an epoch, ``(rng, n_channels) -> rad``.
        delay: Whole samples by which each channel is late.
    """

    def __init__(self, n_channels=4, n=1024, phase=None, delay=None, seed=1, gain_db=None):
        self.device = XlArrayDevice(
            array={"kind": "ula", "n": n_channels, "spacing_m": 0.03},
            sources=[{"id": 1, "motion": {"kind": "stand", "position_m": SOURCE_M}, "power_db": -20.0}],
            noise_power_db=-50.0,
            real_time=False,
            seed=seed,
        )
        self.rng = np.random.default_rng(seed)
        self.draw = phase or (lambda rng, m: rng.uniform(-np.pi, np.pi, m))
        self.gain_db = np.zeros(n_channels) if gain_db is None else np.asarray(gain_db, float)
        self.delay = np.zeros(n_channels, int) if delay is None else np.asarray(delay)
        self.n_channels, self.n = n_channels, n
        self.epoch, self.seq, self.tick, self.noise = -1, 0, 1000, False
        self.frequency_hz = 5e9
        self.retune(5e9)

    def retune(self, frequency_hz):
        self.epoch += 1
        self.frequency_hz = frequency_hz
        self.phase = self.draw(self.rng, self.n_channels)

    def descriptor(self):
        return descriptor_frame(self.header(), self.device.array, {"device": "radio-1", "gain_db": 20.0})

    def header(self):
        return Header(
            "radio.iq",
            self.seq,
            epoch=self.epoch,
            sample_start=self.tick,
            sample_rate_hz=1e6,
            frequency_hz=self.frequency_hz,
            time_ns=self.tick * 1000,
            timebase="device",
            meta={"noise_source": True} if self.noise else {},
        )

    def clean(self, tick, n):
        """What ideal channels hear of the scene at these ticks."""
        return self.device.samples(tick, n)

    def frame(self, noise=None):
        self.noise = self.noise if noise is None else noise
        x = np.empty((self.n_channels, self.n), complex)
        for m, late in enumerate(self.delay):
            if self.noise:
                x[m] = self._noise(self.tick - late)
            else:
                x[m] = self.clean(self.tick - int(late), self.n)[m]
        x *= (10 ** (self.gain_db / 20) * np.exp(1j * self.phase))[:, None]
        frame = Frame.of(self.header(), iq=(x.astype(np.complex64), "sensor snapshot", "FS"))
        self.seq += 1
        self.tick += self.n
        return frame

    def _noise(self, tick):
        """One noise for all channels, sample by sample a function of the tick."""
        block, out = 64, []
        for b in range(tick // block, (tick + self.n) // block + 1):
            out.append(np.random.default_rng((7, b)).standard_normal((block, 2)) @ [0.1, 0.1j])
        start = tick % block
        return np.concatenate(out)[start : start + self.n]
