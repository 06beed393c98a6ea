"""The benchmark of faults: its truth finds what is missing and damaged, and no fault of a server is left out."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.faults.decoders import fuzz, messages
from benchmarks.faults.table import families
from benchmarks.faults.truth import OccasionTruth, SampleTruth, Seen, TickTruth
from hil.frame import Frame, Header
from sim_device.device import XlArrayDevice
from sim_device.servers.gnodeb.server import GnodebServer
from sim_device.servers.gnuradio.server import GnuRadioServer
from sim_device.servers.heimdall.server import HeimdallServer
from sim_device.servers.iiod.server import IiodServer
from sim_device.servers.protocol_server import ProtocolServer
from sim_device.servers.quantise import quantise
from sim_device.servers.srsran.server import SrsRanServer
from sim_device.servers.usrp.server import UsrpServer

PERIOD, N = 4096, 100
DEVICE = {"array": {"kind": "ula", "n": 2}, "sample_rate_hz": 1e4, "noise_power_db": -20.0, "seed": 5}
SERVERS: dict[str, type[ProtocolServer]] = {
    s.__module__.rpartition(".")[0]: s
    for s in (GnodebServer, GnuRadioServer, HeimdallServer, IiodServer, SrsRanServer, UsrpServer)
}


def counts(tick: int) -> Frame:
    samples = quantise(XlArrayDevice("other", **DEVICE).samples(0, PERIOD), 12)
    iq = samples.take(np.arange(tick, tick + N), 1, mode="wrap").transpose(1, 0, 2)
    return Frame.of(
        Header(stream="radio.iq", seq=0), iq=(np.ascontiguousarray(iq), "snapshot sensor component", "count")
    )


def test_frames_are_found_by_their_samples_and_what_is_missing_between_them_counted() -> None:
    truth = SampleTruth(DEVICE, PERIOD, "int12")
    ticks = [0, 100, 350, 450, PERIOD - 50, PERIOD + 50, 3 * PERIOD + 50]
    seen = [truth.look(0.01 + (tick + N) / 1e4, counts(tick % PERIOD)) for tick in ticks]
    assert [s.place for s in seen] == [tick % PERIOD for tick in ticks]
    assert {s.n_wrong for s in seen} == {0}
    assert truth.lost(seen, []) == 150 + (PERIOD - 50 - 550) + (2 * PERIOD - 100)
    assert truth.lost(seen, [seen[2].at_s]) == truth.lost(seen, []) - 150


def test_damaged_samples_are_counted() -> None:
    truth, frame = SampleTruth(DEVICE, PERIOD, "int12"), counts(700)
    frame.arrays["iq"][3:9] = 0
    seen = truth.look(0.0, frame)
    assert (seen.place, seen.n, seen.n_wrong) == (700, N, 6)
    frame.arrays["iq"][:] = 0
    assert truth.look(0.0, frame)[3:] == (None, N, N)


def test_ticks_are_taken_at_their_word_only_where_the_samples_agree() -> None:
    truth, samples = TickTruth(DEVICE), XlArrayDevice("other", **DEVICE).samples(40, N)
    header = Header(stream="radio.iq", seq=0, sample_start=40)
    right = truth.look(0.0, Frame.of(header, iq=(samples, "sensor snapshot", "FS")))
    wrong = truth.look(0.0, Frame.of(header.replace(sample_start=41), iq=(samples, "sensor snapshot", "FS")))
    assert (right.n_wrong, wrong.n_wrong) == (0, N)
    assert truth.lost([right, right._replace(place=190)], []) == 50


def test_occasions_that_are_missing_are_counted_for_each_terminal() -> None:
    seen = [Seen(0.0, Header(stream="a", seq=0), (rnti, 0), frame, 1) for rnti, frame in
            ((1, 1018), (2, 1019), (1, 1020), (1, 2), (2, 1021))]  # fmt: skip
    assert OccasionTruth(2).lost(seen, []) == 2


def test_every_fault_of_every_server_has_a_case_or_a_reason() -> None:
    for family in families():
        server = SERVERS.get(family.module)
        if server is not None:
            told = {case.fault for case in family.cases} | set(family.not_here)
            assert set(server.fault_kinds) <= told | {"kill"}, family.name


@pytest.mark.parametrize("name", sorted(messages()))
def test_each_decoder_refuses_what_it_cannot_read(name: str) -> None:
    told = fuzz(name, 50, 7)
    assert told["wrong"] == 0
