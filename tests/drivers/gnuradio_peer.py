"""One end of a GNU Radio ZeroMQ connection. Run by the Python that has GNU Radio: it imports nothing of ours.

``python3 gnuradio_peer.py send SOCKET CONTENT VLEN`` binds a sink to a free port of this host, prints its endpoint and
sends a ramp: entry ``c`` of item ``i`` is ``i mod 4096 + j c``. Tags stand at items 0 and 3000 of each pass of 10,000.

``python3 gnuradio_peer.py receive SOCKET CONTENT VLEN ENDPOINT N FILE`` reads N items, writes them to FILE and prints
the tags.
"""

import json
import socket
import sys
import time
from typing import Any

import numpy as np
import pmt  # type: ignore[import-not-found]
from gnuradio import blocks, gr, zeromq  # type: ignore[import-not-found]

N_ITEMS, RAMP, SECOND_TAG = 10_000, 4096, 3000
RATE_HZ, TIME_S = 1e6, 1_700_000_000


def free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def tag(offset: int, key: str, value: Any) -> Any:
    made = gr.tag_t()
    made.offset, made.key, made.value, made.srcid = offset, pmt.intern(key), value, pmt.intern("radio")
    return made


def at(item: int) -> Any:
    seconds, fraction = divmod(item / RATE_HZ, 1)
    return pmt.make_tuple(pmt.from_uint64(TIME_S + int(seconds)), pmt.from_double(fraction))


def send(kind: str, content: str, vlen: int) -> None:
    endpoint, graph = free_endpoint(), gr.top_block()
    if content == "pdu":
        make = {"pub": zeromq.pub_msg_sink, "push": zeromq.push_msg_sink}[kind]
        sink = make(endpoint, 100, True)
        samples = (np.arange(100)[:, None] + 1j * np.arange(vlen)).astype(np.complex64).ravel()
        meta = pmt.dict_add(pmt.make_dict(), pmt.intern("rx_freq"), pmt.from_double(2.4e9))
        meta = pmt.dict_add(meta, pmt.intern("rx_time"), at(0))
        strobe = blocks.message_strobe(pmt.cons(meta, pmt.init_c32vector(len(samples), samples.tolist())), 10)
        graph.msg_connect((strobe, "strobe"), (sink, "in"))
    else:
        make = {"pub": zeromq.pub_sink, "push": zeromq.push_sink, "rep": zeromq.rep_sink}[kind]
        sink = make(gr.sizeof_gr_complex, vlen, endpoint, 100, content == "tagged", -1)
        items = (np.arange(N_ITEMS) % RAMP)[:, None] + 1j * np.arange(vlen)
        tags = [
            tag(0, "rx_time", at(0)),
            tag(0, "rx_rate", pmt.from_double(RATE_HZ)),
            tag(0, "rx_freq", pmt.from_double(2.4e9)),
            tag(SECOND_TAG, "rx_freq", pmt.from_double(2.5e9)),
            tag(SECOND_TAG + 7, "note", pmt.from_long(5)),
        ]
        source = blocks.vector_source_c(items.astype(np.complex64).ravel().tolist(), True, vlen, tags)
        graph.connect(source, blocks.throttle(gr.sizeof_gr_complex * vlen, 2e5), sink)
    graph.start()
    print(endpoint, flush=True)
    sys.stdin.read()  # until the test ends it
    graph.stop()
    graph.wait()


def receive(kind: str, content: str, vlen: int, endpoint: str, n: int, path: str) -> None:
    graph = gr.top_block()
    if content == "pdu":
        make = {"sub": zeromq.sub_msg_source, "pull": zeromq.pull_msg_source}[kind]
        source, sink = make(endpoint, 100, False), blocks.message_debug(False)
        graph.msg_connect((source, "out"), (sink, "store"))
        graph.start()
        while sink.num_messages() < n:
            time.sleep(0.01)
        graph.stop()
        graph.wait()
        pdus = [sink.get_message(i) for i in range(n)]
        np.save(path, np.concatenate([pmt.c32vector_elements(pmt.cdr(p)) for p in pdus]))
        print(json.dumps([pmt.to_python(pmt.car(p)) for p in pdus], default=str), flush=True)
        return
    make = {"sub": zeromq.sub_source, "pull": zeromq.pull_source, "req": zeromq.req_source}[kind]
    source = make(gr.sizeof_gr_complex, vlen, endpoint, 100, content == "tagged", -1)
    head, sink = blocks.head(gr.sizeof_gr_complex * vlen, n), blocks.vector_sink_c(vlen)
    graph.connect(source, head, sink)
    graph.run()
    np.save(path, np.array(sink.data(), np.complex64).reshape(-1, vlen))
    tags = [[t.offset, str(t.key), pmt.to_python(t.value), str(t.srcid)] for t in sink.tags()]
    print(json.dumps(tags), flush=True)


if __name__ == "__main__":
    role, kind, content, vlen, *rest = sys.argv[1:]
    if role == "send":
        send(kind, content, int(vlen))
    else:
        receive(kind, content, int(vlen), rest[0], int(rest[1]), rest[2])
