"""The UDP side: FAPI SRS.indication to one address, as a base station's lower half sends it to the upper one."""

from __future__ import annotations

import socket
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hil.formats.fapi import (
    USAGES,
    BeamformingReport,
    ChannelMatrix,
    Profile,
    SrsIndication,
    SrsPdu,
    encode_segments,
    encode_srs_indication,
)
from hil.formats.srs import SUBCARRIERS_PER_RB
from sim_device.servers.gnodeb.cell import Occasion
from sim_device.servers.gnodeb.tracer_port import corrupted
from sim_device.servers.protocol_faults import FaultBoard
from sim_device.srs.sounding import to_counts

Representation = Literal["int8", "int16", "float32"]


class FapiPort:
    """Sends indications.

    Args:
        to: Host and port.
        profile: Byte order.
        representation: Of the channel matrix.
        prg_size: Resource blocks of one value.
        report: What is reported.
        scale: Counts of full scale 1 at 16 bits; int8 has the upper byte of them.
        faults: What shall go wrong.
    """

    def __init__(
        self,
        to: tuple[str, int],
        profile: Profile,
        representation: Representation,
        prg_size: int,
        report: Literal["codebook", "beam_management"],
        scale: float,
        faults: FaultBoard,
    ) -> None:
        self._to, self._profile, self._representation = to, profile, representation
        self._prg_size, self._report, self._scale, self._faults = prg_size, report, scale, faults
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sequence = 0
        self._pdus: dict[tuple[int, int] | None, SrsPdu] = {}
        self.n_sent = 0

    def send(self, occasion: Occasion, time_us: int, place: tuple[int, int] | None = None) -> None:
        """Send what one occasion gave.

        Args:
            occasion: ...
            time_us: Of the header.
            place: Names a measurement that is sent again and again.
        """
        cut = self._faults.take("short_read")
        pdu = self.pdu(occasion) if place not in self._pdus else self._pdus[place]
        if place is not None:
            self._pdus[place] = pdu
        body = encode_srs_indication(SrsIndication(occasion.frame, occasion.slot, (pdu,)), self._profile)
        if cut is not None:
            body = body[: max(8, len(body) // 2 if cut.amount is None else int(cut.amount))]
        for datagram in encode_segments(body, self._profile, sequence=self._sequence, time_us=time_us):
            if fault := self._faults.take("corrupt"):
                datagram = corrupted(datagram, int(fault.amount or 16))
            self._socket.sendto(datagram, self._to)
        self.skip()
        self.n_sent += 1

    def skip(self) -> None:
        """Count a message that does not go out."""
        self._sequence = (self._sequence + 1) % 256

    def pdu(self, occasion: Occasion) -> SrsPdu:
        """The part of an indication that tells of one terminal: its first symbol."""
        first = int(occasion.sent[0].subcarrier[0])
        n_prg = len(occasion.sent[0].subcarrier) * occasion.terminal.srs.comb // (SUBCARRIERS_PER_RB * self._prg_size)
        report: ChannelMatrix | BeamformingReport
        if self._report == "beam_management":
            snr_db = np.full(n_prg, occasion.snr_db)
            report = BeamformingReport(self._prg_size, 1, occasion.snr_db, (snr_db,))
        else:
            # one value a PRG: at the first subcarrier that the terminal sounds in it
            at = first + SUBCARRIERS_PER_RB * self._prg_size * np.arange(n_prg)
            values = occasion.estimate[:, :, 0, at]  # (port, sensor, prg)
            report = ChannelMatrix(self._prg_size, self._represented(values))
        arrival_ns = int(np.clip(round(float(occasion.arrival_s[0]) * 1e9), -32767, 32767))
        # 31 is no change, in the steps of TS 38.213 section 4.2
        step_s = 16 * 64 / (480e3 * 4096) * 15 / occasion.terminal.srs.scs_khz
        advance = int(np.clip(31 + round(float(occasion.arrival_s[0]) / step_s), 0, 63))
        usage = USAGES.index(self._report)
        return SrsPdu(occasion.terminal.rnti, occasion.terminal.rnti, advance, arrival_ns, usage, 1, report)

    def _represented(self, values: npt.NDArray[np.complex128]) -> npt.NDArray[Any]:
        if self._representation == "float32":
            return values.astype(np.complex64)[..., None].view(np.float32)
        counts = to_counts(values, self._scale)
        return counts if self._representation == "int16" else (counts >> 8).astype(np.int8)

    def close(self) -> None:
        self._socket.close()
