import time

import numpy as np
import pytest

from hil.errors import ControlError, ParamError
from sim_device.device import XlArrayDevice
from sim_device.servers.protocol_faults import FaultBoard
from sim_device.servers.quantise import quantise
from sim_device.servers.sample_feed import SampleFeed

SCENE = {
    "array": {"kind": "ula", "n": 4},
    "sources": [{"id": 1, "motion": {"kind": "stand", "position_m": [1.0, 5.0, 0.0]}}],
}


def feed(loop_ticks=None, **params):
    return SampleFeed(XlArrayDevice(**{"real_time": False, **SCENE, **params}), loop_ticks)


def test_samples_are_those_of_the_device_in_any_chunks():
    ours, reference = feed(), XlArrayDevice(**SCENE)
    got = np.concatenate([ours.samples(100, 37), ours.samples(137, 500)], axis=1)
    np.testing.assert_array_equal(got, reference.samples(100, 537))
    assert ours.head == ours.now_tick() == 637


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_counts_are_the_nearest_level_and_saturate(bits):
    x = np.array([[0.25 - 0.5j, 2.0 - 2.0j, 1e-9 + 0.99999j]], np.complex64)
    top = 2 ** (bits - 1)
    expected = [[[top // 4, -top // 2], [top - 1, -top], [0, min(top - 1, round(0.99999 * top))]]]
    np.testing.assert_array_equal(quantise(x, bits), expected)


def test_a_loop_repeats_without_a_seam():
    ours, reference = feed(loop_ticks=256), XlArrayDevice(**SCENE)
    period = reference.samples(0, 256)
    np.testing.assert_array_equal(ours.samples(200, 600), np.tile(period, 4)[:, 200:800])
    np.testing.assert_array_equal(ours.counts(250, 20, 12), quantise(np.tile(period, 2)[:, 250:270], 12))


def test_a_command_about_the_scene_has_the_loop_computed_anew():
    ours = feed(loop_ticks=256)
    ours.samples(0, 300)
    before, counts = ours.samples(0, 256).copy(), ours.counts(0, 256, 12).copy()
    ours.command("set_gain", {"gain_db": -20.0})  # what a client sets stands still
    np.testing.assert_array_equal(ours.samples(0, 256), before)
    ours.command("set_gain", {"gain_db": 0.0})
    ours.command("move_source", {"id": 1, "position_m": [-2.0, 3.0, 0.0]})
    reference = XlArrayDevice(**SCENE)
    reference.tick = 300
    reference.move_source(1, (-2.0, 3.0, 0.0))
    moved = reference.samples(300, 256)
    np.testing.assert_array_equal(ours.samples(300, 256), moved)
    np.testing.assert_array_equal(ours.samples(300 + 5 * 256, 512), np.tile(moved, 2))
    assert not np.array_equal(ours.counts(0, 256, 12), counts) and ours.loop_version == 1


def test_a_command_holds_from_the_first_tick_that_nobody_has_read():
    ours = feed()
    before = ours.samples(0, 1000)
    ours.command("set_gain", {"gain_db": -20.0})
    np.testing.assert_array_equal(ours.samples(0, 1000), before)
    louder, quieter = np.abs(before).mean(), np.abs(ours.samples(1000, 1000)).mean()
    np.testing.assert_allclose(quieter, louder / 10, rtol=0.1)
    with pytest.raises(ControlError, match="gain_db"):
        ours.command("set_gain", {"gain_db": 1e9})


def test_in_real_time_ticks_come_with_the_clock():
    ours = feed(real_time=True, sample_rate_hz=1e4)
    assert not ours.wait_until(ours.now_tick() + 10_000, 0.01)
    tick, before = ours.now_tick(), time.monotonic()
    assert ours.wait_until(tick + 200, 1.0)
    assert 0.015 < time.monotonic() - before < 1.0
    assert ours.now_tick() >= tick + 200


def test_the_clock_goes_on_through_a_change_of_rate():
    ours = feed(real_time=True, sample_rate_hz=1e4)
    ours.wait_until(100, 1.0)
    ours.command("set_sample_rate", {"sample_rate_hz": 1e6})
    tick = ours.now_tick()
    assert ours.wait_until(tick + 20_000, 1.0)
    assert abs(ours.utc_ns(ours.now_tick()) - time.time_ns()) < 50e6


def test_a_jump_of_the_clock_moves_what_it_says_and_no_sample():
    ours, reference = feed(), feed()
    ours.jump(2.5)
    np.testing.assert_array_equal(ours.samples(0, 64), reference.samples(0, 64))
    assert ours.utc_ns(0) - ours._utc_origin_ns == 2_500_000_000


def test_a_tick_before_the_start_is_refused():
    with pytest.raises(ParamError, match="tick_start from 0"):
        feed().samples(-1, 4)


def test_faults_happen_once_and_only_those_that_the_protocol_has():
    board = FaultBoard(("stall", "drop_connection"))
    board.put("stall", 2.0)
    board.put("stall", 3.0)
    assert board.take("drop_connection") is None
    assert board.take("drop_connection", "stall").amount == 2.0
    assert board.n_waiting == 1
    with pytest.raises(ControlError, match="fault 'corrupt': this device can do stall, drop_connection"):
        board.put("corrupt")
