"""The drivers of channel estimates beside plain loops over their sockets, and by the clock at ten times a full cell.

A cell of 64 terminals that each sound every 80 ms gives 800 occasions a second; here they sound every 8 ms, which is
8,000. An occasion is a T tracer record for each of four antennas (4096 bins of int16) and one of their times of
arrival: 40,000 records and 530 MB a second. By FAPI it is one indication of 272 blocks and four antennas. Plainly,
records and indications are split and not looked into, or read again. What the driver gives is compared with what the
base station measured before.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.drivers.rig import ByClock, data_of, in_turns, read_by_clock, simulated, turn_row
from benchmarks.loopback import free_port
from benchmarks.report import Report, Row
from drivers.fapi import Fapi
from drivers.oai_tracer import OaiTracer
from hil.formats.srs import FRAME_S, FRAMES_PER_CYCLE, Srs
from hil.formats.t_tracer import TEXT, TEXT_END, encode_enable, parse_messages, split_records, text_chunk
from hil.frame import Frame
from hil.params import convert_params
from hil.runtime.control import ControlClient
from sim_device.device import XlArrayDevice
from sim_device.servers.gnodeb.cell import Cell
from sim_device.servers.gnodeb.messages import ESTIMATE
from sim_device.servers.sample_feed import SampleFeed
from sim_device.srs.sounding import to_counts

MODULE = "sim_device.servers.gnodeb"
N_TERMINALS, N_ANTENNAS, TIMES = 64, 4, 10
#: 80 ms of slots of half a millisecond, and a tenth of it.
PERIOD_SLOTS = 16
SRS = {"period_slots": PERIOD_SLOTS}
FULL_CELL_HZ, FIRST_RNTI, SCALE = 800.0, 0x4601, 32768.0
_CYCLE_S = FRAMES_PER_CYCLE * FRAME_S
_BUFFER = 8 << 20
_LARGEST_DATAGRAM = 65_535


def measure(quick: bool = False) -> Iterator[Row]:
    """Yield the rows; ``quick``: fewer and shorter rounds."""
    rounds, slice_s, seconds = (3, 0.3, 1.0) if quick else (15, 0.5, 10.0)
    report = Report("drivers")
    yield from _tracer_rates(report, rounds, slice_s)
    yield from _tracer_by_clock(report, seconds)
    yield from _fapi_by_clock(report, seconds)


def _device(real_time: bool) -> dict[str, Any]:
    azimuths_rad = np.linspace(-1.0, 1.0, N_TERMINALS).tolist()
    sources = [
        {"id": i + 1, "power_db": -20.0, "motion": {"kind": "bearing", "azimuth_rad": azimuth, "range_m": 50.0 + i}}
        for i, azimuth in enumerate(azimuths_rad)
    ]
    array = {"kind": "ula", "n": N_ANTENNAS, "array_id": "gnodeb"}
    return {
        "array": array, "frequency_hz": 3.5e9, "noise_power_db": -40.0, "sources": sources, "real_time": real_time,
    }  # fmt: skip


def _params(real_time: bool, **more: Any) -> dict[str, Any]:
    return {"srs": SRS, "loop_occasions": 1, "scale": SCALE, "device": _device(real_time), **more}


# -- T tracer ----------------------------------------------------------------------------------------------------------

_TRACER = f"T tracer, {N_TERMINALS} terminals, {N_ANTENNAS} antennas"


def _tracer_rates(report: Report, rounds: int, slice_s: float) -> Iterator[Row]:
    """As fast as it gives. Each contestant has a base station of its own, which waits while it is not read."""
    with ExitStack() as stack:
        params = _params(real_time=False)
        driver = OaiTracer("gnb", uri=stack.enter_context(simulated(MODULE, params))["uri"])
        stack.callback(driver.close)
        driver.open()
        _check(driver)
        plain = _plain_tracer(stack, stack.enter_context(simulated(MODULE, params))["uri"])
        taken = in_turns({"plain socket": plain, "driver": lambda: len(data_of(driver))}, rounds, slice_s)
    yield turn_row(report, _TRACER, taken, "plain socket", "occasions/s")
    yield turn_row(report, _TRACER, taken, "driver", "occasions/s", against="plain socket")


def _check(driver: OaiTracer) -> None:
    """The driver's frames are the counts that the base station measured.

    Raises:
        AssertionError: They are not.
    """
    expected = _measured()
    seen: set[int] = set()
    while len(seen) < N_TERMINALS:
        for frame in data_of(driver):
            rnti = int(frame["rnti"])
            if not np.array_equal(frame["cfr"], expected[rnti]):
                raise AssertionError(f"terminal {rnti:x}: the driver's estimates are not the base station's")
            seen.add(rnti)


def _measured() -> dict[int, npt.NDArray[np.int16]]:
    """Counts of each terminal's first occasion, ``[sensor, subcarrier, component]``."""
    srs = convert_params(Srs, SRS, "srs")
    device = XlArrayDevice("gnodeb", **{**_device(real_time=False), "sample_rate_hz": srs.sample_rate_hz})
    cell = Cell(SampleFeed(device), srs, FIRST_RNTI, timing_advance=True)
    out = {}
    for terminal in cell.terminals:
        estimate = cell.measure(terminal, terminal.srs.offset_slots).estimate[0, :, 0]
        out[terminal.rnti] = to_counts(estimate, SCALE)[:, : srs.comb * srs.length]
    return out


