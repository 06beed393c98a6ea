"""What MultiUSRP gives when it is used plainly. Runs under the Python that has UHD; prints one line of JSON.

Usage: usrp_plain.py ARGS RATE N_SAMPLES SECONDS
"""

import json
import sys
import time

import numpy as np
import uhd


def main(args: str, rate_hz: float, n_samples: int, seconds: float) -> None:
    usrp = uhd.usrp.MultiUSRP(args)
    usrp.set_rx_rate(rate_hz)
    rate_hz = usrp.get_rx_rate()  # the nearest that the clock gives
    usrp.set_clock_source("external")
    usrp.set_time_source("external")
    usrp.set_time_unknown_pps(uhd.types.TimeSpec(0.0))
    arguments = uhd.usrp.StreamArgs("sc16", "sc16")
    arguments.channels = list(range(usrp.get_rx_num_channels()))
    stream, metadata = usrp.get_rx_stream(arguments), uhd.types.RXMetadata()
    samples = np.zeros((len(arguments.channels), n_samples), np.int32)
    command = uhd.types.StreamCMD(uhd.types.StreamMode.start_cont)
    command.stream_now = False
    command.time_spec = uhd.types.TimeSpec(usrp.get_time_now().get_real_secs() + 0.2)
    stream.issue_stream_cmd(command)
    settled_s = time.perf_counter() + 1.0
    while time.perf_counter() < settled_s:  # what waited is not counted
        stream.recv(samples, metadata, 1.0)
    n, lost, next_tick, cpu_s, start_s = 0, 0, None, time.process_time(), time.perf_counter()
    while time.perf_counter() - start_s < seconds:
        got = stream.recv(samples, metadata, 1.0)
        if metadata.error_code != uhd.types.RXMetadataErrorCode.none:
            continue  # what it lost shows in the next tick
        tick = metadata.time_spec.to_ticks(rate_hz)
        lost += 0 if next_tick is None else tick - next_tick
        next_tick = tick + got
        n += got
    elapsed_s = time.perf_counter() - start_s
    stream.issue_stream_cmd(uhd.types.StreamCMD(uhd.types.StreamMode.stop_cont))
    told = {"rate_hz": n / elapsed_s, "lost": lost, "cpu_share": (time.process_time() - cpu_s) / elapsed_s}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
