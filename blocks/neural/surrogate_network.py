"""The network of [NF]: autocorrelation in, a surrogate covariance out on which subspace methods work."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from msgspec import Meta
from torch import nn

from blocks.neural.autocorrelation import autocorrelation, real_features
from hil.errors import ParamError
from hil.params import Count, Params

Tensor = torch.Tensor


class SurrogateConfig(Params, frozen=True):
    """What the network is. [NF] Section IV-A3; sizes of the published code."""

    n_sensors: Annotated[int, Meta(ge=8, le=4096)] = 15
    layers: Annotated[
        Literal["convolution", "dense", "none"],
        Meta(
            description="[NF]'s autoencoder; full layers on the sample covariance alone: each output sees all of it; "
            "none: the sample covariance itself, for learn_positions alone"
        ),
    ] = "convolution"
    n_lags: Annotated[Count, Meta(le=256, description="autocorrelation lags it sees")] = 8
    channels: Annotated[tuple[Count, Count, Count], Meta(description="of the three encoding layers")] = (16, 32, 64)
    hidden: Annotated[Count, Meta(le=4096, description="width of the dense layers")] = 384
    n_blocks: Annotated[Count, Meta(le=16, description="residual blocks of two dense layers each")] = 2
    rank: Annotated[Count | None, Meta(description="columns of K where layers are dense; absent: as sensors")] = None
    snapshots: Annotated[
        bool, Meta(description="tell dense layers how many snapshots the covariance is of: one network for all numbers")
    ] = False
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    epsilon: Annotated[float, Meta(gt=0, description="Eq. (13): what is added to the diagonal")] = 0.1
    skip: Annotated[bool, Meta(description="learn how much of the sample covariance to add")] = True

    def __post_init__(self) -> None:
        if self.snapshots and self.layers != "dense":
            raise ValueError(f"snapshots: expected dense layers, which can be told their number, got {self.layers!r}")


class AntiRectifier(nn.Module):
    """``[relu(x), relu(-x)]``: twice the channels, nothing lost. Luijten et al. 2020, [NF] Section III-A2."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(torch.cat([x, -x], dim=1))


class SurrogateNetwork(nn.Module):
    """From samples to ``K``, and from ``K`` to the surrogate covariance by Eq. (13) of [NF].

    Layers in float32; the surrogate is formed in complex128, for the eigendecomposition that follows.
    """

    def __init__(self, config: SurrogateConfig) -> None:
        super().__init__()
        self.config = config
        self.dense = DenseLayers(config) if config.layers == "dense" else None
        if config.layers == "convolution":
            self.encode, self.decode = _autoencoder(config)
        # alpha = sigmoid of this lies in (0, 1), as the paper constrains it
        skips = config.skip and config.layers != "none"
        self.skip_logit = nn.Parameter(torch.tensor(-2.0)) if skips else None

    def forward(self, x: Tensor) -> Tensor:
        """Surrogate covariance ``[batch, sensor, sensor]`` complex128 of samples ``[batch, sensor, snapshot]``.

        Raises:
            ParamError: The samples have another number of sensors.
        """
        n = self.config.n_sensors
        if x.shape[-2] != n:
            raise ParamError(
                f"network: made for {n} sensors, the samples have {x.shape[-2]}: set its n_sensors to that"
            )
        correlation = autocorrelation(x.to(torch.complex64), self.n_lags)
        if self.config.layers == "none":
            return _of_trace_one(correlation[:, 0])
        features = real_features(correlation).float()
        if self.dense is not None:
            out = self.dense(features[:, 0], x.shape[-1])
        else:
            out = self.decode(self.encode(features.contiguous(memory_format=torch.channels_last)))[:, 0]
        k = torch.complex(out[:, :n].double(), out[:, n:].double())
        surrogate = spectral_surrogate(k, self.config.epsilon)
        if self.skip_logit is None:
            return surrogate
        # its trace bounds its spectral norm: what is added is of the surrogate's own size
        return surrogate + torch.sigmoid(self.skip_logit.double()) * _of_trace_one(correlation[:, 0])

    @property
    def n_lags(self) -> int:
        """Of the autocorrelation that it looks at."""
        return self.config.n_lags if self.config.layers == "convolution" else 1


