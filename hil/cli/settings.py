"""Settings from the command line: ``--set device.snr_db=3`` into a flowgraph's typed, bounded ``Settings``."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec import inspect

from hil.errors import ParamError
from hil.params import Params, convert_params

P = TypeVar("P", bound=Params)


class Setting(NamedTuple):
    """One setting, for people."""

    path: str
    type: str
    limits: str
    default: str
    description: str


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """``["a.b=1", "c=x"]`` to ``{"a.b": "1", "c": "x"}``; the last of equal paths counts.

    Raises:
        ParamError: One has no ``=``.
    """
    pairs = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ParamError(f"expected path=value, got {assignment!r}")
        pairs[path.strip()] = text
    return pairs


def parse_value(text: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def build_settings(kind: type[P], assignments: Sequence[str], who: str) -> P:
    """Build ``kind`` from its defaults and ``path=value`` assignments.

    Raises:
        ParamError: Names the path, its limits and what came; lists what there is where the path is unknown.
    """
    plain = default_values(kind)
    for path, text in parse_assignments(assignments).items():
        _assign(kind, plain, path, text, who)
    missing = [f.name for f in msgspec.structs.fields(kind) if f.required and f.name not in plain]
    if missing:
        raise ParamError(f"{who} needs the setting {missing[0]!r}: give --set {missing[0]}=...")
    return convert_params(kind, plain, who)


def default_values(kind: type[Params]) -> dict[str, Any]:
    """The defaults of ``kind`` as plain values; required fields are left out."""
    return {f.name: _plain_default(f) for f in msgspec.structs.fields(kind) if not f.required}


def describe_settings(kind: type[Params], prefix: str = "", defaults: Mapping[str, Any] | None = None) -> list[Setting]:
    """Every setting of ``kind``, groups opened, in the order of declaration.

    Args:
        prefix: Of the paths, ``"device."``.
        defaults: Plain values that count in the place of the fields' own.
    """
    return list(_describe(kind, prefix, {**default_values(kind), **(defaults or {})}))


def _assign(kind: type[Params], plain: dict[str, Any], path: str, text: str, who: str) -> None:
    first, *rest = path.split(".")
    place, group = plain, kind
    walked = ""
    while True:
        field = next((f for f in msgspec.structs.fields(group) if f.name == first), None)
        if field is None:
            raise ParamError(_unknown(kind, path, walked + first, who))
        inner = _group(field.type)
        if not rest:
            place[first] = _value(field, text, path, who)
            return
        if inner is None:
            break
        place = place.setdefault(first, default_values(inner))
        group, walked = inner, f"{walked}{first}."
        first, *rest = rest
    # Below a field that is no group of settings: a free map, whose owner checks it.
    free = place.get(first)
    if not isinstance(free, dict):
        raise ParamError(f"{who}: {walked}{first} is no group of settings: {path!r} leads into it")
    for name in rest[:-1]:
        free = free.setdefault(name, {})
        if not isinstance(free, dict):
            raise ParamError(f"{who}: {path!r}: {name!r} is no map")
    free[rest[-1]] = parse_value(text)


def _value(field: msgspec.structs.FieldInfo, text: str, path: str, who: str) -> Any:
    """JSON where the field takes it, else the text where the field takes that: a file may be called ``5``."""
    value = parse_value(text)
    try:
        msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        try:
            msgspec.convert(text, field.type)
        except msgspec.ValidationError:
            raise ParamError(f"{who}: {path}={text}: {_reason(error)}") from error
        return text
    return value


def _reason(error: msgspec.ValidationError) -> str:
    reason, _, at = str(error).partition(" - at ")
    return f"{reason} (at {at.strip('`')})" if at not in ("", "`$`") else reason


def _unknown(kind: type[Params], path: str, known_to: str, who: str) -> str:
    paths = [s.path for s in describe_settings(kind)]
    close = difflib.get_close_matches(path, paths, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"{who} has no setting {known_to!r}{hint} settings: {', '.join(paths)}"


def _describe(kind: type[Params], prefix: str, values: Mapping[str, Any]) -> Iterator[Setting]:
    for field in msgspec.structs.fields(kind):
        inner = _group(field.type)
        if inner is not None:
            # The default of a whole group may differ from those of its fields, and counts.
            yield from _describe(inner, f"{prefix}{field.name}.", values.get(field.name, default_values(inner)))
            continue
        info, schema = _unwrap(inspect.type_info(field.type))
        default = json.dumps(values[field.name]) if field.name in values else "required"
        unit = schema.get("unit", "")
        yield Setting(
            f"{prefix}{field.name}",
            f"{_type_name(info)} {unit}".strip(),
            _limits(info),
            default,
            schema.get("description", ""),
        )


def _plain_default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default)
    assert callable(field.default_factory)
    return msgspec.to_builtins(field.default_factory())


def _group(annotation: Any) -> type[Params] | None:
    """The struct that ``annotation`` is, where it is one struct and no choice of several."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, Params) else None


def _unwrap(info: inspect.Type) -> tuple[inspect.Type, Mapping[str, Any]]:
    """The type without what is only said about it, and that."""
    schema: dict[str, Any] = {}
    if isinstance(info, inspect.Metadata):
        schema = dict(info.extra_json_schema or {})
        info = info.type
    if isinstance(info, inspect.UnionType):
        for member in info.types:
            schema = {**_unwrap(member)[1], **schema}
    return info, schema


def _type_name(info: inspect.Type) -> str:
    match info:
        case inspect.UnionType():
            return " or ".join(_type_name(_unwrap(t)[0]) for t in info.types)
        case inspect.LiteralType():
            return " | ".join(str(v) for v in info.values)
        case inspect.NoneType():
            return "null"
        case inspect.StructType():
            return info.cls.__name__
        case inspect.VarTupleType() | inspect.ListType():
            return f"list of {_type_name(_unwrap(info.item_type)[0])}"
        case inspect.TupleType():
            return f"[{', '.join(_type_name(_unwrap(t)[0]) for t in info.item_types)}]"
        case inspect.DictType():
            return "map"
    return type(info).__name__.removesuffix("Type").lower()


def _limits(info: inspect.Type) -> str:
    if isinstance(info, inspect.UnionType):
        return next((text for text in (_limits(_unwrap(t)[0]) for t in info.types) if text), "")
    if not isinstance(info, inspect.IntType | inspect.FloatType):
        return ""
    bounds = (("> ", info.gt), (">= ", info.ge), ("< ", info.lt), ("<= ", info.le))
    return ", ".join(
        f"{sign}{value:g}" if value < 1e15 else f"{sign}{value}" for sign, value in bounds if value is not None
    )
