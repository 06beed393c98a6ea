"""The metadata of a SigMF recording, from its file or from the journal of one that was not closed.

The package ``sigmf`` has the schema that they are checked against. It does not read them, as it knows no journal and
checks nothing on reading; nor does it build them, as its ``SigMFFile`` looks through all segments and sorts them for
each that is added, which is too slow for a recording that grows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
from sigmf.schema import get_schema

from hil.errors import RecordingError

#: More metadata than this are not read.
MAX_META_BYTES = 1 << 30


@dataclass
class SigmfMeta:
    """What is known of the samples.

    Attributes:
        common: The ``global`` object.
        captures: Segments, in order of their first sample.
        annotations: In order of their sample.
        closed: Whether the writer closed the recording.
    """

    common: dict[str, Any] = field(default_factory=dict)
    captures: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = True

    def objects(self) -> dict[str, Any]:
        """The same as the file has them."""
        return {"global": self.common, "captures": self.captures, "annotations": self.annotations}

    def lines(self) -> list[bytes]:
        """The same as lines of a journal."""
        pairs = [("global", self.common)] if self.common else []
        pairs += [("capture", c) for c in self.captures] + [("annotation", a) for a in self.annotations]
        return [journal_line(*pair) for pair in pairs]


def journal_line(kind: str, value: dict[str, Any]) -> bytes:
    return json.dumps({kind: value}, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def load_meta(meta_path: Path) -> SigmfMeta:
    """Read the journal beside ``meta_path`` where there is one, else the metadata.

    Raises:
        RecordingError: Neither is there, or it is not SigMF.
    """
    journal = meta_path.with_suffix(".sigmf-journal")
    if journal.exists():
        meta = _from_journal(_read(journal), journal)
        if meta.common or not meta_path.exists():
            return meta
        meta = parse_meta(_read(meta_path), str(meta_path))
        meta.closed = False
        return meta
    return parse_meta(_read(meta_path), str(meta_path))


def parse_meta(data: bytes, name: str) -> SigmfMeta:
    """The metadata in ``data``.

    Raises:
        RecordingError: Not JSON, or not the objects that SigMF has.
    """
    plain = _json(data, name)
    if not isinstance(plain, dict) or not isinstance(plain.get("global"), dict):
        raise RecordingError(f"{name} is not SigMF: expected an object with 'global', 'captures' and 'annotations'")
    meta = SigmfMeta(plain["global"])
    for kind, into in (("captures", meta.captures), ("annotations", meta.annotations)):
        rows = plain.get(kind, [])
        if not isinstance(rows, list):
            raise RecordingError(f"{name}: {kind} is a {type(rows).__name__}, expected a list")
        for row in rows:
            into.append(_checked(row, kind, name))
    return _in_order(meta, name)


def violation(meta: SigmfMeta) -> str | None:
    """What the schema of SigMF forbids in ``meta``, where there is something."""
    try:
        jsonschema.validate(meta.objects(), get_schema())
    except jsonschema.ValidationError as error:
        return f"{error.json_path}: {error.message[:200]}"
    return None


def _from_journal(data: bytes, path: Path) -> SigmfMeta:
    """Lines as far as they are whole: the last one may have been cut when the writer died."""
    meta = SigmfMeta(closed=False)
    for number, line in enumerate(data.split(b"\n")[:-1], start=1):
        row = _json(line, f"{path}, line {number}")
        match row:
            case {"global": dict(value)}:
                meta.common = value
            case {"capture": value}:
                meta.captures.append(_checked(value, "capture", f"{path}, line {number}"))
            case {"annotation": value}:
                meta.annotations.append(_checked(value, "annotation", f"{path}, line {number}"))
            case _:
                raise RecordingError(f"{path}, line {number}: expected global, capture or annotation")
    return _in_order(meta, str(path))


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_META_BYTES:
            raise RecordingError(f"{path} has {size} bytes, the limit is {MAX_META_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from error


def _json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{name} is not JSON: {error}") from error


def _checked(row: Any, kind: str, name: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise RecordingError(f"{name}: expected an object in {kind}, got a {type(row).__name__}")
    start = row.get("core:sample_start")
    if type(start) is not int or start < 0:
        raise RecordingError(f"{name}: core:sample_start in {kind}: expected an integer from 0, got {str(start)[:60]}")
    return row


def _in_order(meta: SigmfMeta, name: str) -> SigmfMeta:
    starts = [capture["core:sample_start"] for capture in meta.captures]
    if starts != sorted(starts):
        raise RecordingError(f"{name}: captures are not in order of core:sample_start")
    meta.annotations.sort(key=lambda annotation: annotation["core:sample_start"])
    return meta
