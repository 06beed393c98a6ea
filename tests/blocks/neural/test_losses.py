import numpy as np
import pytest
import torch

from blocks.neural.autocorrelation import autocorrelation, real_features
from blocks.neural.losses import criterion_loss, order_loss, spectrum_loss, threshold_loss
from blocks.neural.maskpeak import maskpeak
from blocks.neural.surrogate_network import SurrogateConfig, SurrogateNetwork, spectral_surrogate
from blocks.subspace.model_order import criterion_values, eigenvalue_summary
from hil.errors import ParamError


def gaussian(seed, *shape):
    return np.random.default_rng(seed).standard_normal((*shape, 2)).view(np.complex128)[..., 0]


def test_autocorrelation_is_its_sum():
    x = gaussian(0, 3, 6)
    got = autocorrelation(torch.from_numpy(x), 3).numpy()
    for lag in range(3):
        expected = sum(np.outer(x[:, t], x[:, t + lag].conj()) for t in range(6 - lag)) / (6 - lag)
        np.testing.assert_allclose(got[lag], expected, atol=1e-12)
    with pytest.raises(ParamError, match=r"expected 1 \.\. 6 lags"):
        autocorrelation(torch.from_numpy(x), 7)


def test_features_do_not_depend_on_the_level_of_the_receiver():
    x = torch.from_numpy(gaussian(1, 2, 4, 20))
    one, other = (real_features(autocorrelation(g * x, 3)) for g in (1.0, 1e-3))
    assert one.shape == (2, 3, 8, 4)
    np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-9, atol=1e-12)


def test_features_of_silence_are_finite():
    assert torch.isfinite(real_features(autocorrelation(torch.zeros(1, 4, 9, dtype=torch.complex64), 2))).all()


def test_the_surrogate_has_spectral_norm_one_and_no_eigenvalue_below_epsilon():
    k = torch.from_numpy(gaussian(2, 3, 5, 5))
    r = spectral_surrogate(k, 0.1).numpy()
    norm = np.linalg.norm(k.numpy() @ k.numpy().conj().swapaxes(1, 2) + 0.1 * np.eye(5), 2, axis=(1, 2))
    np.testing.assert_allclose(np.linalg.norm(r, 2, axis=(1, 2)), 1.0, rtol=1e-10)
    assert (np.linalg.eigvalsh(r)[:, 0] >= 0.1 / norm - 1e-12).all()


def test_the_network_gives_a_hermitian_positive_matrix_of_the_arrays_size():
    torch.manual_seed(0)
    net = SurrogateNetwork(SurrogateConfig(n_sensors=9, n_lags=4)).eval()
    r = net(torch.from_numpy(gaussian(3, 2, 9, 30)).to(torch.complex64))
    assert r.dtype == torch.complex128
    np.testing.assert_allclose(r.detach().numpy(), r.detach().numpy().conj().swapaxes(1, 2), atol=1e-12)
    assert (torch.linalg.eigvalsh(r) > 0).all()


def test_sizes_of_the_published_network():
    """Its 41,761 weights of convolutions, and the skip connection's one."""
    net = SurrogateNetwork(SurrogateConfig())
    assert sum(p.numel() for p in net.parameters()) == 41_762


def test_spectrum_loss_is_what_of_the_true_vectors_lies_in_the_noise_subspace():
    u = np.linalg.qr(gaussian(4, 5, 5))[0]
    noise = u[:, 2:]
    a = gaussian(5, 3, 5)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    expected = np.linalg.norm(noise.conj().T @ a[0]) ** 2 + np.linalg.norm(noise.conj().T @ a[2]) ** 2
    got = spectrum_loss(
        torch.from_numpy(noise @ noise.conj().T)[None],
        torch.from_numpy(a)[None],
        torch.tensor([[True, False, True]]),
    )
    np.testing.assert_allclose(got.numpy(), [expected], rtol=1e-10)
    inside = torch.from_numpy(u[:, :2].T.copy())[None]
    perfect = spectrum_loss(torch.from_numpy(noise @ noise.conj().T)[None], inside, torch.ones(1, 2, dtype=torch.bool))
    assert abs(float(perfect)) < 1e-12


def test_threshold_loss_is_negative_where_the_threshold_separates():
    values = torch.tensor([[1.0, 0.8, 0.2, 0.1]])
    assert float(threshold_loss(values, torch.tensor([2]), 0.5)) == pytest.approx(0.3 * -0.3)
    assert float(threshold_loss(values, torch.tensor([1]), 0.5)) > 0


def test_order_loss_is_zero_where_the_noise_is_white_and_grows_with_its_spread():
    values = torch.tensor([[5.0, 4.0, 1.0, 1.0], [5.0, 4.0, 2.0, 0.5]], dtype=torch.float64)
    got = order_loss(values, torch.tensor([2, 2])).numpy()
    np.testing.assert_allclose(got, [0.0, np.log(1.25)], atol=1e-12)


def test_order_loss_has_a_finite_gradient_with_orders_that_differ():
    values = torch.tensor([[5.0, 1e-300, 1e-300], [3.0, 2.0, 1.0]], dtype=torch.float64, requires_grad=True)
    order_loss(values, torch.tensor([2, 0])).sum().backward()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("peak", [0, 3, 9])
def test_maskpeak_is_a_softmax_in_a_window_that_stays_on_the_grid(peak):
    places = torch.linspace(1, 2, 10, dtype=torch.float64)
    spectrum = torch.zeros(10, dtype=torch.float64)
    spectrum[peak] = 4.0
    first = min(max(peak - 2, 0), 5)
    weight = np.exp(spectrum.numpy()[first : first + 5])
    expected = (weight / weight.sum()) @ places.numpy()[first : first + 5]
    assert float(maskpeak(spectrum, places, 2)) == pytest.approx(expected)
    assert float(maskpeak(spectrum, places, 0)) == pytest.approx(float(places[peak]))


def test_maskpeak_has_the_gradient_of_finite_differences():
    rng = np.random.default_rng(6)
    spectrum = torch.from_numpy(rng.standard_normal((3, 12))).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: maskpeak(s, torch.linspace(1, 5, 12, dtype=torch.float64), 2), spectrum)


def test_mdl_as_a_classifier_is_the_criterion_of_the_estimators():
    rng = np.random.default_rng(6)
    eigenvalues = np.sort(rng.uniform(0.1, 2, (4, 7)), axis=-1)[:, ::-1].copy()
    values = criterion_values(eigenvalue_summary(eigenvalues, 60), "mdl")[:, :7]
    truth = np.array([1, 2, 5, 6])
    expected = values[np.arange(4), truth] / 8 + np.log(np.exp(-values / 8).sum(-1))
    got = criterion_loss(torch.from_numpy(eigenvalues), torch.from_numpy(truth), 60, 8.0)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


def test_dense_layers_see_the_whole_covariance_and_have_finite_gradients():
    torch.manual_seed(0)
    net = SurrogateNetwork(SurrogateConfig(n_sensors=8, layers="dense", hidden=16, rank=3))
    x = torch.from_numpy(gaussian(7, 2, 8, 30)).requires_grad_()
    torch.linalg.eigvalsh(net(x)).square().sum().backward()
    assert (x.grad.abs().amax(-1) > 0).all()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())
