"""Blocks that take channel frequency responses: conversion, selection, covariance, denoising, directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from blocks.cfr.cfr_angle import CfrAngle
from blocks.cfr.cfr_covariance import CfrCovariance
from blocks.cfr.cfr_to_complex import CfrToComplex, cfr_to_complex
from blocks.cfr.denoise_cfr import DenoiseCfr
from blocks.cfr.select_subcarriers import SelectSubcarriers
from hil.block import Block
from hil.errors import EstimationError, PortError
from hil.frame import Frame
from tests.blocks.cfr.channels import cfr_frame, described, line, nmse_db, noise, response

OFFSET_HZ = (np.arange(288) - 144) * 30e3
H = response(OFFSET_HZ, [(0.25, 0.1e-6, 0.4)]).astype(np.complex64)


def through(block: Block, frame: Frame, port: str | None = None) -> list[Frame]:
    out = block.feed(next(iter(block.inputs)), frame)
    return [f for name, f in out if port in (None, name)]


@pytest.mark.parametrize(("dtype", "full_scale"), [("int16", 32768.0), ("int8", 128.0), ("float32", 1.0)])
def test_counts_become_parts_of_full_scale(dtype: str, full_scale: float) -> None:
    raw = np.random.default_rng(1).integers(-100, 100, (4, 288, 2)).astype(dtype)
    block = CfrToComplex("c")
    (frame,) = through(block, cfr_frame(raw, OFFSET_HZ))
    expected = (raw[..., 0].astype(float) + 1j * raw[..., 1].astype(float)) / full_scale
    np.testing.assert_allclose(frame["cfr"], expected, rtol=1e-6)
    assert frame["cfr"].dtype == np.complex64 and int(frame["rnti"]) == 17


def test_the_descriptor_says_what_full_scale_is_and_a_parameter_says_it_better() -> None:
    raw = np.full((4, 288, 2), 100, np.int16)
    for params, full_scale in (({}, 400.0), ({"full_scale": 50.0}, 50.0)):
        block = CfrToComplex("c", **params)
        block.feed("raw", described(line(), raw={"full_scale": 400.0}))
        (frame,) = through(block, cfr_frame(raw, OFFSET_HZ))
        assert frame["cfr"][0, 0] == pytest.approx((1 + 1j) * 100 / full_scale)


def test_complex_responses_pass_and_meta_goes_with_them() -> None:
    (frame,) = through(CfrToComplex("c"), cfr_frame(H, OFFSET_HZ, meta={"frame": 5, "slot": 3}))
    assert frame["cfr"] is H or np.shares_memory(frame["cfr"], H)
    assert frame.header.meta == {"frame": 5, "slot": 3}


def test_what_is_no_response_is_refused() -> None:
    with pytest.raises(PortError, match=r"expected int16, int8, float32 \[.*component=2\], got float64 \[4, 288, 2\]"):
        cfr_to_complex(np.zeros((4, 288, 2)), 1.0)
    iq = Frame.of(cfr_frame(H, OFFSET_HZ).header, iq=(H, "sensor snapshot", "FS"))
    with pytest.raises(PortError, match="expected arrays cfr, subcarrier_hz, rnti, got iq: connect a stream of CFR"):
        CfrToComplex("c").feed("raw", iq)


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({}, range(288)),
        ({"low_hz": 0.0}, range(144, 288)),
        ({"low_hz": -60e3, "high_hz": 60e3}, range(142, 147)),
        ({"edge": 10}, range(10, 278)),
        ({"every": 12}, range(0, 288, 12)),
        ({"edge": 4, "every": 70}, range(4, 284, 70)),
    ],
)
def test_a_part_of_the_subcarriers(params: dict[str, Any], kept: range) -> None:
    (frame,) = through(SelectSubcarriers("s", **params), cfr_frame(H, OFFSET_HZ))
    np.testing.assert_array_equal(frame["cfr"], H[:, list(kept)])
    np.testing.assert_array_equal(frame["subcarrier_hz"], OFFSET_HZ[list(kept)])


def test_means_of_neighbours_and_silent_subcarriers() -> None:
    sounded = H.copy()
    sounded[:, 200:] = 0
    (frame,) = through(SelectSubcarriers("s", every=8, mean=True), cfr_frame(sounded, OFFSET_HZ))
    assert frame["cfr"].shape == (4, 25)
    np.testing.assert_allclose(frame["cfr"][2, 3], H[2, 24:32].mean(), rtol=1e-5)
    assert frame["subcarrier_hz"][3] == pytest.approx(OFFSET_HZ[24:32].mean())
    (all_of_them,) = through(SelectSubcarriers("s", drop_silent=False), cfr_frame(sounded, OFFSET_HZ))
    assert all_of_them["cfr"].shape == (4, 288)


def test_nothing_left_says_what_to_widen() -> None:
    with pytest.raises(EstimationError, match=r"of 288 subcarriers 0 are left, too few for one of 1; widen low_hz"):
        SelectSubcarriers("s", low_hz=1e9).feed("cfr", cfr_frame(H, OFFSET_HZ))


def test_the_covariance_takes_subcarriers_as_snapshots() -> None:
    (frame,) = through(CfrCovariance("c"), cfr_frame(H, OFFSET_HZ))
    expected = sum(np.outer(H[:, k], H[:, k].conj()) for k in range(288)) / 288
    np.testing.assert_allclose(frame["covariance"], expected, atol=1e-7)
    assert int(frame["n_snapshots"]) == 288 and frame.header.meta["rnti"] == 17


def test_denoising_keeps_the_response_and_tells_delay_and_noise() -> None:
    noisy = (H + noise(H.shape, 0.02, 4)).astype(np.complex64)
    (frame,) = through(DenoiseCfr("d"), cfr_frame(noisy, OFFSET_HZ))
    assert nmse_db(frame["cfr"], H) < nmse_db(noisy, H) - 8
    assert frame.header.meta["delay_s"] == pytest.approx(0.1e-6, abs=20e-9)
    assert frame.header.meta["noise_power"] == pytest.approx(0.02, rel=0.15)
    for wrong in (OFFSET_HZ[::-1].copy(), np.sort(np.random.default_rng(1).random(288)) * 1e6):
        with pytest.raises(EstimationError, match="evenly spaced and rising"):
            DenoiseCfr("d").feed("cfr", cfr_frame(H, wrong))


@pytest.mark.parametrize("method", ["dbf", "music"])
def test_directions_of_a_terminal(method: str) -> None:
    block = CfrAngle("a", method=method, spectrum_every=2)
    block.feed("cfr", described(line()))
    shown = 0
    for _ in range(4):
        out = dict(block.feed("cfr", cfr_frame(H, OFFSET_HZ, meta={"slot": 2})))
        estimates = out["estimates"]
        assert estimates["azimuth_rad"][0] == pytest.approx(0.4, abs=2e-3) and np.isinf(estimates["range_m"][0])
        assert estimates["id"].tolist() == [17] and estimates.header.meta == {"slot": 2, "rnti": 17}
        shown += "spectrum" in out
    assert shown == 2


def test_forgetting_averages_occasions_of_a_terminal_and_not_of_another() -> None:
    block = CfrAngle("a", forgetting=0.9)
    block.feed("cfr", described(line()))

    def azimuth(angle: float, rnti: int, epoch: int = 0) -> float:
        h = response(OFFSET_HZ, [(0.25, 0.1e-6, angle)]).astype(np.complex64)
        (estimates,) = through(block, cfr_frame(h, OFFSET_HZ, rnti, epoch=epoch), "estimates")
        return float(estimates["azimuth_rad"][0])

    assert azimuth(0.4, 1) == pytest.approx(0.4, abs=2e-3)
    assert azimuth(-0.4, 2) == pytest.approx(-0.4, abs=2e-3)
    assert azimuth(-0.4, 1) == pytest.approx(0.4, abs=0.1)  # a tenth of the weight
    assert azimuth(-0.4, 1, epoch=1) == pytest.approx(-0.4, abs=2e-3)  # forgotten


def test_what_is_missing_is_said() -> None:
    with pytest.raises(EstimationError, match="no array descriptor has come"):
        CfrAngle("a").feed("cfr", cfr_frame(H, OFFSET_HZ))
    block = CfrAngle("a")
    block.feed("cfr", described(line(8)))
    with pytest.raises(EstimationError, match="array 'gnodeb' has 8 channels, the data 4"):
        block.feed("cfr", cfr_frame(H, OFFSET_HZ))
    block = CfrAngle("a")
    block.feed("cfr", described(line()))
    with pytest.raises(EstimationError, match="frames carry no centre frequency"):
        block.feed("cfr", cfr_frame(H, OFFSET_HZ, frequency_hz=None))
    with pytest.raises(EstimationError, match="a: terminal 17: the channel estimate is zero"):
        block.feed("cfr", cfr_frame(0 * H, OFFSET_HZ))
