"""Block: channel frequency responses without what no path of the scene can have made."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from blocks.cfr.delay_window import delay_window, denoise, strongest_delay_s
from hil.block import Block, Out, Result
from hil.errors import EstimationError
from hil.params import Params, Seconds
from hil.streams import CFR, port_of


class DenoiseCfrParams(Params, frozen=True):
    before_s: Annotated[Seconds, Meta(description="Keep delays from so long before the strongest path ...")] = 0.2e-6
    after_s: Annotated[Seconds, Meta(description="... to so long after it")] = 1.0e-6


class DenoiseCfr(Block):
    """Keep a window of delays about the strongest path. Subcarriers must be evenly spaced."""

    params: DenoiseCfrParams
    inputs = {"cfr": port_of(CFR)}
    outputs = {"cfr": port_of(CFR)}

    def process(self, arrays: dict[str, Any]) -> Result:
        cfr, offset_hz = arrays["cfr"], arrays["subcarrier_hz"]
        step_hz = np.diff(offset_hz)
        if len(step_hz) < 11 or np.ptp(step_hz) > 1e-6 * abs(step_hz[0]) or step_hz[0] <= 0:
            raise EstimationError(f"{self.name}: expected at least 12 subcarriers, evenly spaced and rising")
        p, spacing_hz = self.params, float(step_hz[0])
        strongest_s = strongest_delay_s(cfr, spacing_hz)
        window = delay_window(len(offset_hz), 1, 0, spacing_hz, p.before_s + p.after_s)
        clean = denoise(cfr, window, spacing_hz, strongest_s + (p.after_s - p.before_s) / 2)
        meta = {
            **self.header.meta,
            "delay_s": strongest_s,
            "noise_power": float(clean.noise_power.mean()),
        }
        return Out({**arrays, "cfr": clean.cfr[0].astype(np.complex64)}, {"meta": meta})
