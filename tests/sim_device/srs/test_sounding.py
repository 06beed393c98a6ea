"""The simulated sounding: channels path by path, least squares, interpolation, and the same in the time domain."""

from __future__ import annotations

import cmath
import math
from typing import Any

import numpy as np
import pytest

from hil.array import ArrayGeometry
from hil.formats.srs import Srs, fft_bins, srs_symbol, symbol_start
from hil.params import convert_params
from sim_device.device import XlArrayDevice
from sim_device.propagation import channel_matrix
from sim_device.scene import Source, Stand
from sim_device.servers.gnodeb.cell import Cell
from sim_device.servers.sample_feed import SampleFeed
from sim_device.srs.channel import frequency_response, timing_advance_s
from sim_device.srs.sounding import arrival_time_s, interpolate, least_squares, receive, separate_ports, to_counts
from sim_device.srs.terminals import terminals_of
from sim_device.srs.waveform import srs_slot

C = 299_792_458.0
SMALL = {"n_rb": 24, "n_fft": 512, "c_srs": 6, "period_slots": 20}


def small(**changes: Any) -> Srs:
    return convert_params(Srs, {**SMALL, **changes}, "test")


def cell(srs: Srs, **device: Any) -> Cell:
    told = {
        "array": {"kind": "ula", "n": 4},
        "frequency_hz": 3.5e9,
        "sample_rate_hz": srs.sample_rate_hz,
        "noise_power_db": -40.0,
        "sources": [
            {"id": 1, "power_db": -20.0, "motion": {"kind": "bearing", "azimuth_rad": 0.4, "range_m": 40.0}},
            {"id": 2, "power_db": -26.0, "motion": {"kind": "bearing", "azimuth_rad": -0.2, "range_m": 3.0}},
        ],
        "seed": 3,
        **device,
    }
    return Cell(SampleFeed(XlArrayDevice("d", **told)), srs, 100, timing_advance=True)


def test_the_channel_is_the_sum_over_paths_by_distance() -> None:
    element = ArrayGeometry.ula(5, 0.05).position_m
    paths, weight = np.array([[1.0, 2.0, 0.3], [-30.0, 40.0, 2.0]]), np.array([0.5, 0.2j])
    carrier, advance = 4e9, 1e-8
    offsets = np.array([-5e7, 0.0, 3e7])
    got = frequency_response(element, paths, weight, carrier, offsets, advance)
    for m, position in enumerate(element):
        for k, offset in enumerate(offsets):
            want = 0j
            for path, w in zip(paths, weight, strict=True):
                r, r_m = math.dist(path, (0, 0, 0)), math.dist(path, position)
                turn = (carrier + offset) * (r_m - r) / C + offset * (r / C - advance)
                want += w * r / r_m * cmath.exp(-2j * math.pi * turn)
            assert got[m, k] == pytest.approx(want, abs=1e-10)


def test_at_the_centre_it_is_the_narrowband_channel() -> None:
    element, source = ArrayGeometry.ura(3, 2, 0.04).position_m, np.array([[2.0, 3.0, 1.0]])
    got = frequency_response(element, source, np.ones(1, complex), 3.5e9, np.zeros(1))
    np.testing.assert_allclose(got, channel_matrix(element, source, 3.5e9), rtol=0, atol=1e-12)


def test_the_timing_advance_leaves_less_than_half_a_step() -> None:
    step = 16 * 64 / (480e3 * 4096) / 2  # at 30 kHz
    for distance in (0.0, 10.0, 77.7, 400.0):
        left = distance / C - timing_advance_s([distance, distance + 500], 30)
        assert abs(left) <= step / 2 + 1e-15


def test_coherent_sources_are_paths_of_one_terminal() -> None:
    def source(number: int, group: int | None) -> Source:
        return Source(id=number, motion=Stand(position_m=(0.0, 5.0 + number, 0.0)), group=group)

    terminals = terminals_of((source(1, None), source(2, 7), source(3, 7), source(4, None)), Srs(), 0x4601)
    assert [(t.rnti - 0x4601, [p.id for p in t.paths]) for t in terminals] == [(0, [1]), (1, [2, 3]), (2, [4])]
    assert [t.srs.offset_slots for t in terminals] == [0, 53, 106]


