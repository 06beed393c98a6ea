"""What listens at a TCP port, by what it says: unasked, or to a question that harms no other service."""

from __future__ import annotations

from collections.abc import Callable

from hil.discovery import heimdall, iio, t_tracer, zeromq
from hil.discovery.exchange import FIRST_WORD_S, exchange
from hil.discovery.found import Found

#: Where devices of each family listen, and how they are asked there.
USUAL: dict[int, Callable[[str, int, float], Found | None]] = {
    iio.PORT: iio.ask,
    heimdall.PORTS[1]: heimdall.ask_v1,
    heimdall.PORTS[2]: heimdall.ask_v2,
    t_tracer.PORT: t_tracer.ask,
    5555: zeromq.ask,  # GNU Radio has no port of its own; this is the one of its examples
    2000: zeromq.ask,  # srsRAN's
    2001: zeromq.ask,
}


def identify(host: str, port: int, timeout_s: float) -> Found | None:
    """Return the device at a port of which nothing is known; ``None`` where none is recognized."""
    came = exchange(host, port, b"", 1 << 15, min(timeout_s, FIRST_WORD_S))
    if came is None:
        return None
    if zeromq.speaks_zmtp(came):
        return zeromq.ask(host, port, timeout_s)
    if came:
        return heimdall.recognize_v2(host, port, came) or t_tracer.recognize(host, port, came)
    return iio.ask(host, port, timeout_s) or heimdall.ask_v1(host, port, timeout_s)
