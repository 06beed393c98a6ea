"""Frames for blocks under test, and what came out of them."""

import numpy as np

from hil.descriptor import descriptor_frame
from hil.frame import Frame, Header
from tests.blocks.subspace.scene import FREQUENCY_HZ

HEADER = Header("dev.iq", 0, frequency_hz=FREQUENCY_HZ, epoch=1)


def iq_frame(x, header=HEADER):
    return Frame.of(header, iq=(np.asarray(x, dtype=np.complex64), "sensor snapshot", "FS"))


def covariance_frame(x, header=HEADER):
    exact = np.asarray(x, dtype=np.complex128)
    arrays = {"covariance": (exact @ exact.conj().T / x.shape[1], "sensor sensor", "FS^2")}
    return Frame.of(header, **arrays, n_snapshots=(np.array(x.shape[1]), "", ""))


def estimates_frame(azimuth, range_m, elevation=None, header=HEADER):
    azimuth, range_m = np.asarray(azimuth, dtype=float), np.asarray(range_m, dtype=float)
    elevation = np.zeros_like(azimuth) if elevation is None else np.asarray(elevation, dtype=float)
    return Frame.of(
        header,
        azimuth_rad=(azimuth, "source", "rad"),
        elevation_rad=(elevation, "source", "rad"),
        range_m=(range_m, "source", "m"),
    )


def told(block, array):
    """``block`` after the descriptor of ``array`` came on all its inputs."""
    for port in block.inputs:
        block.feed(port, descriptor_frame(HEADER, array))
    return block


def given(block, **frames):
    """The one data frame that comes out when ``frames`` go in by port."""
    out = [f for port, frame in frames.items() for _, f in block.feed(port, frame) if f.header.kind == "data"]
    (only,) = out
    return only