def _of_trace_one(covariance: Tensor) -> Tensor:
    power = covariance.diagonal(dim1=-2, dim2=-1).real.sum(-1).double()
    return covariance.to(torch.complex128) / power.clamp(min=torch.finfo(torch.float32).tiny)[:, None, None]


def _autoencoder(config: SurrogateConfig) -> tuple[nn.Sequential, nn.Sequential]:
    """Three 2 x 2 convolutions of ``[batch, lag, 2 N, N]`` and three 2 x 2 deconvolutions, anti-rectifiers between."""
    a, b, c = config.channels
    encode = nn.Sequential(
        nn.Conv2d(config.n_lags, a, 2),
        AntiRectifier(),
        nn.Conv2d(2 * a, b, 2),
        AntiRectifier(),
        nn.Conv2d(2 * b, c, 2),
        AntiRectifier(),
    )
    decode = nn.Sequential(
        nn.ConvTranspose2d(2 * c, b, 2),
        AntiRectifier(),
        nn.ConvTranspose2d(2 * b, a, 2),
        AntiRectifier(),
        nn.Dropout(config.dropout),
        nn.ConvTranspose2d(2 * a, 1, 2),
    )
    for part in (encode, decode):
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster on a processor
    return encode, decode


class DenseLayers(nn.Module):
    """Full layers from the covariance's ``N^2`` real numbers to ``K``, with residual blocks between.

    Not [NF]'s: there an output sees the 7 x 7 entries round it, here each sees all, at a sixteenth of the
    multiplications. It takes the sample covariance alone: waveforms that are white leave nothing in the later lags. How
    strong the sources are the covariance tells by itself; of how many snapshots it is, one more input may.
    """

    row: Tensor
    column: Tensor

    def __init__(self, config: SurrogateConfig) -> None:
        super().__init__()
        self.n, self.rank, self.snapshots = config.n_sensors, config.rank or config.n_sensors, config.snapshots
        row, column = torch.tril_indices(self.n, self.n)
        # the lower triangle of the real part with the diagonal, and that of the imaginary part without it
        self.register_buffer("row", torch.cat([row, row[row > column] + self.n]), persistent=False)
        self.register_buffer("column", torch.cat([column, column[row > column]]), persistent=False)
        self.first = nn.Linear(self.n**2 + config.snapshots, config.hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(config.hidden),
                nn.Linear(config.hidden, config.hidden),
                nn.ReLU(),
                nn.Linear(config.hidden, config.hidden),
            )
            for _ in range(config.n_blocks)
        )
        self.last = nn.Linear(config.hidden, 2 * self.n * self.rank)

    def forward(self, covariance: Tensor, n_snapshots: int) -> Tensor:
        """``[batch, 2 N, rank]`` of ``[batch, 2 N, N]``, real over imaginary part."""
        seen = covariance[:, self.row, self.column]
        if self.snapshots:
            seen = torch.nn.functional.pad(seen, (0, 1), value=snapshots_feature(n_snapshots))
        x = self.first(seen)
        for block in self.blocks:
            x = x + block(x)
        out: Tensor = self.last(torch.relu(x))
        return out.view(-1, 2 * self.n, self.rank)


def snapshots_feature(n_snapshots: int) -> float:
    """What a network is told of their number: its logarithm, 0 at a hundred and 1 at a thousand."""
    return math.log10(n_snapshots / 100)


def spectral_surrogate(k: Tensor, epsilon: float) -> Tensor:
    r"""``(K K^H + eps I) / ||K K^H + eps I||_2``, [NF] Eq. (13): the largest eigenvalue is 1.

    Args:
        k: ``[..., sensor, any]`` complex.
        epsilon: Above 0.
    """
    gram = k @ k.mH
    gram = gram + epsilon * torch.eye(k.shape[-2], dtype=k.dtype, device=k.device)
    smaller = gram if k.shape[-1] >= k.shape[-2] else k.mH @ k  # of the same largest eigenvalue, less epsilon
    largest = torch.linalg.eigvalsh(smaller)[..., -1, None, None]
    return gram / (largest if smaller is gram else largest + epsilon)
