import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.evaluation.log_histogram import LogHistogram


@given(st.lists(st.floats(1e-5, 1e5), min_size=1, max_size=200), st.floats(0.01, 1))
def test_quantile_is_within_half_a_bin(values, fraction):
    histogram = LogHistogram()
    histogram.add(values)
    exact = np.quantile(values, fraction, method="inverted_cdf")
    # Half a bin is 0.46 %; a rank on the edge between two values may fall to either by rounding of fraction * n.
    near = [np.quantile(values, min(1, max(0, fraction + s)), method="inverted_cdf") for s in (-1e-12, 1e-12)]
    assert min(abs(histogram.quantile(fraction) / v - 1) for v in (exact, *near)) < 0.0046


def test_what_is_out_of_range_goes_to_its_end():
    histogram = LogHistogram()
    assert histogram.quantile(0.5) is None
    histogram.add([0.0, 1e-9, 1e9])
    assert [histogram.quantile(f) for f in (0.3, 0.6, 1.0)] == [0.0, 0.0, 1e6]
    assert len(histogram) == 3


def test_merging_is_counting_together():
    rng = np.random.default_rng(3)
    a, b, both = LogHistogram(), LogHistogram(), LogHistogram()
    x, y = rng.lognormal(size=100), rng.lognormal(1.0, size=57)
    a.add(x)
    b.add(y)
    both.add(np.concatenate([x, y]))
    a.merge(b)
    assert [a.quantile(f) for f in (0.1, 0.5, 0.9)] == [both.quantile(f) for f in (0.1, 0.5, 0.9)]


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_refuses_what_has_no_place(value):
    with pytest.raises(ValueError, match="must be 0 or more"):
        LogHistogram().add([1.0, value])
