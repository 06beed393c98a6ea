"""GNU Radio's polymorphic types as bytes, big-endian, and as what Python has for them.

=================================  ====================================================
PMT                                Python
=================================  ====================================================
true, false, nil                   ``True``, ``False``, ``None``
symbol                             ``str``
int32, int64                       ``int``
uint64                             ``Uint64``, an ``int``
double, complex                    ``float``, ``complex``
pair                               ``Pair``; a list, which is a chain of pairs, likewise
dict                               ``dict``; keys are symbols or numbers
vector, tuple                      ``list``, ``tuple``
uniform vector                     NumPy array of one dimension, native byte order
=================================  ====================================================

A PDU is ``Pair(dict or None, uniform vector)``.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

from hil.errors import WireError

TRUE, FALSE, SYMBOL, INT32, DOUBLE, COMPLEX, NIL, PAIR, VECTOR, DICT, UNIFORM, UINT64, TUPLE, INT64 = range(14)
_SUBTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16")

#: Deepest nesting, longest chain or vector of values, and most values in all, that are taken.
MAX_DEPTH, MAX_CHAIN, MAX_ITEMS = 32, 1024, 65_536
MAX_SYMBOL_BYTES = 65_535


class Uint64(int):
    """An integer that goes out as uint64, as the seconds of a time tag do."""


class Pair(NamedTuple):
    car: Any
    cdr: Any


# -- to bytes ----------------------------------------------------------------------------------------------------------


def encode(value: Any) -> bytes:
    """Return ``value`` as bytes.

    Raises:
        WireError: PMT has nothing for it, or it is too large.
    """
    out = bytearray()
    _encode(value, out, 0)
    return bytes(out)


def _encode(value: Any, out: bytearray, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise WireError(f"pmt: nested deeper than {MAX_DEPTH}")
    match value:
        case None:
            out.append(NIL)
        case bool():
            out.append(TRUE if value else FALSE)
        case str():
            text = value.encode()
            if len(text) > MAX_SYMBOL_BYTES:
                raise WireError(f"pmt: a symbol has at most {MAX_SYMBOL_BYTES} bytes, got {len(text)}")
            out += struct.pack(">BH", SYMBOL, len(text)) + text
        case int():
            out += _integer(int(value), isinstance(value, Uint64))
        case float():
            out += struct.pack(">Bd", DOUBLE, value)
        case complex():
            out += struct.pack(">Bdd", COMPLEX, value.real, value.imag)
        case Pair(car, cdr):
            while True:  # along a chain without nesting
                out.append(PAIR)
                _encode(car, out, depth + 1)
                if not isinstance(cdr, Pair):
                    break
                car, cdr = cdr
            _encode(cdr, out, depth + 1)
        case dict():
            for key, item in value.items():
                out.append(DICT)
                _encode(Pair(key, item), out, depth + 1)
            out.append(NIL)
        case list() | tuple():
            out += struct.pack(">BI", VECTOR if isinstance(value, list) else TUPLE, len(value))
            for item in value:
                _encode(item, out, depth + 1)
        case np.ndarray() if value.ndim == 1 and value.dtype.str[1:] in _SUBTYPES:
            subtype = _SUBTYPES.index(value.dtype.str[1:])
            out += struct.pack(">BBIBx", UNIFORM, subtype, len(value), 1)
            out += value.astype(value.dtype.newbyteorder(">"), copy=False).tobytes()
        case _:
            raise WireError(f"pmt: there is nothing for {type(value).__name__}")


def _integer(value: int, unsigned: bool) -> bytes:
    if not unsigned and -(1 << 31) <= value < 1 << 31:
        return struct.pack(">Bi", INT32, value)
    if not unsigned and -(1 << 63) <= value < 1 << 63:
        return struct.pack(">Bq", INT64, value)
    if 0 <= value < 1 << 64:
        return struct.pack(">BQ", UINT64, value)
    raise WireError(f"pmt: no integer type holds {value}")


# -- from bytes --------------------------------------------------------------------------------------------------------


def decode(data: bytes | memoryview, start: int = 0) -> tuple[Any, int]:
    """Read the value that begins at ``start``; return it and where it ends.

    Raises:
        WireError: No value begins there, or it is beyond the limits.
    """
    reader = _Reader(memoryview(data), start)
    try:
        return reader.value(0), reader.place
    except (struct.error, IndexError) as error:
        raise WireError(f"pmt: it ends within a value that began before byte {reader.place}") from error
    except UnicodeDecodeError as error:
        raise WireError(f"pmt: a symbol is no UTF-8: {error}") from error


class _Reader:
    def __init__(self, data: memoryview, place: int) -> None:
        self.data, self.place, self.n_items = data, place, 0

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(form, self.data, self.place)
        self.place += struct.calcsize(form)
        return values

    def raw(self, n: int) -> memoryview:
        if n > len(self.data) - self.place:
            raise WireError(f"pmt: {n} bytes announced, {len(self.data) - self.place} there")
        self.place += n
        return self.data[self.place - n : self.place]

    def value(self, depth: int) -> Any:
        self.n_items += 1
        if depth > MAX_DEPTH or self.n_items > MAX_ITEMS:
            raise WireError(f"pmt: nested deeper than {MAX_DEPTH}, or more than {MAX_ITEMS} values")
        kind = self.data[self.place]
        self.place += 1
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind == NIL:
            return None
        if kind == SYMBOL:
            return str(self.raw(self.take(">H")[0]), "utf-8")
        if kind in (INT32, INT64, DOUBLE):
            return self.take({INT32: ">i", INT64: ">q", DOUBLE: ">d"}[kind])[0]
        if kind == UINT64:
            return Uint64(self.take(">Q")[0])
        if kind == COMPLEX:
            return complex(*self.take(">dd"))
        if kind == PAIR:
            return self._chain(depth)
        if kind == DICT:
            return self._dict(depth)
        if kind in (VECTOR, TUPLE):
            items = [self.value(depth + 1) for _ in range(self._count(1))]
            return items if kind == VECTOR else tuple(items)
        if kind == UNIFORM:
            return self._uniform()
        raise WireError(f"pmt: no type has the number {kind}")

    def _count(self, least_bytes: int) -> int:
        n: int = self.take(">I")[0]
        if n * least_bytes > len(self.data) - self.place:
            raise WireError(f"pmt: {n} values announced, {len(self.data) - self.place} bytes there")
        return n

    def _chain(self, depth: int) -> Pair:
        cars = [self.value(depth + 1)]
        while self.data[self.place] == PAIR:
            self.place += 1
            cars.append(self.value(depth + 1))
            if len(cars) > MAX_CHAIN:
                raise WireError(f"pmt: a chain of more than {MAX_CHAIN} pairs")
        chain = self.value(depth + 1)
        for car in reversed(cars):
            chain = Pair(car, chain)
        return chain

    def _dict(self, depth: int) -> dict[Any, Any]:
        out: dict[Any, Any] = {}
        while True:
            entry = self.value(depth + 1)
            if not isinstance(entry, Pair):
                raise WireError(f"pmt: an entry of a dict is a pair, got {type(entry).__name__}")
            if not isinstance(entry.car, str | int | float | None):
                raise WireError(f"pmt: a key of a dict is a symbol or a number, got {type(entry.car).__name__}")
            out.setdefault(entry.car, entry.cdr)  # the first of a key is the one that counts
            kind = self.data[self.place]
            self.place += 1
            if kind == NIL:
                return out
            if kind not in (DICT, PAIR):
                raise WireError(f"pmt: after an entry of a dict comes another or nil, got type {kind}")

    def _uniform(self) -> np.ndarray[Any, np.dtype[Any]]:
        subtype, n, n_pad = self.take(">BIB")
        if subtype >= len(_SUBTYPES):
            raise WireError(f"pmt: no uniform vector has the subtype {subtype}")
        self.raw(n_pad)
        big = np.dtype(f">{_SUBTYPES[subtype]}")
        return np.frombuffer(self.raw(n * big.itemsize), big).astype(big.newbyteorder("="))
