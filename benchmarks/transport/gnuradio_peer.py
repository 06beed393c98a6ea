"""One end of a GNU Radio ZeroMQ connection. Run by the Python that has GNU Radio: it imports nothing of ours.

``python3 gnuradio_peer.py send|receive PUB|PUSH ENDPOINT SECONDS``. The sender repeats a ramp. The receiver first looks
at what came, item by item, then counts what comes in ``SECONDS`` without looking, and prints one JSON object.
"""

import json
import sys
import time
from typing import Any

import numpy as np
from gnuradio import blocks, gr, zeromq  # type: ignore[import-not-found]

N_ITEMS = 65536
ITEM_BYTES = 8
N_CHECKED = 1_000_000


def send(pattern: str, endpoint: str, seconds: float) -> None:
    graph = gr.top_block()
    source = blocks.vector_source_c(np.arange(N_ITEMS).astype(np.complex64), repeat=True)
    make = zeromq.pub_sink if pattern == "PUB" else zeromq.push_sink
    sink = make(gr.sizeof_gr_complex, 1, endpoint, 100, False, -1)
    graph.connect(source, sink)
    graph.start()
    time.sleep(seconds)
    graph.stop()
    graph.wait()


def receive(pattern: str, endpoint: str, seconds: float) -> None:
    make = zeromq.sub_source if pattern == "PUB" else zeromq.pull_source
    checked = check(make, endpoint)
    graph = gr.top_block()
    source = make(gr.sizeof_gr_complex, 1, endpoint, 100, False, -1)
    sink = blocks.null_sink(gr.sizeof_gr_complex)
    graph.connect(source, sink)
    graph.start()
    time.sleep(0.3)
    first, start = sink.nitems_read(0), time.perf_counter()
    time.sleep(seconds)
    last, end = sink.nitems_read(0), time.perf_counter()
    graph.stop()
    graph.wait()
    rate = (last - first) * ITEM_BYTES / (end - start)
    print(json.dumps({"bytes_per_s": rate, "checked": checked, "version": gr.version()}), flush=True)


def check(make: Any, endpoint: str) -> int:
    """Return how many items were compared with the ramp; a drop of a whole message may begin it anew."""
    graph = gr.top_block()
    source = make(gr.sizeof_gr_complex, 1, endpoint, 100, False, -1)
    head = blocks.head(gr.sizeof_gr_complex, N_CHECKED)
    sink = blocks.vector_sink_c()
    graph.connect(source, head, sink)
    graph.run()
    ramp = np.array(sink.data()).real.astype(np.int64)
    wrong = int(((ramp[1:] - ramp[:-1]) % N_ITEMS != 1).sum())
    if wrong > N_CHECKED // 1000:
        raise SystemExit(f"{wrong} of {N_CHECKED} items do not follow the one before")
    return N_CHECKED


if __name__ == "__main__":
    role, pattern, endpoint, seconds = sys.argv[1:]
    (send if role == "send" else receive)(pattern, endpoint, float(seconds))
