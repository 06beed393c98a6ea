"""Mutated messages against each decoder of bytes from outside: it returns, or refuses with the error it declares."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np

from benchmarks.faults.mutate import mutate
from benchmarks.report import ROOT, Report, Row
from hil.discovery.zeromq import socket_type
from hil.errors import RecordingError, WireError
from hil.formats import fapi, gr_zeromq, heimdall, pmt, t_tracer
from hil.frame import Frame, Header
from hil.record.packing import pack_parts, unpack_frame
from hil.record.sigmf_meta import parse_meta
from hil.wire import decode_header, encode
from sim_device.servers.usrp import chdr
from sim_device.servers.usrp.management import Operation, Transaction, parse_management
from sim_device.servers.usrp.rpc import RpcConversation

N, N_QUICK = 10_000, 500
#: Longest that one message may take; a decoder that loops over a count from the message takes seconds.
_LONGEST_S = 0.5
#: Most that is held after all of them.
_GROWTH_BYTES = 1_000_000
_MESSAGES = "ID = A\nFORMAT = int,gNB_ID : int,rnti : string,text : buffer,chest_f\nID = B\nFORMAT = ulong,x\n"


def messages() -> dict[str, tuple[bytes, Callable[[bytes], Any]]]:
    """A good message of each kind, and what reads it."""
    formats = t_tracer.parse_messages(_MESSAGES)
    values = {"gNB_ID": 1, "rnti": 2, "text": "x", "chest_f": bytes(64)}
    event = t_tracer.encode_event(formats["A"], values, 5)
    h = np.arange(2 * 4 * 6 * 2).reshape(2, 4, 6, 2).astype(np.int16)
    matrix = fapi.ChannelMatrix(1, h)
    ratios = fapi.BeamformingReport(1, 1, 10.0, (np.arange(6.0),))
    pdus = (fapi.SrsPdu(7, 17921, 3, 9, 1, 1, matrix), fapi.SrsPdu(7, 17921, None, None, 0, 1, ratios))
    indication = fapi.SrsIndication(5, 7, pdus)
    greeting = (b"\xff" + bytes(7) + b"\x01\x7f\x03\x00NULL").ljust(64, b"\0")
    greeting += b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB"
    tags = (gr_zeromq.Tag(3, "rx_freq", 2.4e9), gr_zeromq.Tag(4, "packet_len", 12))
    pdu = pmt.Pair({"a": [1, 2.5, None]}, np.arange(8, dtype=np.complex64))
    frame = Frame.of(Header(stream="a.iq", seq=3), iq=(np.zeros((2, 8), np.complex64), "sensor snapshot", "FS"))
    text = t_tracer.split_records(memoryview(t_tracer.encode_text(_MESSAGES, 0)))[0][0]
    kinds: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
        "frame": (b"".join(pack_parts(encode(frame))), unpack_frame),
        "heimdall 1 header": (
            heimdall.encode_v1(heimdall.HeaderV1(n_samples=64, sample_rate_hz=1)),
            heimdall.decode_v1,
        ),
        "heimdall 1 command": (heimdall.encode_control_v1("FREQ", 1), lambda d: heimdall.decode_control_v1(d, 5)),
        "heimdall 2 header": (
            heimdall.encode_v2(heimdall.HeaderV2(2, 64, frequency_hz=(1e9, 1e9), gain_db=(0.0, 1.0))),
            heimdall.find_v2,
        ),
        "heimdall 2 command": (heimdall.encode_control_v2("set_frequency", frequency=1), heimdall.decode_control_v2),
        "T tracer records": (event * 3, lambda data: t_tracer.split_records(memoryview(data))),
        "T tracer event": (event[24:], lambda data: t_tracer.decode_event(formats["A"], memoryview(data))),
        "T_messages": (_MESSAGES.encode(), lambda data: t_tracer.parse_messages(data.decode(errors="replace"))),
        "GNU Radio tags": (gr_zeromq.encode_tags(5, tags), gr_zeromq.decode_tags),
        "PMT": (pmt.encode(pdu), pmt.decode),
        "ZMTP greeting": (greeting, socket_type),
        "frame header": (encode(frame)[1], decode_header),
        "T tracer, what a client wants": (t_tracer.encode_enable(30, [3, 5]), lambda d: next(_enables(d))),
        "T tracer text": (bytes(text.payload), lambda d: t_tracer.text_chunk(memoryview(d))),
        "SigMF metadata": (
            b'{"global": {"core:datatype": "ci16_le"}, "captures": [{"core:sample_start": 0}], "annotations": []}',
            lambda data: parse_meta(data, "a.sigmf-meta"),
        ),
        "CHDR packet": (bytes.fromhex("0000280000000200") + bytes(32), chdr.parse_packet),
        "CHDR control": (chdr.Control(1, 2, 3, 4, 0x100, 2, (5,), 1000).pack(), chdr.parse_control),
        "CHDR stream status": (bytes(40), chdr.parse_stream_status),
        "CHDR management": (Transaction(0, 3, 1, [[Operation(6, 5), Operation(0, 0)]] * 2).pack(), parse_management),
        "MessagePack-RPC": (msgpack.packb([0, 1, "claim", ["token"]]), lambda d: RpcConversation(lambda m, a: 1)(d)),
    }
    for profile in fapi.LAYOUTS:
        body = fapi.encode_srs_indication(indication, profile)
        datagram = fapi.encode_segments(body, profile, sequence=1, time_us=2)[0]
        kinds[f"FAPI SRS.indication, {profile}"] = (body, lambda d, p=profile: fapi.decode_srs_indication(d, p))  # type: ignore[misc]
        kinds[f"FAPI segment, {profile}"] = (datagram, lambda d, p=profile: fapi.decode_segment(d, p))  # type: ignore[misc]
    return kinds


def _enables(data: bytes) -> Iterator[frozenset[int]]:
    """What a client that sends ``data`` wants; it goes then."""
    at = 0

    def receive(n: int) -> bytes:
        nonlocal at
        if at + n > len(data):
            raise WireError("the client has gone")
        at += n
        return data[at - n : at]

    return t_tracer.read_enable(receive)


def fuzz(name: str, n: int, seed: int) -> dict[str, float]:
    """Read ``n`` mutated messages of one kind.

    Returns:
        ``refused`` with :class:`WireError` (recordings: :class:`RecordingError`), ``wrong`` (any other exception),
        ``longest_s`` of processor time for one message, ``grown``: bytes more than after half of them.
    """
    good, read = messages()[name]
    read(good)
    rng = np.random.default_rng(seed)
    refused = wrong = 0
    longest_s = 0.0
    first: str = ""
    tracemalloc.start()
    before = 0
    for i in range(n):
        message = mutate(good, rng)
        start = time.process_time()
        try:
            read(message)
        except (WireError, RecordingError):
            refused += 1
        except Exception as error:
            wrong += 1
            first = first or f"{type(error).__name__}: {error} for {message.hex()}"
        longest_s = max(longest_s, time.process_time() - start)
        if i == n // 2:  # what is remembered on purpose is full by then
            before = tracemalloc.get_traced_memory()[0]
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    if first:
        sys.stderr.write(f"{name}: {first}\n")
    return {"refused": refused, "wrong": wrong, "longest_s": longest_s, "grown": grown}


def measure(quick: bool) -> Iterator[Row]:
    """One process a decoder, so that one that crashes takes no other with it."""
    report = Report("faults")
    n = N_QUICK if quick else N
    for name in messages():
        code = f"import json; from benchmarks.faults.decoders import fuzz; print(json.dumps(fuzz({name!r}, {n}, 1)))"
        try:
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=600, check=False
            )
            told = json.loads(done.stdout) if done.returncode == 0 else None
        except subprocess.TimeoutExpired:
            told = None
        case = f"decoder, {name}: mutated messages"
        wrong = n if told is None else told["wrong"]
        yield report.add(case, "crashes, hangs, undeclared errors", wrong, "messages", n=n, at_most=0)
        if told is not None:
            yield report.add(case, "longest", told["longest_s"] * 1e3, "ms", n=n, at_most=_LONGEST_S * 1e3)
            yield report.add(case, "memory kept", told["grown"] / 1e3, "kB", n=n, at_most=_GROWTH_BYTES / 1e3)
