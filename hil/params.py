"""Parameters are data: frozen msgspec structs, keyword-only, unknown fields refused, bounds and unit in ``Meta``.

``class MusicParams(Params, frozen=True): n_sources: Annotated[int, Meta(ge=1, le=64, description="...")] = 1``
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

from hil.errors import ParamError

Hz = Annotated[float, Meta(gt=0, extra_json_schema={"unit": "Hz"})]
Metres = Annotated[float, Meta(ge=0, extra_json_schema={"unit": "m"})]
Seconds = Annotated[float, Meta(ge=0, extra_json_schema={"unit": "s"})]
Decibels = Annotated[float, Meta(ge=-400, le=400, extra_json_schema={"unit": "dB"})]
Radians = Annotated[float, Meta(extra_json_schema={"unit": "rad"})]
Count = Annotated[int, Meta(ge=1)]
Index = Annotated[int, Meta(ge=0)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all parameter structs. Build with :func:`convert_params`: calling the struct checks nothing."""


P = TypeVar("P", bound=Params)


def params_type(cls: type) -> type[Params]:
    """Return the type that ``cls`` annotates its ``params`` with."""
    for base in cls.__mro__:
        if "params" in inspect.get_annotations(base):
            kind: type[Params] = get_type_hints(base)["params"]
            return kind
    return Params


def convert_params(kind: type[P], values: Mapping[str, Any], who: str) -> P:
    """Build and check parameters from plain values.

    Raises:
        ParamError: Names the field's path, its limits and what came, and lists the fields on an unknown one.
    """
    try:
        return msgspec.convert(dict(values), kind)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__) or "none"
        raise ParamError(f"{who}: {error}; parameters: {known}") from error


def params_to_plain(params: Params) -> dict[str, Any]:
    """Return the parameters as plain values that :func:`convert_params` takes back."""
    plain: dict[str, Any] = msgspec.to_builtins(params)
    return plain


def params_schema(kind: type[Params]) -> dict[str, Any]:
    """Return the JSON schema of a parameter struct: types, limits, units, defaults, descriptions."""
    return msgspec.json.schema(kind)
