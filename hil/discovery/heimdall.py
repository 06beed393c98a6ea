"""KrakenSDR's heimdall, by a frame's header (version 1) or what it sends unasked (version 2)."""

from __future__ import annotations

from hil.discovery.exchange import FIRST_WORD_S, exchange
from hil.discovery.found import Found
from hil.errors import WireError
from hil.formats import heimdall

PORTS = {1: 5000, 2: 8091}
#: Bytes of a version 2 header of five channels.
_V2_BYTES = 72


def ask_v1(host: str, port: int, timeout_s: float) -> Found | None:
    """Ask for one frame and read its header; the unit goes on for whoever else reads."""
    came = exchange(host, port, heimdall.START, heimdall.V1_BYTES, timeout_s, heimdall.QUIT)
    if came is None or len(came) < heimdall.V1_BYTES:
        return None
    try:
        header = heimdall.decode_v1(came)
    except WireError:
        return None
    details = {"frequency_hz": header.frequency_hz, "sample_rate_hz": header.sample_rate_hz}
    name = f"{header.hardware_id.rstrip(bytes(1)).decode(errors='replace')} {header.unit_id}"
    return Found("heimdall 1", _address(host, port, 1), "heimdall", header.n_channels, name, details)


def ask_v2(host: str, port: int, timeout_s: float) -> Found | None:
    """Listen for a packet."""
    return recognize_v2(host, port, exchange(host, port, b"", _V2_BYTES, min(timeout_s, 2 * FIRST_WORD_S)) or b"")


def recognize_v2(host: str, port: int, came: bytes) -> Found | None:
    """The unit that sent ``came``, where one did."""
    try:
        header = heimdall.decode_v2(came)
    except WireError:
        return None
    if header is None:
        return None
    details = {"frequency_hz": header.frequency_hz[0], "gain_db": header.gain_db[0]}
    return Found("heimdall 2", _address(host, port, 2), "heimdall", header.n_channels, "", details)


def _address(host: str, port: int, version: int) -> str:
    place = host if port == PORTS[version] and version == 1 else f"{host}:{port}"
    return f"heimdall://{place}" if port in PORTS.values() else f"heimdall://{place}?version={version}"
