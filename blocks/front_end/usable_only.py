"""Frames that a device says are for estimation; the others stay behind and are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hil.block import Block, Out, Result
from hil.frame import Loss
from hil.streams import IQ, port_of


class UsableOnly(Block):
    """Hands on frames unless their ``meta`` says ``usable: false``: the noise source is on, the device is being
    retuned, its channels are not synchronized or have not settled.

    For devices that correct their channels by themselves; where that is left to the graph, FollowCalibration does this
    and more. What stays behind is in the ``lost`` of the next frame, and by reason in the statistics.
    """

    inputs = {"iq": port_of(IQ)}
    outputs = {"iq": port_of(IQ)}

    def setup(self) -> None:
        self._held_back: dict[str, int] = getattr(self, "_held_back", {})

    def stats(self) -> dict[str, Any]:
        return {"frames_not_usable": dict(getattr(self, "_held_back", {}))}

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        meta = self.header.meta
        if meta.get("usable", True):
            return Out({"iq": iq}, {"meta": meta})
        why = str(meta.get("why", "not told"))
        self._held_back[why] = self._held_back.get(why, 0) + 1
        self.lose(Loss(frames=1, samples=iq.shape[1]))
        return None
