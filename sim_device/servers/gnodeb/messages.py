"""The events that the simulated base station knows, and their records."""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import Literal, NamedTuple

import numpy as np

from hil.formats.t_tracer import EventFormat, encode_event, parse_messages
from sim_device.servers.gnodeb.cell import Occasion, in_fft_bins

Form = Literal["newer", "older"]

ESTIMATE = "GNB_PHY_UL_FREQ_CHANNEL_ESTIMATE"
LEAST_SQUARES = "GNB_PHY_SRS_LS_ESTIMATE"
ARRIVAL = "GNB_PHY_UL_SRS_TOA_NS"

# The numbers are given by the order, so that events which nobody here sends stand between those that are.
_NEWER = """\
ID = GNB_PHY_UL_TICK
    DESC = gNodeB uplink tick, one a slot
    GROUP = ALL:PHY:GRAPHIC:GNB
    FORMAT = int,gNB_ID : int,frame : int,slot
ID = GNB_PHY_UL_FREQ_CHANNEL_ESTIMATE
    DESC = gNodeB channel estimation in the frequency domain based on SRS
    GROUP = ALL:PHY:GRAPHIC:HEAVY:GNB
    FORMAT = int,gNB_ID : int,rnti : int,frame : int,subframe : int,antenna : int,port : buffer,chest_f
ID = GNB_PHY_UL_TIME_CHANNEL_ESTIMATE
    DESC = gNodeB channel estimation in the time domain based on SRS
    GROUP = ALL:PHY:GRAPHIC:HEAVY:GNB
    FORMAT = int,gNB_ID : int,rnti : int,frame : int,subframe : int,antenna : int,port : buffer,chest_t
ID = GNB_PHY_SRS_LS_ESTIMATE
    DESC = gNodeB least squares estimate on the SRS, before interpolation
    GROUP = ALL:PHY:GRAPHIC:HEAVY:GNB
    FORMAT = int,gNB_ID : int,rnti : int,frame : int,slot : int,antenna : int,port : buffer,chest_ls
ID = LEGACY_PHY_INFO
    DESC = PHY legacy logs - info level
    GROUP = ALL:LEGACY_PHY:LEGACY_GROUP_INFO:LEGACY
    FORMAT = string,log
ID = GNB_PHY_UL_SRS_TOA_NS
    DESC = gNodeB time of arrival of the SRS at each antenna
    GROUP = ALL:PHY:GRAPHIC:GNB
    FORMAT = int,gNB_ID : int,rnti : int,frame : int,slot : buffer,toa_ns
"""
_OLDER = """\
ID = GNB_PHY_UL_TICK
    DESC = gNodeB uplink tick, one a slot
    GROUP = ALL:PHY:GRAPHIC:GNB
    FORMAT = int,gNB_ID : int,frame : int,slot
ID = LEGACY_PHY_INFO
    DESC = PHY legacy logs - info level
    GROUP = ALL:LEGACY_PHY:LEGACY_GROUP_INFO:LEGACY
    FORMAT = string,log
ID = GNB_PHY_UL_FREQ_CHANNEL_ESTIMATE
    DESC = gNodeB channel estimation in the frequency domain based on SRS
    GROUP = ALL:PHY:GRAPHIC:HEAVY:GNB
    FORMAT = int,gNB_ID : int,rnti : int,frame : int,subframe : int,antenna : buffer,chest_t
"""
TEXTS: dict[Form, str] = {"newer": _NEWER, "older": _OLDER}

# Where a record has its time, and where its frame: gNB_ID and rnti come before it.
_TIME, _FRAME = 4, 32


class Encoded(NamedTuple):
    """Records of one occasion that can be sent again under another time and frame."""

    numbers: list[int]
    records: list[bytearray]

    def stamp(self, time_ns: int, frame: int) -> None:
        """Set time and frame of all records."""
        seconds, ns = divmod(time_ns, 1_000_000_000)
        for record in self.records:
            struct.pack_into("<qq", record, _TIME, seconds, ns)
            struct.pack_into("<i", record, _FRAME, frame)


def encode_occasion(
    occasion: Occasion,
    formats: dict[str, EventFormat],
    wanted: Collection[int],
    scale: float,
    *,
    duplicated: bool = False,
    cut_to: int | None = None,
) -> Encoded:
    """Records of the events in ``wanted``.

    Args:
        occasion: What was measured.
        formats: Events of the base station.
        wanted: Numbers of the events that somebody turned on.
        scale: Counts of full scale 1.
        duplicated: Give the first half of the antennas twice, a fault of base stations with several radio units.
        cut_to: Give so many subcarriers of the first antenna only.
    """
    srs = occasion.terminal.srs
    common = {"gNB_ID": 0, "rnti": occasion.terminal.rnti, "frame": occasion.frame, "slot": occasion.slot}
    n_sensors = occasion.estimate.shape[1]
    older = all(name != "port" for _, name in formats[ESTIMATE].fields)
    out = Encoded([], [])

    def add(name: str, **values: object) -> None:
        out.numbers.append(formats[name].number)
        out.records.append(bytearray(encode_event(formats[name], {**common, **values}, 0)))

    for name, values in ((ESTIMATE, occasion.estimate), (LEAST_SQUARES, occasion.raw)):
        if name not in formats or formats[name].number not in wanted:
            continue
        counts = in_fft_bins(srs, values, scale)  # (port, sensor, symbol, bin, component)
        for sensor in range(1 if older else n_sensors):
            given = sensor % max(1, n_sensors // 2) if duplicated else sensor
            for port in range(1 if older else srs.n_ports):
                # the older form has one symbol
                samples = counts[port, given, :1] if older else counts[port, given]
                data = samples.astype("<i2").tobytes()
                if cut_to is not None and sensor == 0 and port == 0:
                    data = data[: 4 * cut_to]
                add(name, subframe=0, antenna=sensor, port=port, chest_f=data, chest_t=data, chest_ls=data)
    if ARRIVAL in formats and formats[ARRIVAL].number in wanted:
        toa_ns = np.clip(np.rint(occasion.arrival_s * 1e9), -32768, 32767).astype("<i2")
        add(ARRIVAL, toa_ns=toa_ns.tobytes())
    return out


def formats_of(form: Form) -> dict[str, EventFormat]:
    """Events by name."""
    return parse_messages(TEXTS[form])
