"""MessagePack-RPC, as far as UHD speaks it: requests, answers, notifications."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgpack

from hil.errors import HilError, WireError

log = logging.getLogger(__name__)

_RESPONSE = 1
#: No call of a host is longer.
MAX_BYTES = 1 << 20


class RpcError(HilError):
    """What the caller is told of a call that failed."""


def parse_call(message: Any) -> tuple[int | None, str, list[Any]]:
    """Message number (``None``: nobody waits for an answer), method and arguments.

    Raises:
        WireError: It is no call.
    """
    match message:
        case [0, int(number), str(method), list(params)]:
            return number, method, params
        case [2, str(method), list(params)]:
            return None, method, params
    raise WireError(f"msgpack-rpc: expected [0, number, method, arguments], got {str(message)[:80]}")


class RpcConversation:
    """The calls of one connection.

    Args:
        call: ``(method, arguments)`` to result; :class:`RpcError` becomes the caller's error.
    """

    def __init__(self, call: Callable[[str, list[Any]], Any]) -> None:
        self._call = call
        self._unpacker = msgpack.Unpacker(
            raw=False, strict_map_key=False, max_buffer_size=MAX_BYTES, unicode_errors="surrogateescape"
        )

    def __call__(self, data: bytes) -> bytes:
        """Answers to the calls that are complete with ``data``.

        Raises:
            WireError: These are no calls.
        """
        try:
            self._unpacker.feed(data)
            return b"".join(self._answer(message) for message in self._unpacker)
        except (TypeError, ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
            raise WireError(f"msgpack-rpc: {type(error).__name__}: {error}") from error

    def _answer(self, message: Any) -> bytes:
        number, method, params = parse_call(message)
        error = result = None
        try:
            result = self._call(method, params)
        except RpcError as failed:
            error = str(failed)
        except (AttributeError, TypeError, ValueError, KeyError, OverflowError, HilError) as failed:
            error = f"{method}: {type(failed).__name__}: {failed}"
        if error is not None:
            log.debug("msgpack-rpc: %s: %s", method, error)
        if number is None:
            return b""
        return bytes(msgpack.packb([_RESPONSE, number, error, result]))
