"""Channel estimates as a base station gives them to complex numbers."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hil.block import Block, Out, Result
from hil.errors import PortError
from hil.frame import AnyArray, Frame
from hil.params import Params
from hil.port import Port
from hil.streams import CFR, port_of

C64 = npt.NDArray[np.complex64]

#: What counts are divided by where nobody says what full scale is: their scale is arbitrary then.
_SCALE = {"int16": 32768.0, "int8": 128.0, "float32": 1.0}


def cfr_to_complex(raw: AnyArray, full_scale: float) -> C64:
    """Return ``raw / full_scale`` as complex numbers.

    Args:
        raw: ``[sensor, subcarrier, component]`` int8, int16 or float32: in-phase and quadrature.
        full_scale: Counts that become 1.

    Returns:
        ``[sensor, subcarrier]`` complex64.
    """
    if raw.ndim != 3 or raw.shape[2] != 2 or raw.dtype.name not in _SCALE:
        raise PortError(
            f"cfr_to_complex: expected {', '.join(_SCALE)} [sensor, subcarrier, component=2], got {raw.dtype.name} "
            f"{list(raw.shape)}"
        )
    out = np.empty(raw.shape[:2], np.complex64)
    np.multiply(raw, np.float32(1 / full_scale), out=out.view(np.float32).reshape(raw.shape), casting="unsafe")
    return out


class CfrToComplexParams(Params, frozen=True):
    full_scale: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="Counts that become 1; absent: as the descriptor says, else the most that the dtype holds"),
    ] = None


class CfrToComplex(Block):
    """CFR from whatever a base station gives: counts or floats with a component axis, or complex64 as it is.

    What the source says of a frame (``meta``: frame, slot, port, time of arrival) is handed on.
    """

    params: CfrToComplexParams
    inputs = {"raw": Port.any()}
    outputs = {"cfr": port_of(CFR)}

    def setup(self) -> None:
        self._raw: dict[str, Any] = getattr(self, "_raw", {})

    def on_descriptor(self, frame: Frame, port: str) -> None:
        super().on_descriptor(frame, port)
        self._raw = dict(frame.header.meta.get("raw", {}))

    def process(self, arrays: dict[str, AnyArray]) -> Result:
        missing = [name for name in CFR if name not in arrays]
        if missing:
            has = ", ".join(arrays) or "none"
            raise PortError(f"{self.name}.raw: expected arrays {', '.join(CFR)}, got {has}: connect a stream of CFR")
        raw = arrays["cfr"]
        if raw.dtype == np.complex64:
            cfr: C64 = raw
        else:
            given, said = self.params.full_scale, self._raw.get("full_scale")
            cfr = cfr_to_complex(raw, float(given or said or _SCALE.get(raw.dtype.name, 1.0)))
        changed = {"cfr": cfr, "subcarrier_hz": arrays["subcarrier_hz"], "rnti": arrays["rnti"]}
        return Out(changed, {"meta": self.header.meta})