@pytest.mark.parametrize("comb", (2, 4))
@pytest.mark.parametrize("comb_offset", (0, 1))
def test_least_squares_without_noise_is_the_channel(comb: int, comb_offset: int) -> None:
    srs = small(comb=comb, comb_offset=comb_offset)
    offsets = 30e3 * (np.arange(srs.n_subcarriers) - srs.n_subcarriers // 2)
    response = np.exp(-2j * np.pi * offsets * np.array([[20e-9], [50e-9]]))[None]
    sent = (srs_symbol(srs, 0, 0),)
    got = least_squares(receive(response, sent, 0.0, 1))[0]
    np.testing.assert_allclose(got, response[0][:, sent[0].subcarrier], rtol=0, atol=1e-12)
    whole = interpolate(got, sent[0], srs.n_subcarriers)
    # a straight line between pilots errs by (2 pi f tau)^2 / 8; beyond the last pilot the value is held
    inner = slice(int(sent[0].subcarrier[0]), int(sent[0].subcarrier[-1]))
    bound = (2 * math.pi * comb * 30e3 * 50e-9) ** 2 / 8 + 1e-12
    assert np.abs(whole - response[0])[:, inner].max() <= bound
    np.testing.assert_allclose(arrival_time_s(got, comb * 30e3), [20e-9, 50e-9], rtol=0, atol=1 / (4096 * comb * 30e3))


def test_noise_has_the_power_that_was_asked_for_and_repeats() -> None:
    srs = Srs()
    silent = np.zeros((1, 4, srs.n_subcarriers), complex)
    sent = (srs_symbol(srs, 0, 0),)
    first, again, other = (receive(silent, sent, 0.1, 5, key).pilots for key in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    # 6528 values: 4 standard deviations are 5 %
    assert np.mean(np.abs(first) ** 2) == pytest.approx(0.01, rel=0.05)


def test_ports_are_told_apart_by_their_shifts() -> None:
    srs = small(n_rb=48, n_fft=1024, c_srs=12, n_ports=2)
    offsets = 30e3 * (np.arange(srs.n_subcarriers) - srs.n_subcarriers // 2)
    response = np.stack([np.exp(-2j * np.pi * offsets * tau)[None] for tau in (30e-9, 60e-9)])
    sent = tuple(srs_symbol(srs, 0, 0, 0, p) for p in range(2))
    got = separate_ports(srs, least_squares(receive(response, sent, 0.0, 1)))
    error = np.abs(got[0][0] - response[0][0, sent[0].subcarrier])[20:-20]
    assert 20 * np.log10(error.max()) < -20


def test_counts_saturate() -> None:
    assert to_counts(np.array([2.0 - 2.0j, 0.5j]), 32768.0).tolist() == [[32767, -32768], [0, 16384]]


@pytest.mark.parametrize("changes", [{}, {"n_symbols": 4, "start_symbol": 0}, {"scs_khz": 60}, {"n_ports": 2}])
def test_the_waveform_carries_the_symbols_behind_their_prefixes(changes: dict[str, Any]) -> None:
    srs = small(**changes)
    rng = np.random.default_rng(1)
    shape = (srs.n_ports, 2, srs.n_subcarriers)
    response = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    for slot in range(2):
        x = srs_slot(srs, 3, slot, response)
        used = np.zeros(x.shape[1], bool)
        for which in range(srs.n_symbols):
            start = symbol_start(srs, slot, srs.start_symbol + which)
            last = 0 if srs.start_symbol + which == 0 else symbol_start(srs, slot, srs.start_symbol + which - 1) + 512
            np.testing.assert_allclose(x[:, last:start], x[:, last + 512 : start + 512], rtol=0, atol=1e-12)
            got = np.fft.fft(x[:, start : start + 512]) / math.sqrt(512)
            want = np.zeros((2, 512), complex)
            for port in range(srs.n_ports):
                sent = srs_symbol(srs, 3, slot, which, port)
                want[:, fft_bins(srs)[sent.subcarrier]] += response[port][:, sent.subcarrier] * sent.value
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)
            used[last : start + 512] = True
        assert not x[:, ~used].any()


def test_the_cell_measures_what_the_scene_sends() -> None:
    srs = small()
    it = cell(srs)
    terminal = it.terminals[0]
    number = it.next_slot(15)
    assert number == 20 and it.sounding(number) == [terminal]
    truth = it.response(terminal, number)
    occasion = it.measure(terminal, number)
    pilots = occasion.sent[0].subcarrier
    error = occasion.raw[0, :, 0, pilots].T - truth[0][:, pilots]
    # noise of -40 dB on 4 x 144 pilots: 4 standard deviations are 17 %
    assert np.mean(np.abs(error) ** 2) == pytest.approx(1e-4, rel=0.17)
    assert occasion.snr_db == pytest.approx(20, abs=0.2)
    np.testing.assert_array_equal(it.measure(terminal, number).estimate, occasion.estimate)


def test_impairments_and_commands_are_in_the_estimates() -> None:
    srs = small()
    it = cell(srs, mismatch={"gain_std_db": 1.0, "phase_std_rad": 0.3})
    whole = cell(srs).response(it.terminals[0], 0)
    factor = it.response(it.terminals[0], 0) / whole
    np.testing.assert_allclose(factor[0], factor[0][:, :1] * np.ones((1, srs.n_subcarriers)), rtol=1e-9)
    assert np.ptp(np.angle(factor[0, :, 0])) > 0.05
    it.feed.command("inject_fault", {"element": 2, "kind": "dead"})
    assert not it.response(it.terminals[0], 0)[0, 2].any()
    it.feed.command("move_source", {"id": 1, "position_m": [5.0, 5.0, 0.0]})
    moved = it.response(it.terminals[0], 0)
    assert np.angle(moved[0, 1, 144] / moved[0, 0, 144]) != pytest.approx(np.angle(whole[0, 1, 144] / whole[0, 0, 144]))
