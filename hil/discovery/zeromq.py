"""ZeroMQ sockets, by the greeting of ZMTP 3 and what the socket then says that it is (ZeroMQ RFC 23)."""

from __future__ import annotations

from hil.discovery.exchange import FIRST_WORD_S, exchange
from hil.discovery.found import Found

_GREETING_BYTES = 64
_SIGNATURE = b"\xff" + bytes(7) + b"\x01\x7f"
#: Version 3.0, mechanism NULL, as a client.
_GREETING = (_SIGNATURE + b"\x03\x00" + b"NULL").ljust(_GREETING_BYTES, b"\0")
_READY = b"\x05READY"
_SOCKET_TYPE = b"\x0bSocket-Type"
#: Who connects to a socket, and which driver that is; GNU Radio's sinks bind PUB, PUSH or REP, srsRAN's radio REP.
_DRIVERS = {"PUB": "gnuradio", "PUSH": "gnuradio", "REP": None, "ROUTER": None}


def ask(host: str, port: int, timeout_s: float) -> Found | None:
    """Greet, and read which kind of socket it is."""
    came = exchange(host, port, _GREETING, 256, min(timeout_s, FIRST_WORD_S)) or b""
    kind = socket_type(came)
    if kind is None:
        return None
    driver = _DRIVERS.get(kind)
    return Found(f"ZeroMQ {kind}", f"tcp://{host}:{port}", driver, details={"socket": kind})


def speaks_zmtp(came: bytes) -> bool:
    """Whether ``came`` begins as ZMTP does."""
    return len(came) >= 10 and came[0] == 0xFF and came[9] == 0x7F


def socket_type(came: bytes) -> str | None:
    """``"PUB"`` and the like, from greeting and READY command; ``None`` where they are not that."""
    if not speaks_zmtp(came):
        return None
    command = came[_GREETING_BYTES:]
    at = command.find(_SOCKET_TYPE)
    if _READY not in command or at < 0:
        return None
    at += len(_SOCKET_TYPE)
    length = int.from_bytes(command[at : at + 4], "big")
    return command[at + 4 : at + 4 + length].decode(errors="replace")
