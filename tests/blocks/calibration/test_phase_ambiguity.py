import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.calibration.phase_ambiguity import phase_steps
from hil.errors import ParamError


@given(seed=st.integers(0, 2**32), n_states=st.sampled_from([1, 2, 4]), n=st.integers(1, 16))
def test_steps_are_found_whatever_small_drift_comes_with_them(seed, n_states, n):
    rng = random.Random(seed)
    stored = [rng.uniform(-math.pi, math.pi) for _ in range(n)]
    steps = [0] + [rng.randrange(n_states) for _ in range(n - 1)]
    drift = [rng.uniform(-0.1, 0.1) for _ in range(n)]
    measured = [
        math.remainder(s + 2 * math.pi / n_states * k + d, 2 * math.pi)
        for s, k, d in zip(stored, steps, drift, strict=True)
    ]
    found = phase_steps(np.array(measured), np.array(stored), n_states)
    assert found.steps.tolist() == steps
    assert np.abs(found.residual_rad).max() <= 0.2 + 1e-9


def test_a_reference_that_stepped_itself_shows_as_steps_of_the_others():
    stored = np.array([0.3, 1.0, -2.0, 0.1])
    measured = stored + np.array([0.0, -math.pi / 2, -math.pi / 2, -math.pi / 2])
    assert phase_steps(measured, stored, 4).steps.tolist() == [0, 3, 3, 3]


def test_a_change_that_is_no_step_is_left_over():
    found = phase_steps(np.array([0.0, 0.7, 0.0, 0.0, 0.0]), np.zeros(5), 4)
    assert found.residual_rad[1] == pytest.approx(0.7)
    assert found.steps.tolist() == [0] * 5


def test_refuses_shapes_and_states():
    with pytest.raises(ParamError, match=r"got \[3\], \[2\] and 4"):
        phase_steps(np.zeros(3), np.zeros(2), 4)
    with pytest.raises(ParamError, match="1, 2 or 4 states"):
        phase_steps(np.zeros(3), np.zeros(3), 3)