def _plain_tracer(stack: ExitStack, uri: str) -> Callable[[], int]:
    """A function that reads what has come and returns how many occasions it was."""
    host, _, port = uri.removeprefix("tcp://").rpartition(":")
    sock = stack.enter_context(socket.create_connection((host, int(port))))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    memory = memoryview(bytearray(_BUFFER))
    filled, text = 0, b""
    kinds: set[int] = set()
    while TEXT_END not in kinds:
        filled += sock.recv_into(memory[filled:])
        records, _ = split_records(memory[:filled])
        kinds = {record.type for record in records}
        text = b"".join(text_chunk(record.payload) for record in records if record.type == TEXT)
    formats = parse_messages(text.decode())
    number = formats[ESTIMATE].number
    wanted = {event.number for name, event in formats.items() if name == ESTIMATE or "SRS_TOA" in name}
    sock.sendall(encode_enable(len(formats), wanted))
    header = struct.Struct("<iqqi")
    rest = n_records = 0

    def read() -> int:
        nonlocal rest, n_records
        filled = rest + sock.recv_into(memory[rest:])
        at = 0
        while filled - at >= header.size:
            length, _, _, kind = header.unpack_from(memory, at)
            if at + 4 + length > filled:
                break
            n_records += kind == number
            at += 4 + length
        rest = filled - at
        memory[:rest] = memory[at:filled]
        n, n_records = divmod(n_records, N_ANTENNAS)
        return n

    return read


def _tracer_by_clock(report: Report, seconds: float) -> Iterator[Row]:
    with ExitStack() as stack:
        addresses = stack.enter_context(simulated(MODULE, _params(real_time=True)))
        driver = OaiTracer("gnb", uri=addresses["uri"], srs={"n_antennas": N_ANTENNAS})
        stack.callback(driver.close)
        driver.open()
        read = read_by_clock(driver, seconds, axis="subcarrier")
        yield from _clock_rows(report, _TRACER, addresses, read, target=True)


# -- FAPI --------------------------------------------------------------------------------------------------------------


def _fapi_by_clock(report: Report, seconds: float) -> Iterator[Row]:
    case = f"FAPI, {N_TERMINALS} terminals, {N_ANTENNAS} antennas"
    port = free_port()
    with ExitStack() as stack:
        addresses = stack.enter_context(simulated(MODULE, _params(real_time=True, fapi_to=f"127.0.0.1:{port}")))
        driver = Fapi("gnb", uri=f"udp://127.0.0.1:{port}", srs={"period_slots": PERIOD_SLOTS})
        stack.callback(driver.close)
        driver.open()
        with ControlClient(addresses["control"]) as control:
            began_ns = control.request("stats")["tick_0_utc_ns"]

        def age(frame: Frame, now_ns: int) -> float:
            # the device's time is that of its frame and slot, which begin anew
            assert frame.header.time_ns is not None
            return (now_ns - began_ns - frame.header.time_ns) / 1e9 % _CYCLE_S

        read = read_by_clock(driver, seconds, age, axis="subcarrier")
        yield from _clock_rows(report, case, addresses, read, target=False)


def _clock_rows(report: Report, case: str, addresses: dict[str, Any], read: ByClock, *, target: bool) -> Iterator[Row]:
    rate_hz = TIMES * FULL_CELL_HZ
    case = f"{case}, by the clock at {rate_hz:g} occasions/s"
    with ControlClient(addresses["control"]) as control:
        stats = control.request("stats")
    yield report.add(
        case, "driver", read.n_frames / read.seconds, "occasions/s", n=read.n_frames,
        at_least=0.99 * rate_hz if target else None, cpu_share=read.cpu_share, age_ms=read.age_ms,
    )  # fmt: skip
    yield report.add(
        case, "driver: lost", read.lost_frames, "occasions", n=read.n_frames, at_most=0 if target else None
    )
    yield report.add(case, "base station was late for", stats["late"] / PERIOD_SLOTS * N_TERMINALS, "occasions",
                     n=read.n_frames)  # fmt: skip
