"""Frames from tables: CSV, NPY, NPZ, MAT and HDF5 files with a declared mapping.

::

    Table(
        "captures",
        paths=["../shared/data/ble-uca8/*.csv"],
        port="switched",
        fields={
            "phase_rad": {
                "columns": "2:113", "shape": [37, 3], "axes": "slot sample", "unit": "rad", "scale": math.pi / 201
            },
            "emitter": {"columns": 1, "dtype": "int64"},
        },
        time={"columns": 0, "unit": "s"},
        truth_from_name={"pattern": r"x(?P<x>\\d+)y(?P<y>\\d+)", "scale_m": [3, 3, 1]},
    )
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from drivers.paced import Paced, PacedParams
from drivers.table_fields import FileFields
from drivers.table_files import Loaded, load_arrays, load_csv
from drivers.table_mapping import FieldMap, NameTruth, TimeMap, column_slice
from hil.errors import DriverError, ParamError
from hil.frame import NO_LOSS, AnyArray, ArraySpec, Frame, Header, Loss, Timebase
from hil.params import Hz
from hil.port import Port, field
from hil.streams import TRUTH
from hil.streams import port_of as port_of_stream

_NS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
_TEXT = (".csv", ".tsv", ".txt")


class TableParams(PacedParams, frozen=True, kw_only=True):
    paths: Annotated[list[str], Meta(min_length=1, description="Files, or patterns like 'data/*.csv', in order")]
    fields: Annotated[dict[str, FieldMap], Meta(min_length=1, description="The arrays of a frame, by name")]
    port: Annotated[str, Meta(min_length=1, description="Name of the output")] = "data"
    time: Annotated[TimeMap | None, Meta(description="Where the time of a frame is")] = None
    timebase: Annotated[Timebase, Meta(description="What that time counts from")] = "device"
    truth: Annotated[
        dict[str, FieldMap] | None, Meta(description="position_m and more of the stream truth, where the table has it")
    ] = None
    truth_from_name: Annotated[NameTruth | None, Meta(description="A true position in the name of the file")] = None
    sample_rate_hz: Annotated[Hz | None, Meta(description="Sample rate, where it is known")] = None
    frequency_hz: Annotated[Hz | None, Meta(description="Centre frequency, where it is known")] = None
    delimiter: Annotated[str, Meta(min_length=1, max_length=1, description="Between cells; a blank: any blanks")] = ","
    skip_rows: Annotated[int, Meta(ge=0, description="Lines before the first row")] = 0
    strict: Annotated[bool, Meta(description="Refuse a file with a bad row instead of leaving the row out")] = False


class Table(Paced):
    """One frame a row of a table, an entry along the axis ``frame`` or a cut of samples; else one frame a file.

    Frames are numbered through all files. A row that is not numbers, not finite or of another length is left out:
    its number stays unused, the next frame's ``lost`` counts it, and an event ``bad_rows`` names it. Each file is
    an epoch of its own, begins with an event ``file``, and every frame says in its meta which file and row it is.

    Raises:
        ParamError: A mapping that cannot be.
        DriverError: No such file, or one in which what is mapped is not there.
    """

    params: TableParams

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        p, who = self.params, f"Table {self.name!r}"
        if p.truth is not None and p.truth_from_name is not None:
            raise ParamError(f"{who}: truth comes from the table or from the name of the file, not from both")
        for group, fields in (("fields", p.fields), ("truth", p.truth or {})):
            for key, mapped in fields.items():
                mapped.check(f"{who}: {group}.{key}")
        self._pattern = None if p.truth_from_name is None else p.truth_from_name.compiled(f"{who}: truth_from_name")
        declared = {n: field(f.dtype, f.axes, f.unit) for n, f in p.fields.items()}
        outputs = {p.port: Port.of(latest=False, **declared)}
        if p.truth is not None or p.truth_from_name is not None:
            if p.port == "truth":
                raise ParamError(f"{who}: port 'truth' is that of the true positions: call the other differently")
            outputs["truth"] = port_of_stream(TRUTH)
        self._check_truth(who)
        # Each table has the outputs that were declared for it
        self.outputs = outputs  # type: ignore[misc]
        self._n_files = self._n_bad = 0

    def port_of(self, header: Header) -> str | None:
        return header.stream

    def open_frames(self) -> Iterator[Frame]:
        paths: list[Path] = []
        for pattern in self.params.paths:
            found = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
            if not found:
                raise DriverError(f"Table {self.name!r}: no file matches {pattern}")
            paths += map(Path, found)
        for path in paths:
            if not path.is_file():
                raise DriverError(f"Table {self.name!r}: {path} is no file")
        return self._read_files(paths)

    def stats(self) -> dict[str, Any]:
        return {"files": self._n_files, "frames": self.n_frames, "bad_rows": self._n_bad}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _check_truth(self, who: str) -> None:
        for key, mapped in (self.params.truth or {}).items():
            declared = TRUTH.get(key)
            if declared is None:
                raise ParamError(f"{who}: truth has no {key!r}, only {', '.join(TRUTH)}")
            if (mapped.dtype, mapped.axis_names, mapped.unit) != (declared.dtype, declared.axes, declared.unit):
                axes = " ".join(declared.axes)
                raise ParamError(
                    f"{who}: truth.{key} must be {declared.dtype} [{axes}] in {declared.unit or 'no unit'}"
                )
        missing = {"position_m", "id"} - set(self.params.truth or ("position_m", "id"))
        if missing:
            raise ParamError(f"{who}: truth needs {', '.join(sorted(missing))}")

    def _read_files(self, paths: list[Path]) -> Iterator[Frame]:
        seq = 0
        lost = 0
        for epoch, path in enumerate(paths):
            loaded = self._load(path)
            truth = self._truth_of(path)
            table = FileFields(path, loaded, self.params.fields)
            beside = FileFields(path, loaded, self.params.truth or {}, n_frames=table.n_frames)
            time_ns = self._times(path, loaded, table)
            bad = loaded.bad_rows | table.bad_frames() | beside.bad_frames()
            self._n_files += 1
            self._n_bad += len(bad)
            base = Header(
                self.params.port,
                seq,
                epoch=epoch,
                sample_rate_hz=self.params.sample_rate_hz,
                frequency_hz=self.params.frequency_hz,
            )
            if bad and self.params.strict:
                row, reason = next(iter(bad.items()))
                raise DriverError(f"Table {self.name!r}: {path}: row {row}: {reason}; strict=false leaves it out")
            yield Frame(base.replace(kind="event", meta={"event": "file", "file": path.name}))
            if bad:
                meta = {
                    "event": "bad_rows",
                    "file": path.name,
                    "n": len(bad),
                    "rows": list(bad)[:100],
                    "reason": next(iter(bad.values())),
                }
                yield Frame(base.replace(kind="event", meta=meta))
            for row, index in table.order():
                if row in bad or index is None:
                    lost += 1
                    seq += 1
                    continue
                header = base.replace(
                    seq=seq,
                    sample_start=None if table.n_split is None else index * table.n_split,
                    time_ns=None if time_ns is None else int(time_ns[index]),
                    timebase=None if time_ns is None else self.params.timebase,
                    lost=Loss(frames=lost) if lost else NO_LOSS,
                    meta={"file": path.name, "row": row},
                )
                yield Frame(header.replace(arrays=table.specs), table.frame(index))
                if truth is not None or self.params.truth is not None:
                    arrays = truth if truth is not None else beside.frame(index)
                    yield Frame(header.replace(stream="truth", arrays=_truth_specs(arrays)), arrays)
                lost = 0
                seq += 1

    def _load(self, path: Path) -> Loaded:
        p = self.params
        maps = [*p.fields.values(), *(p.truth or {}).values()]
        who = f"Table {self.name!r}"
        if path.suffix.lower() in _TEXT:
            wanted = [c for m in maps for c in (m.columns, m.imag_columns) if c is not None]
            if p.time is not None and p.time.columns is not None:
                wanted.append(p.time.columns)
            if not wanted or any(m.columns is None for m in maps):
                raise DriverError(f"{who}: {path} is text: give the columns of every field")
            return load_csv(path, [column_slice(c, who) for c in wanted], p.delimiter, p.skip_rows)
        keys = {m.key for m in maps} | {m.imag_key for m in maps if m.imag_key is not None}
        if p.time is not None:
            keys.add(p.time.key)
        return load_arrays(path, keys)

    def _times(self, path: Path, loaded: Loaded, table: FileFields) -> AnyArray | None:
        time, rate_hz = self.params.time, self.params.sample_rate_hz
        if time is None:
            if table.n_split is None or rate_hz is None:
                return None
            return np.rint(np.arange(table.n_frames) * (table.n_split / rate_hz * 1e9)).astype(np.int64)
        mapped = FieldMap(columns=time.columns, key=time.key)
        values = FileFields(path, loaded, {"time": mapped}, n_frames=table.n_frames).whole("time")
        values = values.reshape(-1)
        if len(values) != table.n_frames:
            raise DriverError(f"{path}: time has {len(values)} values, there are {table.n_frames} frames")
        ns = np.rint(values * _NS[time.unit])
        if not (np.abs(ns) < 2.0**62).all():
            raise DriverError(f"{path}: time {values[np.argmax(~(np.abs(ns) < 2.0**62))]} {time.unit} is out of range")
        return ns.astype(np.int64)

    def _truth_of(self, path: Path) -> dict[str, AnyArray] | None:
        named = self.params.truth_from_name
        if named is None or self._pattern is None:
            return None
        match = self._pattern.search(path.name)
        if match is None:
            raise DriverError(f"Table {self.name!r}: the name {path.name} does not match {named.pattern!r}")
        groups = match.groupdict()
        try:
            units = np.array([float(groups.get(axis) or 0) for axis in "xyz"])
        except ValueError as error:
            raise DriverError(f"Table {self.name!r}: the name {path.name}: {error}") from error
        return {
            "position_m": (units * named.scale_m + named.offset_m)[None],
            "id": np.array([named.id], np.int64),
        }


def _truth_specs(arrays: dict[str, AnyArray]) -> tuple[ArraySpec, ...]:
    return tuple(ArraySpec(n, a.dtype.name, a.shape, TRUTH[n].axes, TRUTH[n].unit) for n, a in arrays.items())
