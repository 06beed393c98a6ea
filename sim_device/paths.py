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
        plain = plain[key_of(plain, key, path)]
    return plain


def with_path(plain: Any, path: str, value: Any) -> Any:
    """Return a copy of ``plain`` with ``value`` at ``path``.

    Raises:
        ControlError: There is no such place; names what there is.
    """
    return _with_keys(plain, path.split("."), value, path)


def _with_keys(plain: Any, keys: list[str], value: Any, path: str) -> Any:
    key = key_of(plain, keys[0], path)
    changed = _with_keys(plain[key], keys[1:], value, path) if keys[1:] else value
    if isinstance(plain, dict):
        return {**plain, key: changed}
    return [changed if i == key else item for i, item in enumerate(plain)]


def key_of(plain: Any, key: str, path: str) -> Any:
    """Return ``key``, a part of ``path``, as what ``plain`` is indexed by.

    Raises:
        ControlError: Nothing is there; names what there is.
    """
    if isinstance(plain, dict):
        if key in plain:
            return key
        raise ControlError(f"{path}: no parameter {key!r}; there are {', '.join(map(str, plain))}")
    if isinstance(plain, (list, tuple)):
        if key.isascii() and key.isdigit() and int(key) < len(plain):
            return int(key)
        if not plain:
            raise ControlError(f"{path}: there is nothing at {key!r}, the list is empty")
        raise ControlError(f"{path}: expected a place from 0 to {len(plain) - 1}, got {key!r}")
    raise ControlError(f"{path}: {key!r} lies inside a plain value")
