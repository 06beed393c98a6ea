"""Dotted paths into plain parameters: ``gain_db``, ``sources.0.power_db``."""

from __future__ import annotations

from typing import Any

from hil.errors import ControlError


def get_path(plain: Any, path: str) -> Any:
    """Return what lies at ``path``; all of it for an empty one.

    Raises:
        ControlError: Nothing is there; names what there is.
    """
    for key in path.split(".") if path else []:
        plain = plain[_key_of(plain, key, path)]
    return plain


def with_path(plain: Any, path: str, value: Any) -> Any:
    """Return a copy of ``plain`` with ``value`` at ``path``.

    Raises:
        ControlError: There is no such place; names what there is.
    """
    first, _, rest = path.partition(".")
    key = _key_of(plain, first, path)
    changed = with_path(plain[key], rest, value) if rest else value
    if isinstance(plain, dict):
        return {**plain, key: changed}
    return [changed if i == key else item for i, item in enumerate(plain)]


def _key_of(plain: Any, key: str, path: str) -> Any:
    if isinstance(plain, dict):
        if key in plain:
            return key
        raise ControlError(f"{path}: no parameter {key!r}; there are {', '.join(map(str, plain))}")
    if isinstance(plain, (list, tuple)):
        if key.isascii() and key.isdigit() and int(key) < len(plain):
            return int(key)
        raise ControlError(f"{path}: expected a place from 0 to {len(plain) - 1}, got {key!r}")
    raise ControlError(f"{path}: {key!r} lies inside a plain value")
