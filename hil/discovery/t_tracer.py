"""OpenAirInterface's base station, by the list of events that its T tracer sends first."""

from __future__ import annotations

from hil.discovery.exchange import FIRST_WORD_S, exchange
from hil.discovery.found import Found
from hil.errors import WireError
from hil.formats.t_tracer import PORT as USUAL_PORT
from hil.formats.t_tracer import TEXT, split_records

PORT = USUAL_PORT


def ask(host: str, port: int = PORT, timeout_s: float = 2 * FIRST_WORD_S) -> Found | None:
    """Listen for the list of events."""
    return recognize(host, port, exchange(host, port, b"", 1 << 15, min(timeout_s, 2 * FIRST_WORD_S)) or b"")


def recognize(host: str, port: int, came: bytes) -> Found | None:
    """The base station that sent ``came``, where one did."""
    try:
        records, _ = split_records(memoryview(came))
    except WireError:
        return None
    if not records or records[0].type != TEXT:
        return None
    return Found("gNodeB (T tracer)", f"tcp://{host}:{port}", "oai_tracer", name="OpenAirInterface")
