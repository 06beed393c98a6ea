"""Load what a table driver needs from CSV, NPY, NPZ, MAT and HDF5 files. Nothing in a file is ever executed."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np

from hil.errors import DriverError
from hil.frame import AnyArray

#: The largest file, and the largest array in one, that is loaded.
MAX_BYTES = 4 << 30
SUFFIXES = (".csv", ".txt", ".tsv", ".npy", ".npz", ".mat", ".h5", ".hdf5")


@dataclass
class Loaded:
    """Arrays of one file by name; those of a CSV file are one, called ``""``, of the columns that were asked for.

    Attributes:
        arrays: What was asked for.
        columns: Of a CSV file: which column each column of the array is.
        rows: Of a CSV file: the number of each row in the file, from 1.
        bad_rows: Of a CSV file: rows that were left out, and why.
    """

    arrays: dict[str, AnyArray]
    columns: list[int] | None = None
    n_columns: int | None = None
    rows: list[int] | None = None
    bad_rows: dict[int, str] = field(default_factory=dict)


def load_csv(path: Path, columns: Collection[slice], delimiter: str, skip_rows: int) -> Loaded:
    """Read the rows of ``path`` that have as many cells as most, and finite numbers in ``columns``.

    Raises:
        DriverError: It cannot be read, or has no rows.
    """
    lines = _bytes(path).decode("utf-8", "replace").splitlines()
    cells = {
        number: line.split(delimiter if delimiter != " " else None)
        for number, line in enumerate(lines, start=1)
        if number > skip_rows and line.strip() and not line.lstrip().startswith("#")
    }
    if not cells:
        raise DriverError(f"{path} has no rows")
    n_columns, _ = Counter(map(len, cells.values())).most_common(1)[0]
    used = sorted({c for part in columns for c in range(*part.indices(n_columns))})
    good: list[AnyArray] = []
    loaded = Loaded({}, used, n_columns, [])
    assert loaded.rows is not None
    for number, row in cells.items():
        if len(row) != n_columns:
            loaded.bad_rows[number] = f"{len(row)} columns, the others have {n_columns}"
            continue
        try:
            values = np.array([float(row[c]) for c in used])
        except ValueError as error:
            loaded.bad_rows[number] = str(error)[:100]
            continue
        if not np.isfinite(values).all():
            loaded.bad_rows[number] = (
                f"{values[~np.isfinite(values)][0]} in column {used[int(np.argmin(np.isfinite(values)))]}"
            )
            continue
        good.append(values)
        loaded.rows.append(number)
    loaded.arrays[""] = np.array(good).reshape(len(good), len(used))
    return loaded


def load_arrays(path: Path, keys: Collection[str | None]) -> Loaded:
    """Load the variables ``keys`` of an NPY, NPZ, MAT or HDF5 file; ``None`` is the only one.

    Raises:
        DriverError: The file cannot be read, has no such variable, or one that is no array of numbers.
    """
    loaders: dict[str, Callable[[Path, Collection[str | None]], dict[str, AnyArray]]] = {
        ".npy": _load_npy,
        ".npz": _load_npz,
        ".mat": _load_mat,
        ".h5": _load_hdf5,
        ".hdf5": _load_hdf5,
    }
    loader = loaders.get(path.suffix.lower())
    if loader is None:
        raise DriverError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what libraries find odd in a file is said below, if it matters
            arrays = loader(path, keys)
    except DriverError:
        raise
    except Exception as error:
        # Readers of damaged files raise almost anything; whatever it was, the file cannot be read
        raise DriverError(f"cannot read {path}: {type(error).__name__}: {str(error)[:200]}") from error
    for key, array in arrays.items():
        if array.dtype.kind not in "iufcb":
            raise DriverError(f"{path}: {key or 'the array'} is {array.dtype}, expected numbers")
    return Loaded(arrays)


def _bytes(path: Path) -> bytes:
    try:
        _check_size(path, "the file", path.stat().st_size)
        return path.read_bytes()
    except OSError as error:
        raise DriverError(f"cannot read {path}: {error.strerror}") from error


def _check_size(path: Path, what: str, n_bytes: int) -> None:
    if n_bytes > MAX_BYTES:
        raise DriverError(f"{path}: {what} has {n_bytes} bytes, the limit is {MAX_BYTES}")


def _choose(path: Path, keys: Collection[str | None], has: list[str]) -> dict[str | None, str]:
    """Name of each variable asked for.

    Raises:
        DriverError: There is none of that name, or several where one was expected.
    """
    chosen: dict[str | None, str] = {}
    for key in keys:
        if key is None and len(has) == 1:
            chosen[key] = has[0]
        elif key in has:
            chosen[key] = str(key)
        else:
            what = "several variables and no key" if key is None else f"no variable {key!r}"
            raise DriverError(f"{path} has {what}: it has {', '.join(has[:20]) or 'none'}")
    return chosen


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not loaded")
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, fortran, dtype


def _load_npy(path: Path, keys: Collection[str | None]) -> dict[str, AnyArray]:
    _choose(path, keys, [""])
    with path.open("rb") as file:
        shape, fortran, dtype = _npy_header(file)
        n_bytes = math.prod(shape) * dtype.itemsize
        has = path.stat().st_size - file.tell()
        if n_bytes != has:
            raise ValueError(f"its header says {dtype} {list(shape)} = {n_bytes} bytes, {has} follow")
        _check_size(path, "the array", n_bytes)
        return {"": np.frombuffer(file.read(n_bytes), dtype).reshape(shape, order="F" if fortran else "C")}


def _load_npz(path: Path, keys: Collection[str | None]) -> dict[str, AnyArray]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        for name in _choose(path, keys, list(members)).values():
            _check_size(path, name, members[name].file_size)
            with archive.open(members[name]) as member:
                data = member.read(members[name].file_size)
            file = BytesIO(data)
            shape, fortran, dtype = _npy_header(file)
            n_bytes = math.prod(shape) * dtype.itemsize
            if n_bytes != len(data) - file.tell():
                raise ValueError(f"the header of {name} says {dtype} {list(shape)} = {n_bytes} bytes")
            flat = np.frombuffer(data, dtype, offset=file.tell())
            arrays[name] = flat.reshape(shape, order="F" if fortran else "C")
    return _named(arrays, keys)


def _load_mat(path: Path, keys: Collection[str | None]) -> dict[str, AnyArray]:
    import scipy.io

    _check_size(path, "the file", path.stat().st_size)
    with path.open("rb") as file:
        head = file.read(128)
    if b"MATLAB 7.3" in head:
        return _load_hdf5(path, keys, matlab=True)
    listed = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
    chosen = _choose(path, keys, list(listed))
    for name in chosen.values():
        _check_size(path, name, 16 * math.prod(listed[name][0]))
    loaded = scipy.io.loadmat(path, variable_names=list(chosen.values()))
    return _named({name: np.asarray(loaded[name]) for name in chosen.values()}, keys)


def _load_hdf5(path: Path, keys: Collection[str | None], *, matlab: bool = False) -> dict[str, AnyArray]:
    try:
        import h5py
    except ImportError as error:
        raise DriverError(f"{path} needs the package h5py: pip install hil-receiver[tables]") from error
    arrays = {}
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in _choose(path, keys, [n for n in names if not n.startswith("#refs#")]).values():
            dataset = file[name]
            _check_size(path, name, dataset.size * dataset.dtype.itemsize)
            array = dataset[()]
            if array.dtype.names == ("real", "imag"):  # how MATLAB stores complex numbers
                array = array["real"] + 1j * array["imag"]
            arrays[name] = array.T if matlab else np.asarray(array)  # MATLAB names axes from the fastest
    return _named(arrays, keys)


def _named(arrays: dict[str, AnyArray], keys: Collection[str | None]) -> dict[str, AnyArray]:
    """The same, with the only one under ``""`` too where no key was given."""
    if None in keys:
        arrays[""] = next(iter(arrays.values()))
    return arrays
