import math
import random

import numpy as np
import pytest

from blocks.switched_array.group_bearing import group_signature, signature_bearing
from hil.errors import EstimationError
from tests.blocks.switched_array.simulate import element_phase
from tests.blocks.switched_array.test_bearing_and_offset import ideal


def snapshots(azimuth, n, n_wild, seed=1, noise=0.3):
    rng = random.Random(seed)
    rows = []
    for k in range(n):
        a = rng.uniform(-math.pi, math.pi) if k < n_wild else azimuth
        turn = rng.uniform(-math.pi, math.pi)
        rows.append(
            [
                complex(math.cos(p), math.sin(p)) + complex(rng.gauss(0, noise), rng.gauss(0, noise))
                for p in (element_phase(m, a) + turn for m in range(8))
            ]
        )
    return np.array(rows)


@pytest.mark.parametrize("azimuth", [-2.9, -0.7, 0.0, 1.234, 3.1])
def test_many_packets_give_one_bearing_and_wild_ones_do_not_count(azimuth):
    found = group_signature(snapshots(azimuth, 60, 15))
    bearing, explained = signature_bearing(found.response, ideal)
    assert abs(np.angle(np.exp(1j * (bearing - azimuth)))) < 0.03
    assert explained > 0.95
    assert found.weight[15:].mean() > 5 * found.weight[:15].mean()


def test_bearing_is_exact_off_the_grid():
    response = np.exp(1j * ideal(np.array([0.123456]))[0])
    assert signature_bearing(response, ideal)[0] == pytest.approx(0.123456, abs=1e-5)


def test_no_packets_are_refused():
    with pytest.raises(EstimationError, match="no packet"):
        group_signature(np.zeros((3, 8), complex))
