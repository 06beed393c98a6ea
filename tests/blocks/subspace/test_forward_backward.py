"""Forward-backward averaging: where it helps and where it harms."""

import numpy as np
import pytest

from blocks.subspace.forward_backward import ForwardBackward, forward_backward, opposite_sensors
from hil.array import ArrayGeometry
from hil.errors import EstimationError, ParamError
from hil.wavefront import steering_vector_polar
from tests.blocks.subspace.scene import LAMBDA

ULA = ArrayGeometry.ula(16, LAMBDA / 2)


def coherent_pair(range_m):
    a = steering_vector_polar(ULA.position_m, np.array([0.3, -0.2]), np.array(range_m), LAMBDA).T
    s = a @ np.array([1.0, np.exp(0.7j)])
    return np.outer(s, s.conj())


def rank(covariance):
    values = np.linalg.eigvalsh(covariance)
    return int((values > 1e-9 * values[-1]).sum())


def test_separates_two_coherent_plane_waves_and_adds_a_twin_to_a_near_source():
    assert rank(coherent_pair([np.inf, np.inf])) == 1
    assert rank(forward_backward(coherent_pair([np.inf, np.inf]))) == 2
    near = steering_vector_polar(ULA.position_m, 0.0, 1.0, LAMBDA)
    assert rank(forward_backward(np.outer(near, near.conj()))) == 2  # one source, two dimensions: not for near field


def test_is_the_definition_for_any_symmetric_array():
    array = ArrayGeometry.ura(3, 2, 0.03)
    partner = opposite_sensors(array.position_m)
    assert partner.tolist() == [5, 4, 3, 2, 1, 0]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 9)) + 1j * rng.normal(size=(6, 9))
    r = x @ x.conj().T
    j = np.eye(6)[partner]
    np.testing.assert_allclose(forward_backward(r, partner), (r + j @ r.conj() @ j) / 2)
    np.testing.assert_allclose(forward_backward(r), forward_backward(r, partner))


def test_torch_gives_the_same():
    torch = pytest.importorskip("torch")
    r = coherent_pair([2.0, 5.0])
    np.testing.assert_allclose(forward_backward(torch.tensor(r)).numpy(), forward_backward(r), atol=1e-14)


def test_array_without_symmetry_is_refused():
    with pytest.raises(ParamError, match=r"symmetric about its centre; a sensor's mirror image is 2 m"):
        opposite_sensors(np.array([[-2.0, 0, 0], [-1, 0, 0], [3, 0, 0]]))


def test_block():
    arrays = {"covariance": coherent_pair([np.inf, np.inf]), "n_snapshots": np.array(7)}
    block = ForwardBackward("fb")
    with pytest.raises(EstimationError, match="fb: no array descriptor has come"):
        block(arrays)
    block.array = ULA
    out = block(arrays)
    np.testing.assert_allclose(out["covariance"], forward_backward(arrays["covariance"]))
    assert int(out["n_snapshots"]) == 7
