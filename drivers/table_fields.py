"""The arrays of one file, cut into frames as they were mapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from drivers.table_files import Loaded
from drivers.table_mapping import FRAME_AXIS, Columns, FieldMap, column_slice
from hil.errors import DriverError
from hil.frame import AnyArray, ArraySpec


class FileFields:
    """Fields of one file: each as ``[frame, ...axes]``, or ``[...axes]`` where it is the same in all frames.

    Args:
        n_frames: How many frames there are, where other fields of the file tell.

    Raises:
        DriverError: A field is not in the file, or not of the shape that was declared; says both.
    """

    def __init__(
        self, path: Path, loaded: Loaded, fields: Mapping[str, FieldMap], *, n_frames: int | None = None
    ) -> None:
        self._path = path
        self._loaded = loaded
        self._fields = fields
        self._arrays: dict[str, AnyArray] = {}
        self._per_frame: dict[str, bool] = {}
        self._bad: dict[int, str] = {}
        #: Samples that a frame was cut to, where one was.
        self.n_split = next((f.split for f in fields.values() if f.split is not None), None)
        counts: dict[str, int] = {}
        for name, mapped in fields.items():
            array, per_frame = self._take(name, mapped)
            self._arrays[name], self._per_frame[name] = array, per_frame
            if per_frame:
                counts[name] = len(array)
        if len(set(counts.values())) > 1:
            raise DriverError(f"{path}: fields have different numbers of frames: {counts}")
        self.n_frames = n_frames if n_frames is not None else next(iter(counts.values()), 1)
        if counts and next(iter(counts.values())) != self.n_frames:
            raise DriverError(f"{path}: {counts} frames, expected {self.n_frames}")

    @property
    def specs(self) -> tuple[ArraySpec, ...]:
        """Description of the arrays of a frame."""
        return tuple(
            ArraySpec(n, f.dtype, self._arrays[n].shape[self._per_frame[n] :], f.axis_names, f.unit)
            for n, f in self._fields.items()
        )

    def frame(self, index: int) -> dict[str, AnyArray]:
        """Arrays of frame ``index``, contiguous."""
        return {
            name: np.array(array[index] if self._per_frame[name] else array, order="C")
            for name, array in self._arrays.items()
        }

    def whole(self, name: str) -> AnyArray:
        return self._arrays[name]

    def bad_frames(self) -> dict[int, str]:
        """Number in the file, from 1, of each row or frame with a value that cannot be, and which."""
        return {self._row_of(index): reason for index, reason in sorted(self._bad.items())}

    def order(self) -> Iterator[tuple[int, int | None]]:
        """Number of each row or frame of the file, from 1, with the frame that it became or ``None``."""
        frame_of: dict[int, int | None] = dict.fromkeys(self._loaded.bad_rows)
        frame_of.update((self._row_of(index), index) for index in range(self.n_frames))
        yield from sorted(frame_of.items(), key=lambda item: item[0])

    # -- inside ----------------------------------------------------------------------------------------------------

    def _row_of(self, index: int) -> int:
        return index + 1 if self._loaded.rows is None else self._loaded.rows[index]

    def _take(self, name: str, mapped: FieldMap) -> tuple[AnyArray, bool]:
        where = f"{self._path}: field {name!r}"
        stored = self._array(mapped.key, where)
        if mapped.columns is not None:
            values = self._columns(stored, mapped.columns, where)
            if mapped.imag_columns is not None:
                imag = self._columns(stored, mapped.imag_columns, where)
                if imag.shape != values.shape:
                    raise DriverError(f"{where}: {values.shape[1]} columns of real, {imag.shape[1]} of imaginary part")
                values = values + 1j * imag
            return self._typed(self._shaped(values, mapped, where), mapped, where, per_frame=True), True
        if mapped.imag_key is not None:
            imag = self._array(mapped.imag_key, where)
            if imag.shape != stored.shape:
                raise DriverError(f"{where}: real part is {list(stored.shape)}, imaginary part {list(imag.shape)}")
            stored = stored + 1j * imag
        names = mapped.stored_names
        if stored.ndim != len(names):
            stored = _without_ones(stored, len(names))
        if stored.ndim != len(names):
            came = f"{stored.dtype} {list(stored.shape)}"
            raise DriverError(f"{where}: expected axes [{', '.join(names)}], {mapped.key or 'the array'} is {came}")
        per_frame = FRAME_AXIS in names
        wanted = ((FRAME_AXIS,) if per_frame else ()) + mapped.axis_names
        ordered = stored if wanted == names else stored.transpose([names.index(n) for n in wanted])
        sizes = ordered.shape[per_frame:]
        if mapped.shape is not None and any(s not in (-1, n) for s, n in zip(mapped.shape, sizes, strict=False)):
            raise DriverError(f"{where}: expected shape {list(mapped.shape)}, got {list(sizes)} [{mapped.axes}]")
        if mapped.split is not None:
            n = ordered.shape[-1] // mapped.split
            cut = ordered[..., : n * mapped.split].reshape(*ordered.shape[:-1], n, mapped.split)
            ordered, per_frame = np.moveaxis(cut, -2, 0), True
        return self._typed(ordered, mapped, where, per_frame=per_frame), per_frame

    def _array(self, key: str | None, where: str) -> AnyArray:
        array = self._loaded.arrays.get(key or "")
        if array is None:
            raise DriverError(f"{where}: no variable {key!r}, only {', '.join(self._loaded.arrays)}")
        return array

    def _columns(self, table: AnyArray, columns: Columns, where: str) -> AnyArray:
        if table.ndim != 2:
            raise DriverError(f"{where}: columns are of a table, the array is {table.dtype} {list(table.shape)}")
        n = self._loaded.n_columns if self._loaded.n_columns is not None else table.shape[1]
        part = column_slice(columns, where)
        numbers = list(range(*part.indices(n)))
        if not numbers or (part.stop is not None and part.stop > n):
            raise DriverError(f"{where}: expected columns {columns}, the table has {n}")
        if self._loaded.columns is not None:
            place = {column: index for index, column in enumerate(self._loaded.columns)}
            numbers = [place[column] for column in numbers]
        return table[:, numbers]

    def _shaped(self, values: AnyArray, mapped: FieldMap, where: str) -> AnyArray:
        shape = mapped.shape if mapped.shape is not None else (-1,) * len(mapped.axis_names)
        n = values.shape[1]
        known = int(np.prod([s for s in shape if s >= 0], dtype=np.int64))
        fits = known > 0 and n % known == 0 if -1 in shape else known == n
        if not fits:
            sizes = ", ".join(f"{a}={s}" for a, s in zip(mapped.axis_names, shape, strict=True)) or "one value"
            raise DriverError(f"{where}: columns {mapped.columns} are {n} values, expected [{sizes}]")
        return values.reshape(len(values), *(s if s >= 0 else n // known for s in shape))

    def _typed(self, values: AnyArray, mapped: FieldMap, where: str, *, per_frame: bool) -> AnyArray:
        """Values in the field's unit and type. Frames in which one cannot be are noted and hold 0 there."""
        dtype = np.dtype(mapped.dtype)
        if values.dtype.kind == "c" and dtype.kind != "c":
            raise DriverError(f"{where}: the file has {values.dtype}, expected real numbers for {mapped.dtype}")
        with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is found below
            scaled = values if mapped.scale == 1.0 else values * mapped.scale
            if dtype.kind == "i":
                limits = np.iinfo(dtype)
                good = (scaled == np.rint(scaled)) & (limits.min <= scaled) & (scaled < float(limits.max))
            else:
                good = np.isfinite(scaled.astype(dtype))
        if good.all():
            return scaled.astype(dtype)
        worst = scaled[~good].reshape(-1)[0]
        reason = f"{worst} is no {mapped.dtype} number"
        if not per_frame:
            raise DriverError(f"{where}: {reason}")
        for index in np.flatnonzero(~good.reshape(len(good), -1).all(axis=1)):
            self._bad.setdefault(int(index), f"{where.rpartition(': ')[2]}: {reason}")
        return np.where(good, scaled, 0).astype(dtype)


def _without_ones(array: AnyArray, n_axes: int) -> AnyArray:
    """MATLAB has no vectors, only matrices of one row or column: leave out axes of size 1 that are too many."""
    surplus = [axis for axis, size in enumerate(array.shape) if size == 1][: max(0, array.ndim - n_axes)]
    return array.squeeze(tuple(surplus))
