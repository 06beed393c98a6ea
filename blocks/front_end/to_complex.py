"""Counts of a converter to complex samples of full scale 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hil.block import Block, Out, Result
from hil.errors import EstimationError, PortError
from hil.frame import AnyArray, Frame
from hil.params import Params
from hil.port import Port
from hil.streams import IQ, port_of

C64 = npt.NDArray[np.complex64]

#: Complex samples that are turned from interleaved to one channel a row at a time: they stay in the cache meanwhile.
_TILE = 1 << 16
#: ... but no fewer snapshots than this, so that a row of a tile fills lines of the cache.
_LEAST_SNAPSHOTS = 32


def to_complex(raw: AnyArray, axes: Sequence[str], full_scale: float = 1.0, offset: float = 0.0) -> C64:
    """Return ``(raw - offset) / full_scale`` as complex samples, one channel a row.

    The division is a multiplication by the float32 nearest ``1 / full_scale``: exact for powers of two.

    Args:
        raw: Samples; a real dtype with the axes ``sensor``, ``snapshot`` in any order and ``component`` (in-phase,
            quadrature) last, or complex64 with ``sensor`` and ``snapshot``, which are taken as they are.
        axes: Names of the axes of ``raw``.
        full_scale: Counts that become 1.
        offset: Counts that become 0.

    Returns:
        complex64 ``[sensor, snapshot]``, contiguous; complex64 input in that order is returned itself.

    Raises:
        PortError: Other axes or another dtype.
    """
    axes = tuple(axes)
    if raw.dtype == np.complex64 and sorted(axes) == ["sensor", "snapshot"] and raw.ndim == 2:
        return np.ascontiguousarray(raw if axes[0] == "sensor" else raw.T)
    real = raw.dtype.kind in "iu" or raw.dtype == np.float32
    if not real or sorted(axes) != ["component", "sensor", "snapshot"] or axes[2] != "component" or raw.ndim != 3:
        raise PortError(
            "to_complex: expected integers or float32 [sensor, snapshot, component] or [snapshot, sensor, component], "
            f"or complex64 [sensor, snapshot], got {raw.dtype.name} [{', '.join(axes)}] of shape {list(raw.shape)}"
        )
    if raw.shape[2] != 2:
        raise PortError(f"to_complex: expected component=2 (in-phase, quadrature), got {raw.shape[2]}")
    raw = np.ascontiguousarray(raw)
    scale = np.float32(1 / full_scale)
    if axes[0] == "sensor":
        n_sensors, n_snapshots = raw.shape[:2]
        out = np.empty((n_sensors, n_snapshots), np.complex64)
        _scaled(raw.reshape(n_sensors, 2 * n_snapshots), scale, offset, out.view(np.float32))
        return out
    n_snapshots, n_sensors = raw.shape[:2]
    out = np.empty((n_sensors, n_snapshots), np.complex64)
    parts = out.view(np.float32)
    # a pair of components moves as one item; what is read and written in turns stays in the cache
    pair = np.dtype((np.void, 2 * raw.itemsize)) if raw.itemsize > 4 else np.dtype(f"u{2 * raw.itemsize}")
    pairs = raw.reshape(n_snapshots, 2 * n_sensors).view(pair)
    length = max(_LEAST_SNAPSHOTS, _TILE // max(n_sensors, 1))
    tile = np.empty((n_sensors, min(length, n_snapshots)), pair)
    for start in range(0, n_snapshots, length):
        n = min(length, n_snapshots - start)
        np.copyto(tile[:, :n], pairs[start : start + n].T)
        _scaled(tile[:, :n].view(raw.dtype), scale, offset, parts[:, 2 * start : 2 * (start + n)])
    return out


def _scaled(counts: AnyArray, scale: np.float32, offset: float, out: npt.NDArray[np.float32]) -> None:
    """Write ``(counts - offset) * scale`` to ``out``, converted as it is read."""
    if offset:
        np.subtract(counts, np.float32(offset), out=out, dtype=np.float32, casting="unsafe")
        np.multiply(out, scale, out=out)
    else:
        np.multiply(counts, scale, out=out, dtype=np.float32, casting="unsafe")


PositiveCounts = Annotated[float, Meta(gt=0)]


class ToComplexParams(Params, frozen=True):
    full_scale: Annotated[
        PositiveCounts | None, Meta(description="Counts of full scale 1; absent: as the source's descriptor says")
    ] = None
    offset: Annotated[
        float | None, Meta(description="Counts that mean 0; absent: as the source's descriptor says, else 0")
    ] = None


class ToComplex(Block):
    """IQ of full scale 1 from whatever a device gives: the header names the axes, the descriptor full scale and offset.

    complex64 samples pass through, so that a graph need not know which device it has. What the device says of a frame
    (``meta``: gain, noise source) is handed on.
    """

    params: ToComplexParams
    inputs = {"raw": Port.any()}
    outputs = {"iq": port_of(IQ)}

    def setup(self) -> None:
        self._raw: dict[str, Any] = getattr(self, "_raw", {})

    def on_descriptor(self, frame: Frame, port: str) -> None:
        super().on_descriptor(frame, port)
        self._raw = dict(frame.header.meta.get("raw", {}))

    def process(self, arrays: dict[str, AnyArray]) -> Result:
        name = "iq" if "iq" in arrays else next(iter(arrays), "iq")
        specs = {spec.name: spec for spec in self.header.arrays}
        if name not in specs or (len(arrays) > 1 and name != "iq"):
            has = ", ".join(arrays) or "none"
            raise PortError(f"{self.name}.raw: expected a frame with an array 'iq' and named axes, got arrays: {has}")
        raw, axes = arrays[name], specs[name].axes
        if raw.dtype == np.complex64:
            return Out({"iq": to_complex(raw, axes)}, {"meta": self.header.meta})
        given, said = self.params.full_scale, self._raw.get("full_scale")
        full_scale = said if given is None else given
        if full_scale is None:
            raise EstimationError(
                f"{self.name}: it is not known how many counts of {raw.dtype.name} are full scale: stream "
                f"{self.header.stream!r} has no descriptor with raw.full_scale; give the parameter full_scale"
            )
        offset = self._raw.get("offset", 0.0) if self.params.offset is None else self.params.offset
        return Out({"iq": to_complex(raw, axes, float(full_scale), float(offset))}, {"meta": self.header.meta})
