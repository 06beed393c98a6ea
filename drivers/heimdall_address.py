"""Where a KrakenSDR is: ``heimdall://HOST:PORT?version=2&control=PORT``, or just a host."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from hil.errors import ParamError

#: Data and control ports of each version.
PORTS = {1: (5000, 5001), 2: (8091, 8092)}


class Address(NamedTuple):
    host: str
    port: int
    control_port: int
    version: int


def parse_address(uri: str) -> Address:
    """Read an address. What is left out is as heimdall has it: version 1, unless the port is that of version 2.

    Raises:
        ParamError: It is none.
    """
    fix = "expected heimdall://HOST, heimdall://HOST:PORT or heimdall://HOST:PORT?version=2&control=PORT"
    try:
        parts = urlsplit(uri if "://" in uri else f"heimdall://{uri}")
        port = parts.port
        options = {
            key: int(values[-1]) for key, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()
        }
    except ValueError as error:
        raise ParamError(f"address {uri!r}: {error}; {fix}") from error
    if parts.scheme != "heimdall" or not parts.hostname or set(options) - {"version", "control"}:
        raise ParamError(f"address {uri!r}: {fix}")
    version = options.get("version", 2 if port == PORTS[2][0] else 1)
    if version not in PORTS:
        raise ParamError(f"address {uri!r}: there are versions 1 and 2")
    data, control = PORTS[version]
    control = options.get("control", control if port in (None, data) else port + 1 if port else control)
    if not 0 < control < 65536:
        raise ParamError(f"address {uri!r}: control port {control} cannot be")
    return Address(parts.hostname, data if port is None else port, control, version)
