"""Ports are recognized by what they say, in the protocol's own words written here by hand or by its codec."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import zmq

from hil.discovery import heimdall, identify, t_tracer, zeromq
from hil.formats import heimdall as heimdall_format
from hil.formats.t_tracer import encode_text

Conversation = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(converse: Conversation) -> Iterator[int]:
    """A port where each caller is conversed with."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(2.0)
                    converse(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def says(what: bytes) -> Conversation:
    def converse(connection: socket.socket) -> None:
        connection.sendall(what)
        connection.recv(1024)

    return converse


def kraken(connection: socket.socket) -> None:
    if connection.recv(9) == b"streaming":
        header = heimdall_format.HeaderV1(
            hardware_id=b"k5", unit_id=3, n_channels=5, frequency_hz=433_000_000, sample_rate_hz=2_400_000, n_samples=4
        )
        connection.sendall(heimdall_format.encode_v1(header) + bytes(5 * 4 * 8))
        connection.recv(64)


HEIMDALL_2 = heimdall_format.encode_v2(
    heimdall_format.HeaderV2(n_channels=5, n_samples=8, frequency_hz=(4.0e8,) * 5, gain_db=(20.0,) * 5)
)
TRACER = encode_text("ID = GNB_PHY_UL_TICK\nFORMAT = int,gNB_ID : int,frame\n", 0)


def test_heimdall_1_by_a_frame_that_is_asked_for() -> None:
    with listening(kraken) as port:
        found = identify.identify("127.0.0.1", port, 3.0)
    assert found is not None and found.address == f"heimdall://127.0.0.1:{port}?version=1"
    assert (found.kind, found.driver, found.channels, found.name) == ("heimdall 1", "heimdall", 5, "k5 3")
    assert found.details == {"frequency_hz": 433_000_000, "sample_rate_hz": 2_400_000}


@pytest.mark.parametrize(
    ("what", "kind", "channels"), [(HEIMDALL_2, "heimdall 2", 5), (TRACER, "gNodeB (T tracer)", None)]
)
def test_those_that_speak_first(what: bytes, kind: str, channels: int | None) -> None:
    with listening(says(what)) as port:
        found = identify.identify("127.0.0.1", port, 3.0)
    assert found is not None and (found.kind, found.channels) == (kind, channels)
    assert f"127.0.0.1:{port}" in found.address


@pytest.mark.parametrize("kind", ["PUB", "PUSH", "REP", "ROUTER"])
def test_zeromq_by_its_greeting(kind: str) -> None:
    with zmq.Context() as context, context.socket(getattr(zmq, kind)) as sink:
        port = sink.bind_to_random_port("tcp://127.0.0.1")
        found = identify.identify("127.0.0.1", port, 3.0)
    assert found is not None and (found.kind, found.details) == (f"ZeroMQ {kind}", {"socket": kind})
    assert found.driver == ("gnuradio" if kind in ("PUB", "PUSH") else None)


@pytest.mark.parametrize("what", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\xff\xd8\xff\xe0", bytes(4096), b"\xff" * 4096])
def test_other_services_are_left_alone(what: bytes) -> None:
    def converse(connection: socket.socket) -> None:
        connection.sendall(what)
        if not what:
            connection.recv(64)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listening(converse) as port:
        assert identify.identify("127.0.0.1", port, 0.8) is None
        for ask in identify.USUAL.values():
            assert ask("127.0.0.1", port, 0.25) is None


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert identify.identify("127.0.0.1", port, 1.0) is None


@pytest.mark.parametrize("n", range(0, 80, 7))
def test_cut_short(n: int) -> None:
    for recognize in (heimdall.recognize_v2, t_tracer.recognize):
        assert recognize("h", 1, (HEIMDALL_2 + TRACER)[:n]) is None or n >= 72
    assert zeromq.socket_type(HEIMDALL_2[:n]) is None


def test_mutated_greetings_and_headers_raise_nothing() -> None:
    import numpy as np

    rng = np.random.default_rng(4)
    ready = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB\x08Identity\x00\x00\x00\x00"
    greeting = (b"\xff" + bytes(7) + b"\x01\x7f\x03\x00NULL").ljust(64, b"\0") + ready
    assert zeromq.socket_type(greeting) == "PUB"
    for base in (greeting, HEIMDALL_2, TRACER):
        for _ in range(1000):
            came = bytearray(base[: rng.integers(1, len(base) + 1)])
            for place in rng.integers(0, len(came), rng.integers(1, 6)):
                came[place] = rng.integers(256)
            zeromq.socket_type(bytes(came))
            heimdall.recognize_v2("h", 1, bytes(came))
            t_tracer.recognize("h", 1, bytes(came))
