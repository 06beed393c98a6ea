"""Runs under the Python that has UHD: what a plain host program does with MultiUSRP. Prints JSON, saves samples.

Usage: usrp_host.py ARGS RATE N_SAMPLES DELAY_S [OUT.npz]
"""

import json
import sys

import numpy as np
import uhd


def main(args: str, rate_hz: float, n_samples: int, delay_s: float, path: str = "") -> None:
    usrp = uhd.usrp.MultiUSRP(args)
    usrp.set_rx_rate(rate_hz)
    if usrp.get_num_mboards() > 1:
        usrp.set_clock_source("external")
        usrp.set_time_source("external")
        usrp.set_time_unknown_pps(uhd.types.TimeSpec(0.0))
    else:
        usrp.set_time_now(uhd.types.TimeSpec(100.0))
    for channel in range(usrp.get_rx_num_channels()):
        usrp.set_rx_freq(uhd.types.TuneRequest(2.45e9), channel)
        usrp.set_rx_gain(3.0, channel)
    arguments = uhd.usrp.StreamArgs("sc16", "sc16")
    arguments.channels = list(range(usrp.get_rx_num_channels()))
    stream, metadata = usrp.get_rx_stream(arguments), uhd.types.RXMetadata()
    command = uhd.types.StreamCMD(uhd.types.StreamMode.num_done)
    command.num_samps, command.stream_now = n_samples, False
    start = uhd.types.TimeSpec(usrp.get_time_now().get_real_secs() + delay_s)
    command.time_spec = start
    stream.issue_stream_cmd(command)
    samples, got, first, error, ended = np.zeros((len(arguments.channels), n_samples), np.int32), 0, None, "none", False
    while got < n_samples:
        piece = np.zeros((len(arguments.channels), n_samples - got), np.int32)
        n = stream.recv(piece, metadata, 3.0)
        if metadata.error_code != uhd.types.RXMetadataErrorCode.none:
            error = metadata.error_code.name
            break
        if first is None:
            first = metadata.time_spec.to_ticks(rate_hz)
        samples[:, got : got + n] = piece[:, :n]
        got, ended = got + n, metadata.end_of_burst
    told = {
        "boards": usrp.get_num_mboards(),
        "channels": len(arguments.channels),
        "rate_hz": usrp.get_rx_rate(0),
        "frequency_hz": usrp.get_rx_freq(0),
        "synchronized": usrp.get_time_synchronized(),
        "ref_locked": usrp.get_mboard_sensor("ref_locked", 0).to_bool(),
        "commanded_tick": start.to_ticks(rate_hz),
        "first_tick": first,
        "got": got,
        "error": error,
        "end_of_burst": ended,
    }
    if path:
        np.savez(path, samples=samples)
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), *sys.argv[5:])
