"""Frames: what they say of their arrays, and what they refuse."""

import numpy as np
import pytest

from hil.errors import WireError
from hil.frame import NO_LOSS, ArraySpec, Frame, Header, Loss, spec_of


def frame() -> Frame:
    return Frame.of(Header("sim.iq", 7), iq=(np.ones((2, 3), np.complex64), "sensor snapshot", "FS"))


def test_of_describes_its_arrays():
    assert frame().header.arrays == (ArraySpec("iq", "complex64", (2, 3), ("sensor", "snapshot"), "FS"),)
    assert frame().n_bytes == 2 * 3 * 8
    assert "iq" in frame()
    assert repr(frame()) == "<Frame sim.iq #7 data epoch 0: iq: complex64 [sensor=2, snapshot=3] FS>"


def test_absent_knowledge_is_absent():
    h = Header("a", 0)
    absent = (h.sample_start, h.sample_rate_hz, h.frequency_hz, h.time_ns, h.timebase, h.host_time_ns, h.array_id)
    assert absent == (None,) * 7
    assert h.calibration == "none"
    assert h.lost == NO_LOSS


def test_replace_leaves_the_original():
    h = Header("a", 1)
    assert h.replace(seq=2).seq == 2
    assert h.seq == 1


def test_copy_owns_its_memory():
    original = frame()
    copied = original.copy()
    original.arrays["iq"][0, 0] = 5
    assert copied["iq"][0, 0] == 1


def test_losses_add_up():
    assert Loss(1, 20, 3).plus(Loss(0, 5, 1)) == Loss(1, 25, 4)


def test_wrong_number_of_axes_names_both():
    with pytest.raises(WireError, match=r"'iq' has 2 dimensions \[2, 3\], its axes are 1: 'sensor'"):
        spec_of("iq", np.zeros((2, 3)), ("sensor",))


def test_missing_array_names_those_that_are_there():
    with pytest.raises(WireError, match=r"frame of 'sim.iq' has no array 'q': it has iq"):
        frame()["q"]
    with pytest.raises(WireError, match="it has no arrays"):
        Frame(Header("a", 0))["q"]


@pytest.mark.parametrize("dtype", ["complex64", "float64", "int16", "bool"])
def test_spec_counts_bytes(dtype):
    array = np.zeros((3, 4), dtype)
    assert spec_of("x", array, ("a", "b")).n_bytes == array.nbytes
