"""Replay a SigMF recording, our own or any other, as IQ of an array and, where it is annotated, truth."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
from msgspec import Meta

from drivers.replay import Replay, ReplayParams
from hil.frame import ArraySpec, Frame, Header
from hil.record.sigmf_format import sample_spec
from hil.streams import IQ, TRUTH, port_of


class SigmfReplayParams(ReplayParams, frozen=True):
    truth: Annotated[str, Meta(description="Last name of the annotated stream that is truth")] = "truth"


class SigmfReplay(Replay):
    """Samples as complex64, full scale 1, ``[sensor, snapshot]``; integers are divided by their full scale.

    The file is looked into when the driver is made: it has an output ``truth`` only where the recording has.

    Raises:
        DriverError: The file cannot be read.
    """

    params: SigmfReplayParams
    outputs: ClassVar = {"iq": port_of(IQ), "truth": port_of(TRUTH)}

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        with self.open_recording() as recording:
            if not any(stream.rsplit(".", 1)[-1] == self.params.truth for stream in recording.streams()):
                self.outputs = {"iq": port_of(IQ)}  # type: ignore[misc]

    def port_of(self, header: Header) -> str | None:
        if header.stream.rsplit(".", 1)[-1] == self.params.truth:
            return "truth"
        if header.kind != "data":
            return "iq"
        return "iq" if sample_spec(header) is not None else None

    def adapt(self, port: str, frame: Frame) -> Frame:
        if port != "iq":
            return frame
        (samples,) = frame.arrays.values()
        if samples.ndim == 3:  # re, im
            full_scale = np.float32(np.iinfo(samples.dtype).max + 1)
            samples = (samples.astype(np.float32) / full_scale).view(np.complex64)[..., 0]
        elif samples.dtype != np.complex64:
            samples = samples.astype(np.complex64)
        spec = ArraySpec("iq", "complex64", samples.shape, ("sensor", "snapshot"), "FS")
        return Frame(frame.header.replace(arrays=(spec,)), {"iq": samples})
