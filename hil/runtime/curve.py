"""CURVE keys for edges and control sockets that leave this host."""

from __future__ import annotations

from typing import Any, NamedTuple

import zmq

from hil.errors import GraphError

_LOCAL = ("ipc://", "inproc://", "tcp://127.", "tcp://localhost:", "tcp://[::1]:")


class CurveServer(NamedTuple):
    """Keys of a side that binds (Z85 text, as ``zmq.curve_keypair`` gives)."""

    public_key: bytes
    secret_key: bytes

    def apply(self, socket: zmq.Socket[Any]) -> None:
        socket.curve_server = True
        socket.curve_publickey = self.public_key
        socket.curve_secretkey = self.secret_key


class CurveClient(NamedTuple):
    """Keys of a side that connects, and the public key of the server that it expects."""

    public_key: bytes
    secret_key: bytes
    server_key: bytes

    def apply(self, socket: zmq.Socket[Any]) -> None:
        socket.curve_publickey = self.public_key
        socket.curve_secretkey = self.secret_key
        socket.curve_serverkey = self.server_key


def require_keys(endpoint: str, curve: CurveServer | CurveClient | None) -> None:
    """Refuse an endpoint beyond this host without keys.

    Raises:
        GraphError: Names the endpoint and the fix.
    """
    if curve is None and not endpoint.startswith(_LOCAL):
        raise GraphError(
            f"{endpoint} can be reached from other hosts: give it CURVE keys (zmq.curve_keypair), or use 127.0.0.1"
        )
