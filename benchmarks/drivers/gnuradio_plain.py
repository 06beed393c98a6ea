"""What a GNU Radio flowgraph reads of a ZeroMQ sink. Runs under the Python that has GNU Radio; prints a line of JSON.

Usage: gnuradio_plain.py ENDPOINT CHANNELS SECONDS
"""

import json
import sys
import time

from gnuradio import blocks, gr, zeromq  # type: ignore[import-not-found]

_WARM_S = 0.3


def main(endpoint: str, n_channels: int, seconds: float) -> None:
    graph = gr.top_block()
    source = zeromq.pull_source(gr.sizeof_gr_complex, n_channels, endpoint, 100, True, -1)
    sink = blocks.null_sink(gr.sizeof_gr_complex * n_channels)
    graph.connect(source, sink)
    graph.start()
    time.sleep(_WARM_S)
    first, cpu_s, start_s = sink.nitems_read(0), time.process_time(), time.perf_counter()
    time.sleep(seconds)
    n, elapsed_s = sink.nitems_read(0) - first, time.perf_counter() - start_s
    told = {"rate_hz": n * n_channels / elapsed_s, "cpu_share": (time.process_time() - cpu_s) / elapsed_s}
    print(json.dumps(told), flush=True)
    graph.stop()
    graph.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
