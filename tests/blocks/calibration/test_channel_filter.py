import numpy as np
import pytest

from blocks.calibration.channel_filter import ChannelFilter

PHASE, GAIN_DB = np.array([0.3, -2.0, 1.0]), np.array([1.0, -2.0, 0.0])


def lines(delay, n, bandwidth, seed=2):
    """Complex lines below ``bandwidth`` (of 1), each channel late by ``delay``: delays in closed form."""
    rng = np.random.default_rng(seed)
    f = rng.uniform(-bandwidth / 2, bandwidth / 2, 60)
    a = np.exp(1j * rng.uniform(0, 2 * np.pi, 60)) / 60**0.5
    wave = np.exp(2j * np.pi * f[:, None] * np.arange(n))
    return np.stack([(a * np.exp(-2j * np.pi * f * d)) @ wave for d in delay])


def branches(x):
    return (x * (10 ** (GAIN_DB / 20) * np.exp(1j * PHASE))[:, None]).astype(np.complex64)


@pytest.mark.parametrize("delay", [(0, 0, 0), (0, 3, -5), (0, 0.5, -0.25), (2.25, 40.4, -11.9), (-7, -3, -4)])
@pytest.mark.parametrize("chunks", [[1000], [1] * 200 + [800], [300, 7, 493, 200]])
def test_channels_come_out_together_however_they_went_in(delay, chunks):
    x, clean = branches(lines(delay, 1000, 0.8)), lines((0, 0, 0), 1000, 0.8)
    undo = ChannelFilter(np.array(delay, float), PHASE, GAIN_DB)
    out, at, first = [], 0, None
    for n in chunks:
        aligned = undo.push(x[:, at : at + n])
        if aligned.samples.shape[1]:
            first = at + aligned.first if first is None else first
            assert at + aligned.first == first + sum(o.shape[1] for o in out)
            out.append(aligned.samples)
        at += n
    got = np.concatenate(out, axis=1)
    assert first == undo.lead
    assert got.shape[1] == 1000 - undo.lead - undo.lag
    # -70 dB of what is left of a window of 49 taps, and complex64; the signal has unit power
    assert np.abs(got - clean[:, first : first + got.shape[1]]).max() < 1e-3
    error = np.abs(got - clean[:, first : first + got.shape[1]]) ** 2
    assert 10 * np.log10(error.mean() + 1e-30) < -70


def test_whole_delays_cost_no_sample_more_than_they_must():
    undo = ChannelFilter(np.array([0.0, 3.0, -5.0]), np.zeros(3), np.zeros(3))
    assert (undo.lead, undo.lag) == (5, 3)
    assert ChannelFilter(np.zeros(3), PHASE, GAIN_DB).lag == 0


def test_after_a_reset_nothing_of_before_comes():
    undo = ChannelFilter(np.array([0.0, 2.0]), np.zeros(2), np.zeros(2))
    undo.push(np.full((2, 10), 9, np.complex64))
    undo.reset()
    aligned = undo.push(np.ones((2, 10), np.complex64))
    assert aligned.first == 0
    assert np.array_equal(aligned.samples, np.ones((2, 8)))


def test_chunks_shorter_than_the_delay_give_nothing_yet():
    undo = ChannelFilter(np.array([0.0, 10.0]), np.zeros(2), np.zeros(2))
    assert undo.push(np.zeros((2, 4), np.complex64)).samples.shape == (2, 0)
    assert undo.push(np.zeros((2, 4), np.complex64)).samples.shape == (2, 0)
    aligned = undo.push(np.zeros((2, 4), np.complex64))
    assert (aligned.samples.shape, aligned.first) == ((2, 2), -8)
