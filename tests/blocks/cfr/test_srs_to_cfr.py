"""A capture of sounding reference signals to channel responses, whatever chunks it comes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from blocks.cfr.cfr_angle import CfrAngle
from blocks.cfr.srs_to_cfr import SrsToCfr
from hil.errors import EstimationError, ParamError
from hil.formats.srs import Srs, is_srs_slot, slot_samples, srs_symbol, subcarrier_offsets_hz
from hil.frame import Frame, Header
from hil.params import params_to_plain
from sim_device.srs.waveform import srs_slot
from tests.blocks.cfr.channels import C128, described, line, nmse_db, noise, of_carrier, small

PATHS = [(1.0 + 0j, 0.1e-6, 0.4)]


def capture(srs: Srs, n_slots: int, h: C128, noise_power: float = 1e-3) -> C128:
    """Frame 0 and what follows it, as the antennas receive it."""
    parts = []
    for number in range(n_slots):
        frame, slot = divmod(number, srs.slots_per_frame)
        if is_srs_slot(srs, frame, slot):
            parts.append(srs_slot(srs, frame, slot, np.broadcast_to(h, (srs.n_ports, *h.shape))))
        else:
            parts.append(np.zeros((len(h), slot_samples(srs, slot)), np.complex128))
    whole = np.concatenate(parts, axis=1)
    return whole + noise(whole.shape, noise_power, 5)


def run(block: SrsToCfr, iq: C128, chunk: int, first: int = 0, **header: Any) -> list[Frame]:
    out: list[Frame] = []
    for seq, start in enumerate(range(0, iq.shape[1], chunk)):
        told = {"sample_rate_hz": 15.36e6, "frequency_hz": 3.5e9, "sample_start": first + start, **header}
        piece = np.ascontiguousarray(iq[:, start : start + chunk]).astype(np.complex64)
        frame = Frame.of(Header(stream="r.iq", seq=seq)._replace(**told), iq=(piece, "sensor snapshot", "FS"))
        out += [f for _, f in block.feed("iq", frame)]
    return out


def block(srs: Srs, **params: Any) -> SrsToCfr:
    return SrsToCfr("srs", srs=params_to_plain(srs), **params)


@pytest.mark.parametrize("chunk", [1000, 7000, 10**6])
def test_each_occasion_gives_the_response_whatever_the_chunks(chunk: int) -> None:
    srs = small(period_slots=2, offset_slots=1)
    h = of_carrier(srs, PATHS)
    frames = run(block(srs, start_sample=0, rnti=4242), capture(srs, 6, h), chunk)
    assert [(f.header.meta["frame"], f.header.meta["slot"]) for f in frames] == [(0, 1), (0, 3), (0, 5)]
    for frame in frames:
        assert nmse_db(frame["cfr"], h) < -25 and int(frame["rnti"]) == 4242
        assert frame["cfr"].dtype == np.complex64
        np.testing.assert_array_equal(frame["subcarrier_hz"], subcarrier_offsets_hz(srs))
        assert frame.header.meta["delay_s"] == pytest.approx(0.1e-6, abs=5e-9)


def test_frames_carry_the_place_and_time_of_their_symbol() -> None:
    srs = small(period_slots=2)
    iq = capture(srs, 2, of_carrier(srs, PATHS))
    (frame,) = run(block(srs, start_sample=100), iq, 10**6, first=100, time_ns=5_000_000, timebase="device")
    first = int(np.flatnonzero(np.abs(iq[0]) > 0.2)[0])  # the prefix of symbol 13
    at = frame.header.sample_start
    assert at is not None and at - 100 == pytest.approx(first + 36, abs=3)  # a prefix is 36 samples
    assert frame.header.time_ns == 5_000_000 + round((at - 100) / 15.36e6 * 1e9)
    assert frame.header.timebase == "device" and frame.header.frequency_hz == 3.5e9


def test_an_unknown_start_is_found() -> None:
    """Delays are then counted from an eighth of a prefix before the strongest path."""
    srs = small()
    h = of_carrier(srs, PATHS)
    finder = block(srs)
    frames = run(finder, capture(srs, 10, h)[:, 3333:], 5000, first=700_000)
    assert len(frames) == finder.stats()["occasions"] >= 2
    turn = frames[0]["cfr"] / h
    slope = np.angle(np.mean(turn[:, 1:] * turn[:, :-1].conj())) / (2 * np.pi * srs.scs_hz)
    straight = h * np.exp(2j * np.pi * slope * subcarrier_offsets_hz(srs))
    scale = np.vdot(straight, frames[0]["cfr"]) / np.vdot(straight, straight)
    assert nmse_db(frames[0]["cfr"] / scale, straight) < -20  # but for a delay it is the same at all antennas
    assert frames[0].header.meta["delay_s"] == pytest.approx(36 // 8 / 15.36e6, abs=40e-9)
    assert "slot" not in frames[0].header.meta


@pytest.mark.parametrize("comb", [2, 4])
def test_a_band_that_hops_and_a_sequence_that_hops(comb: int) -> None:
    srs = small(comb=comb, b_srs=1, b_hop=0, hopping="group", sequence_id=77, period_slots=1)
    h = of_carrier(srs, PATHS)
    frames = run(block(srs, start_sample=0), capture(srs, 4, h), 4000)
    offset_hz, seen = subcarrier_offsets_hz(srs), set()
    for number, frame in enumerate(frames):
        pilots = srs_symbol(srs, 0, number).subcarrier
        band = np.isin(offset_hz, frame["subcarrier_hz"])
        assert band.sum() == srs.length * comb and band[pilots].all()
        assert nmse_db(frame["cfr"], h[:, band]) < -18
        seen.add(int(pilots[0]))
    assert len(frames) == 4 and len(seen) == 4  # of six parts


def test_each_port_is_a_frame() -> None:
    srs = small(n_ports=2, period_slots=4)
    frames = run(block(srs, start_sample=0), capture(srs, 4, of_carrier(srs, PATHS)), 10**6)
    assert [f.header.meta["port"] for f in frames] == [0, 1]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ParamError, match="a signal that hops cannot be looked for: give start_sample"):
        SrsToCfr("srs", srs=params_to_plain(small(hopping="group"))).set_up()
    with pytest.raises(EstimationError, match=r"samples at 1e\+06 Hz, this SRS needs 1\.536e\+07"):
        run(block(small(), start_sample=0), noise((2, 100), 1.0, 1), 100, sample_rate_hz=1e6)


def test_after_a_gap_it_goes_on_with_the_next_whole_occasion() -> None:
    srs = small(period_slots=2)
    h = of_carrier(srs, PATHS)
    iq, reader = capture(srs, 8, h), block(srs, start_sample=0)
    before = run(reader, iq[:, :9000], 3000)
    after = run(reader, iq[:, 22_600:], 3000, first=22_600)
    assert [f.header.meta["slot"] for f in [*before, *after]] == [0, 4, 6]
    assert all(nmse_db(f["cfr"], h) < -20 for f in after)


def test_samples_of_a_radio_go_through_the_same_blocks_to_a_direction() -> None:
    srs = small(period_slots=2)
    iq = capture(srs, 4, of_carrier(srs, PATHS), noise_power=0.01)
    angle = CfrAngle("angle", method="music")
    frames = [described(line()), *run(block(srs, start_sample=0, rnti=7), iq, 5000)]
    out = [f for frame in frames for port, f in angle.feed("cfr", frame) if port == "estimates"]
    estimates = [f for f in out if f.header.kind == "data"]
    assert len(estimates) == 2
    for frame in estimates:
        assert frame["azimuth_rad"][0] == pytest.approx(0.4, abs=0.01) and frame["id"].tolist() == [7]
