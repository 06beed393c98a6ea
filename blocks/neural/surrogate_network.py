"""The network of [NF]: autocorrelation in, a surrogate covariance out on which subspace methods work."""

from __future__ import annotations

from typing import Annotated

import torch
from msgspec import Meta
from torch import nn

from blocks.neural.autocorrelation import autocorrelation, real_features
from hil.params import Count, Params

Tensor = torch.Tensor


class SurrogateConfig(Params, frozen=True):
    """What the network is. [NF] Section IV-A3; sizes of the published code."""

    n_sensors: Annotated[int, Meta(ge=8, le=4096)] = 15
    n_lags: Annotated[Count, Meta(le=256, description="autocorrelation lags it sees")] = 8
    channels: Annotated[tuple[Count, Count, Count], Meta(description="of the three encoding layers")] = (16, 32, 64)
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    epsilon: Annotated[float, Meta(gt=0, description="Eq. (13): what is added to the diagonal")] = 0.1
    skip: Annotated[bool, Meta(description="learn how much of the sample covariance to add")] = True


class AntiRectifier(nn.Module):
    """``[relu(x), relu(-x)]``: twice the channels, nothing lost. Luijten et al. 2020, [NF] Section III-A2."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(torch.cat([x, -x], dim=1))


class SurrogateNetwork(nn.Module):
    """Convolutional autoencoder from ``[batch, lag, 2 N, N]`` to ``K``, and Eq. (13) of [NF].

    Three 2 x 2 convolutions and three 2 x 2 deconvolutions with anti-rectifiers between, in float32; the surrogate is
    formed in complex128, for the eigendecomposition that follows.
    """

    def __init__(self, config: SurrogateConfig) -> None:
        super().__init__()
        self.config = config
        a, b, c = config.channels
        self.encode = nn.Sequential(
            nn.Conv2d(config.n_lags, a, 2),
            AntiRectifier(),
            nn.Conv2d(2 * a, b, 2),
            AntiRectifier(),
            nn.Conv2d(2 * b, c, 2),
            AntiRectifier(),
        )
        self.decode = nn.Sequential(
            nn.ConvTranspose2d(2 * c, b, 2),
            AntiRectifier(),
            nn.ConvTranspose2d(2 * b, a, 2),
            AntiRectifier(),
            nn.Dropout(config.dropout),
            nn.ConvTranspose2d(2 * a, 1, 2),
        )
        for part in (self.encode, self.decode):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster on a processor
        # alpha = sigmoid of this lies in (0, 1), as the paper constrains it
        self.skip_logit = nn.Parameter(torch.tensor(-2.0)) if config.skip else None

    def forward(self, x: Tensor) -> Tensor:
        """Surrogate covariance ``[batch, sensor, sensor]`` complex128 of samples ``[batch, sensor, snapshot]``."""
        correlation = autocorrelation(x.to(torch.complex64), self.config.n_lags)
        features = real_features(correlation)
        out = self.decode(self.encode(features.float().contiguous(memory_format=torch.channels_last)))[:, 0]
        n = self.config.n_sensors
        k = torch.complex(out[:, :n].double(), out[:, n:].double())
        surrogate = spectral_surrogate(k, self.config.epsilon)
        if self.skip_logit is None:
            return surrogate
        sample = correlation[:, 0].to(torch.complex128)
        power = sample.diagonal(dim1=-2, dim2=-1).real.sum(-1)
        alpha = torch.sigmoid(self.skip_logit.double())
        # its trace bounds its spectral norm: what is added is of the surrogate's own size
        return surrogate + alpha * sample / power[:, None, None]


def spectral_surrogate(k: Tensor, epsilon: float) -> Tensor:
    r"""``(K K^H + eps I) / ||K K^H + eps I||_2``, [NF] Eq. (13): the largest eigenvalue is 1.

    Args:
        k: ``[..., sensor, sensor]`` complex.
        epsilon: Above 0.
    """
    gram = k @ k.mH
    gram = gram + epsilon * torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    return gram / torch.linalg.eigvalsh(gram)[..., -1, None, None]
