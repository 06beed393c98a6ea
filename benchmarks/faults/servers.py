"""Mutated messages against each simulated device's server: it goes on serving, and does not grow."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgpack
import numpy as np
import psutil
import zmq

from benchmarks.faults.mutate import mutate
from benchmarks.report import Report, Row
from drivers.embedded import EmbeddedDevice
from hil.discovery import heimdall as find_heimdall
from hil.discovery.identify import identify
from hil.errors import HilError
from hil.formats import heimdall, t_tracer
from hil.runtime.control import ControlClient

N, N_QUICK = 10_000, 300
#: Most that a server may grow by, after the first tenth of the messages: allocators keep pages, leaks go on.
_GROWTH_BYTES = 64 << 20
#: Threads, and open files: those of a client that is just being served.
_GROWTH_HANDLES = 4
_ANSWER_S = 10.0
#: Messages on one connection, and how long its answers are waited for.
_BURST, _LISTEN_S = 8, 0.002

Send = Callable[[list[bytes]], None]
Addresses = dict[str, Any]


class Entrance(NamedTuple):
    """Where messages go in: good ones, what sends them, and what shows that the server still serves."""

    name: str
    module: str
    params: dict[str, Any]
    good: list[bytes]
    sender: Callable[[Addresses], Send]
    serves: Callable[[Addresses], bool]


def entrances() -> list[Entrance]:
    """Each socket of each server."""
    iio = [
        b"VERSION\r\n", b"PRINT\r\n", b"TIMEOUT 2500\r\n", b"OPEN iio:device2 64 0000000f\r\n",
        b"READBUF iio:device2 256\r\n", b"CLOSE iio:device2\r\n", b"GETTRIG iio:device2\r\n",
        b"READ iio:device1 INPUT voltage0 hardwaregain\r\n", b"READ iio:device1 DEBUG direct_reg_access\r\n",
        b"WRITE iio:device1 OUTPUT altvoltage0 frequency 10\r\n2400000000", b"SET iio:device2 BUFFERS_COUNT 4\r\n",
    ]  # fmt: skip
    calls = [
        msgpack.packb([0, i, method, args])
        for i, (method, args) in enumerate(
            [
                ("claim", ["token"]), ("get_device_info", []), ("init", ["token", {}]), ("get_dboard_info", []),
                ("get_chdr_link_options", ["token", "udp"]), ("set_timekeeper_time", ["token", 0, 5, False]),
                ("get_clocks", []), ("db_0_set_gain", ["token", 3, 20.0]), ("db_0_get_sensors", ["token", "RX"]),
            ]
        )
    ]  # fmt: skip
    chdr = [bytes.fromhex("0000280000000200") + bytes(32), bytes.fromhex("0100380000008400") + bytes(48)]
    control = [
        msgpack.packb({"verb": verb, "args": args}) for verb, args in (("stats", {}), ("get", {"path": "array.n"}))
    ]
    enable = [t_tracer.encode_enable(300, [3, 5]), t_tracer.encode_enable(0, [])]
    commands = [
        heimdall.encode_control_v1(*c) for c in (("INIT",), ("FREQ", 433_000_000), ("GAIN", 90, 90, 90, 90, 90))
    ]
    lines = [
        heimdall.encode_control_v2("set_frequency", frequency=4e8),
        heimdall.encode_control_v2("set_gain", gain=20.0, channel=0),
    ]
    loop = {"loop_ticks": 4096}
    two = {"version": 2, **loop}
    rep = {"socket": "rep", "n_samples": 256, **loop}
    iiod, usrp, kraken = (f"sim_device.servers.{name}" for name in ("iiod", "usrp", "heimdall"))
    zmq_request = [(1000).to_bytes(4, "little"), b"\0"]
    return [
        Entrance("iiod", iiod, {"model": "fmcomms5", **loop}, iio, _tcp("uri"), _identified),
        Entrance("usrp, calls", usrp, {"host": "auto"}, calls, _tcp("uri", 49601), _discovered),
        Entrance("usrp, discovery", usrp, {"host": "auto"}, [b"MPM-DISC", b"MPM-ECHO x"], _udp(49600), _discovered),
        Entrance("usrp, CHDR", usrp, {"host": "auto"}, chdr, _udp(49153), _discovered),
        Entrance("heimdall 1, data", kraken, loop, [heimdall.START, heimdall.NEXT, heimdall.QUIT], _tcp("uri"), _frame),
        Entrance("heimdall 1, commands", kraken, loop, commands, _tcp("control="), _frame),
        Entrance("heimdall 2, commands", kraken, two, lines, _tcp("control="), _packet),
        Entrance("gnodeb", "sim_device.servers.gnodeb", {}, enable, _tcp("uri"), _identified),
        Entrance("gnuradio, requests", "sim_device.servers.gnuradio", rep, zmq_request, _requests("uri"), _identified),
        Entrance("srsran, requests", "sim_device.servers.srsran", loop, zmq_request[1:], _requests("uri"), _identified),
        Entrance("control", iiod, loop, control, _requests("control"), _identified),
    ]


def measure(quick: bool) -> Iterator[Row]:
    """All entrances, each with a server of its own."""
    report = Report("faults")
    n = N_QUICK if quick else N
    for seed, entrance in enumerate(entrances()):
        case = f"server, {entrance.name}: mutated messages"
        crashed, grown = attack(entrance, n, seed)
        yield report.add(
            case, f"crashes, hangs{': ' + crashed if crashed else ''}", float(bool(crashed)), "times", n=n, at_most=0
        )
        yield report.add(case, "growth", grown.memory / 1e6, "MB", n=n, at_most=_GROWTH_BYTES / 1e6)
        yield report.add(case, "threads more", grown.threads, "threads", n=n, at_most=_GROWTH_HANDLES)
        yield report.add(case, "descriptors more", grown.descriptors, "files", n=n, at_most=_GROWTH_HANDLES)


class Size(NamedTuple):
    """What a process has, or has more: bytes, threads, open files and sockets."""

    memory: int = 0
    threads: int = 0
    descriptors: int = 0

    @staticmethod
    def of(process: psutil.Process) -> Size:
        return Size(process.memory_info().rss, process.num_threads(), process.num_fds())

    def less(self, before: Size) -> Size:
        return Size(*(now - then for now, then in zip(self, before, strict=True)))


def attack(entrance: Entrance, n: int, seed: int) -> tuple[str, Size]:
    """Send ``n`` mutated messages; return what went wrong, in words, and by how much the server grew."""
    rng = np.random.default_rng(seed)
    device = EmbeddedDevice(entrance.module, entrance.params)
    try:
        addresses = device.addresses(30.0)
        if addresses is None:
            return f"did not start: {device.last_words()}", Size()
        send = entrance.sender(addresses)
        process = psutil.Process(int(addresses["pid"]))
        before = Size.of(process)
        for i in range(0, n, _BURST):
            messages = [entrance.good[int(rng.integers(len(entrance.good)))] for _ in range(min(_BURST, n - i))]
            try:
                send([mutate(message, rng) for message in messages])
            except OSError as error:
                return f"nobody listens after {i} messages: {error}", Size()
            if device.status is not None:
                return f"it ended ({device.status}): {device.last_words()}", Size()
            if i <= n // 10:
                before = Size.of(process)
        try:
            with ControlClient(addresses["control"], _ANSWER_S) as client:
                failed = client.request("stats")["threads_failed"]
        except HilError as error:
            return f"no answer at its control socket: {error}", Size()
        if failed:
            return f"{failed} threads ended with an error: {device.last_words()}", Size()
        end = time.monotonic() + _ANSWER_S
        while not entrance.serves(addresses):
            if time.monotonic() > end:
                return "it serves no client any more", Size()
        # what the last clients had is let go of
        while (grown := Size.of(process).less(before))[1:] > (0, 0) and time.monotonic() < end:
            time.sleep(0.1)
        return "", grown
    finally:
        device.close()


# -- ways in ---------------------------------------------------------------------------------------------------------


def _place(addresses: Addresses, key: str, port: int | None = None) -> tuple[str, int]:
    """Host and port: of the address under ``key``, or at ``control=`` in the uri."""
    uri = str(addresses["uri" if key.endswith("=") else key])
    host = re.search(r"\d+\.\d+\.\d+\.\d+", uri)
    assert host is not None, uri
    if port is None:
        found = re.search(rf"{key}(\d+)" if key.endswith("=") else r":(\d+)(?:$|[?,/])", uri)
        assert found is not None, uri
        port = int(found[1])
    return host[0], port


def _tcp(key: str, port: int | None = None) -> Callable[[Addresses], Send]:
    def sender(addresses: Addresses) -> Send:
        place = _place(addresses, key, port)

        def send(messages: list[bytes]) -> None:
            # that nobody listens is an error; that the other side ends a conversation is none
            with socket.create_connection(place, _ANSWER_S) as connection, contextlib.suppress(OSError):
                connection.settimeout(_ANSWER_S)
                for message in messages:
                    connection.sendall(message)
                    if select.select([connection], [], [], _LISTEN_S)[0] and not connection.recv(1 << 16):
                        break

        return send

    return sender


def _udp(port: int) -> Callable[[Addresses], Send]:
    def sender(addresses: Addresses) -> Send:
        place = _place(addresses, "uri", port)

        def send(messages: list[bytes]) -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                for message in messages:
                    out.sendto(message, place)
                select.select([out], [], [], _LISTEN_S)

        return send

    return sender


def _requests(key: str) -> Callable[[Addresses], Send]:
    """Whole ZeroMQ messages, as a peer sends them who speaks ZMTP and nothing else."""

    def sender(addresses: Addresses) -> Send:
        host, port = _place(addresses, key)

        def send(messages: list[bytes]) -> None:
            out: zmq.Socket[bytes]
            with zmq.Context.instance().socket(zmq.DEALER) as out:
                out.setsockopt(zmq.LINGER, int(1e3 * _ANSWER_S))
                out.connect(f"tcp://{host}:{port}")
                for message in messages:
                    out.send_multipart([b"", message])
                    out.poll(1e3 * _LISTEN_S)

        return send

    return sender


# -- good clients ------------------------------------------------------------------------------------------------------


def _identified(addresses: Addresses) -> bool:
    return identify(*_place(addresses, "uri"), _ANSWER_S) is not None


def _frame(addresses: Addresses) -> bool:
    return find_heimdall.ask_v1(*_place(addresses, "uri"), _ANSWER_S) is not None


def _packet(addresses: Addresses) -> bool:
    return find_heimdall.ask_v2(*_place(addresses, "uri"), _ANSWER_S) is not None


def _discovered(addresses: Addresses) -> bool:
    place = _place(addresses, "uri", 49600)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.settimeout(_ANSWER_S / 5)
        out.sendto(b"MPM-DISC", place)
        with contextlib.suppress(TimeoutError):
            return out.recv(4096).startswith(b"USRP-MPM")
    return False
