"""What is where in a table: declared, typed, checked before a file is opened."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta

from hil.errors import ParamError
from hil.params import Params

#: The axis along which a stored array has one entry a frame.
FRAME_AXIS = "frame"

Columns = int | str


class FieldMap(Params, frozen=True):
    """Where one array of a frame comes from.

    A table of rows (CSV, or two-dimensional with ``columns``) gives one frame a row: ``columns`` of it, in the shape
    ``shape``. Another array is stored with the axes ``stored_axes``; that called ``frame`` has one entry a frame, the
    others are put into the order of ``axes``.
    """

    axes: Annotated[str, Meta(description="Axis names of the array in order, 'slot sample'")] = ""
    unit: Annotated[str, Meta(description="Unit of the array, after scaling")] = ""
    dtype: Annotated[
        Literal["float64", "float32", "complex128", "complex64", "int64", "int32", "int16"],
        Meta(description="Type of the array"),
    ] = "float64"
    columns: Annotated[Columns | None, Meta(description="Column 3, or columns '2:113'")] = None
    imag_columns: Annotated[Columns | None, Meta(description="Columns of the imaginary part")] = None
    shape: Annotated[tuple[int, ...] | None, Meta(description="Sizes of the axes; one may be -1")] = None
    key: Annotated[str | None, Meta(description="Variable of NPZ, MAT or HDF5; not needed where there is one")] = None
    imag_key: Annotated[str | None, Meta(description="Variable of the imaginary part")] = None
    stored_axes: Annotated[str | None, Meta(description="Axis names as stored, 'frame snapshot sensor'")] = None
    split: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Cut the last axis into frames of so many, what is left over is left out"),
    ] = None
    scale: Annotated[float, Meta(description="Stored value times this is in the unit")] = 1.0

    @property
    def axis_names(self) -> tuple[str, ...]:
        return tuple(self.axes.split())

    @property
    def stored_names(self) -> tuple[str, ...]:
        if self.stored_axes is not None:
            return tuple(self.stored_axes.split())
        return self.axis_names if self.split is not None else (FRAME_AXIS, *self.axis_names)

    def check(self, who: str) -> None:
        """Raise ``ParamError`` where what is declared cannot be."""
        names = self.axis_names
        if len(set(names)) != len(names) and self.stored_axes is not None:
            raise ParamError(f"{who}: axes {self.axes!r} name one axis twice")
        for columns in (self.columns, self.imag_columns):
            if columns is not None:
                column_slice(columns, who)
        if self.columns is not None:
            if self.shape is not None and len(self.shape) != len(names):
                raise ParamError(f"{who}: shape {list(self.shape)} has {len(self.shape)} sizes, axes are {self.axes!r}")
            if self.shape is None and len(names) > 1:
                raise ParamError(f"{who}: columns in axes {self.axes!r} need a shape")
        elif sorted(n for n in self.stored_names if n != FRAME_AXIS) != sorted(names):
            raise ParamError(
                f"{who}: stored_axes {self.stored_axes!r} are not those of axes {self.axes!r}, and 'frame'"
            )
        if self.split is not None and (not names or self.columns is not None or FRAME_AXIS in self.stored_names):
            raise ParamError(f"{who}: split cuts the last axis of an array without an axis 'frame' into frames")
        if (self.imag_key or self.imag_columns is not None) and not self.dtype.startswith("complex"):
            raise ParamError(f"{who}: an imaginary part needs a complex dtype, got {self.dtype!r}")


class TimeMap(Params, frozen=True):
    """Where the time of a frame comes from."""

    columns: Annotated[Annotated[int, Meta(ge=0)] | None, Meta(description="Column")] = None
    key: Annotated[str | None, Meta(description="Variable, one value a frame")] = None
    unit: Annotated[Literal["s", "ms", "us", "ns"], Meta(description="Unit of the stored time")] = "s"


class NameTruth(Params, frozen=True):
    """A true position in the name of the file: ``x1y3.csv`` by ``x(?P<x>\\d+)y(?P<y>\\d+)``, times ``scale_m``."""

    pattern: Annotated[str, Meta(description="Regular expression with groups named x, y and z; absent ones are 0")]
    scale_m: Annotated[tuple[float, float, float], Meta(description="Metres a unit of each")] = (1.0, 1.0, 1.0)
    offset_m: Annotated[tuple[float, float, float], Meta(description="Added to each, metres")] = (0.0, 0.0, 0.0)
    id: Annotated[int, Meta(description="Identity of what is there")] = 0

    def compiled(self, who: str) -> re.Pattern[str]:
        try:
            pattern = re.compile(self.pattern)
        except re.error as error:
            raise ParamError(f"{who}: {self.pattern!r} is no regular expression: {error}") from error
        has = list(pattern.groupindex)
        if not has or set(has) - {"x", "y", "z"}:
            raise ParamError(f"{who}: {self.pattern!r} must have groups named x, y or z, has {has}")
        return pattern


def column_slice(columns: Columns, who: str) -> slice:
    """The columns that ``3`` or ``"2:113"`` mean.

    Raises:
        ParamError: It means none.
    """
    if isinstance(columns, int):
        if columns < 0:
            raise ParamError(f"{who}: columns count from 0, got {columns}")
        return slice(columns, columns + 1)
    match = re.fullmatch(r"(\d*):(\d*)(?::(\d+))?", columns.strip())
    if match is None or match[3] == "0":
        raise ParamError(f"{who}: columns are a number or 'first:end' or 'first:end:step', got {columns!r}")
    first, end, step = (int(text) if text else None for text in match.groups())
    return slice(first, end, step)
