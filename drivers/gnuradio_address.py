"""Where samples of a GNU Radio flowgraph come from, and in which form."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from msgspec import Meta

from hil.errors import ParamError
from hil.params import Count, Params, convert_params, params_to_plain

Socket = Literal["sub", "pull", "req"]
Content = Literal["stream", "tagged", "pdu"]


class Form(Params, frozen=True, kw_only=True):
    """What the sinks of the flowgraph are set to; the options of an address ``gnuradio://...?vlen=4`` go before it."""

    socket: Annotated[Socket, Meta(description="sub for a PUB sink, pull for PUSH, req for REP")] = "sub"
    content: Annotated[
        Content, Meta(description="stream: items alone; tagged: pass_tags is on; pdu: a message sink")
    ] = "tagged"
    vlen: Annotated[Count, Meta(le=4096, description="channels in one item of a sink")] = 1
    key: Annotated[str, Meta(max_length=64, description="PUB: subscribe to this key; empty: to all")] = ""


def parse_address(uri: str, form: Form) -> tuple[list[str], Form]:
    """Endpoints of ZeroMQ, one a sink, and their form.

    ``tcp://HOST:PORT`` (several with commas), or ``gnuradio://HOST:PORT,PORT?socket=pull&vlen=4`` for short.

    Raises:
        ParamError: It is no address.
    """
    if not uri.startswith("gnuradio://"):
        endpoints = [part.strip() for part in uri.split(",")]
        if not all(e.partition("://")[0] in ("tcp", "ipc") and e.partition("://")[2] for e in endpoints):
            raise ParamError(f"address {uri!r}: expected tcp://HOST:PORT, ipc://PATH or gnuradio://HOST:PORT,PORT?...")
        return endpoints, form
    parts = urlsplit(uri)
    host, _, ports = parts.netloc.rpartition(":")
    if not host or not all(p.isdecimal() and 0 < int(p) < 65536 for p in ports.split(",")):
        raise ParamError(f"address {uri!r}: expected gnuradio://HOST:PORT or gnuradio://HOST:PORT,PORT,PORT")
    options = dict(parse_qsl(parts.query))
    given = {key: int(value) if value.isdecimal() and key == "vlen" else value for key, value in options.items()}
    form = convert_params(Form, {**params_to_plain(form), **given}, f"address {uri!r}")
    return [f"tcp://{host}:{port}" for port in ports.split(",")], form
