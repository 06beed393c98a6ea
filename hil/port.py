"""A port declares what flows: for each array its dtype, axis names in order, and unit.

Ports are checked twice: when they are connected, and for each frame. A check that passed is remembered by its
dtypes and shapes, so that a steady stream pays for it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from hil.errors import PortError
from hil.frame import AnyArray, ArraySpec, Frame


class Field(NamedTuple):
    """One array of a port. An ``optional`` one may be missing from a frame."""

    dtype: str
    axes: tuple[str, ...]
    unit: str = ""
    optional: bool = False

    def text(self, sizes: Mapping[str, int]) -> str:
        axes = ", ".join(f"{a}={sizes[a]}" if a in sizes else a for a in self.axes)
        return f"{self.dtype} [{axes}]"


def field(dtype: str, axes: str, unit: str = "", *, optional: bool = False) -> Field:
    """Declare one array: ``field("float64", "source xyz", "m")``."""
    return Field(np.dtype(dtype).name, tuple(axes.split()), unit, optional)


class Port:
    """What an input takes or an output gives.

    ``Port("complex64", "sensor snapshot", unit="FS")`` is a port of one array, called ``name``;
    ``Port.of(azimuth_rad=field(...), ...)`` one of several; ``Port.any()`` takes whatever comes.

    Args:
        latest: Input only. The newest frame is kept and handed along with those of the other inputs; it is not
            waited for, and ``None`` before the first one came.
    """

    def __init__(self, dtype: str, axes: str, unit: str = "", *, name: str = "x", latest: bool = False) -> None:
        self.fields: dict[str, Field] | None = {name: field(dtype, axes, unit)}
        self.latest = latest

    @classmethod
    def of(cls, *, latest: bool = False, **fields: Field) -> Port:
        port = cls.__new__(cls)
        port.fields, port.latest = fields, latest
        return port

    @classmethod
    def any(cls, *, latest: bool = False) -> Port:
        port = cls.__new__(cls)
        port.fields, port.latest = None, latest
        return port

    @property
    def single(self) -> str | None:
        """Name of the only array, where the port has one."""
        return next(iter(self.fields)) if self.fields is not None and len(self.fields) == 1 else None

    def take(self, frame: Frame, where: str) -> dict[str, AnyArray]:
        """Return the arrays of ``frame`` that this port declares, under the port's names.

        Raises:
            PortError: One that is not optional is missing.
        """
        if self.fields is None:
            return dict(frame.arrays)
        if len(self.fields) == 1 and len(frame.arrays) == 1:  # the only array, whatever it is called upstream
            return {next(iter(self.fields)): next(iter(frame.arrays.values()))}
        taken = {name: frame.arrays[name] for name in self.fields if name in frame.arrays}
        for name, declared in self.fields.items():
            if name not in taken and not declared.optional:
                has = ", ".join(frame.arrays) or "none"
                raise PortError(f"{where}: expected an array {name!r}, got {has} in stream {frame.header.stream!r}")
        return taken

    def check(self, arrays: Mapping[str, AnyArray], sizes: Mapping[str, int], where: str) -> tuple[ArraySpec, ...]:
        """Check arrays against the port and the block's ``sizes``; return their description.

        Raises:
            PortError: Wrong dtype, number of axes or size; names both.
        """
        if self.fields is None:
            return tuple(ArraySpec(n, a.dtype.name, a.shape, ("",) * a.ndim) for n, a in arrays.items())
        seen = dict(sizes)
        specs = []
        for name, array in arrays.items():
            declared = self.fields.get(name)
            if declared is None:
                raise PortError(f"{where}: no array {name!r} is declared, only {', '.join(self.fields)}")
            fits = array.dtype.name == declared.dtype and array.ndim == len(declared.axes)
            if not fits or any(seen.setdefault(a, n) != n for a, n in zip(declared.axes, array.shape, strict=True)):
                label = where if self.single else f"{where}.{name}"
                came = f"{array.dtype.name} {list(array.shape)}"
                raise PortError(f"{label}: expected {declared.text({**seen, **sizes})}, got {came}")
            specs.append(ArraySpec(name, declared.dtype, array.shape, declared.axes, declared.unit))
        return tuple(specs)


def check_connection(
    source: Port,
    source_sizes: Mapping[str, int],
    source_where: str,
    sink: Port,
    sink_sizes: Mapping[str, int],
    sink_where: str,
) -> None:
    """Check that what ``source`` gives fits what ``sink`` takes.

    Raises:
        PortError: Names both ends and what differs.
    """
    if source.fields is None or sink.fields is None:
        return
    prefix = f"cannot connect {source_where} to {sink_where}"
    for name, wanted in sink.fields.items():
        given_name = source.single if sink.single and source.single else name
        given = source.fields.get(given_name or name)
        if given is None:
            if wanted.optional:
                continue
            raise PortError(f"{prefix}: it needs an array {name!r}, the output has {', '.join(source.fields)}")
        if given.dtype != wanted.dtype:
            raise PortError(f"{prefix}: {name!r} is {given.dtype}, expected {wanted.dtype}")
        if given.axes != wanted.axes:
            raise PortError(
                f"{prefix}: {name!r} has axes [{', '.join(given.axes)}], expected [{', '.join(wanted.axes)}]"
            )
        if given.unit != wanted.unit:
            raise PortError(f"{prefix}: {name!r} is in {given.unit or 'no unit'}, expected {wanted.unit or 'no unit'}")
        for axis in wanted.axes:
            a, b = source_sizes.get(axis), sink_sizes.get(axis)
            if a is not None and b is not None and a != b:
                names = source_where.split(".")[0], sink_where.split(".")[0]
                raise PortError(f"{prefix}: {axis}={a} on {names[0]!r}, {axis}={b} on {names[1]!r}")
