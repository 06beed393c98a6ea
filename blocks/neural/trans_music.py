"""TransMUSIC: attention over snapshots makes a subspace, a dense network reads its spectrum. Baseline of [NF].

Ji, Mao, Xi and Chen, "TransMUSIC: a transformer-aided subspace method for DOA estimation with low-resolution ADCs",
ICASSP 2024: an encoder over the snapshots, a noise subspace from it, and a network instead of a peak search. Adapted to
the near field as [NF] Section IV-A3 does: the spectrum is over azimuth and range, what is read from it are places. The
branch that counts sources is left out, as there: the number is fixed.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from msgspec import Meta
from torch import nn

from blocks.neural.matching import root_mean_square
from blocks.neural.places import Places, matched_distance, places_error, searched_ranges
from blocks.subspace.dictionary import Grid, steering_dictionary
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.params import Count, Params

Tensor = torch.Tensor
Batch = dict[str, Any]


class TransMusicConfig(Params, frozen=True):
    n_sources: Annotated[Count, Meta(le=64, description="that every estimate has")] = 2
    width: Annotated[Count, Meta(le=1024, description="of a snapshot in the encoder")] = 64
    heads: Annotated[Count, Meta(le=64)] = 4
    layers: Annotated[Count, Meta(le=16)] = 2
    units: Annotated[Count, Meta(le=8192, description="of the two dense layers that read the spectrum")] = 256
    azimuth_limit_rad: Annotated[float, Meta(gt=0, lt=1.5707963)] = np.pi / 3


class TransMusic(nn.Module):
    """The network, its loss and its error on a batch.

    Args:
        config: What it is.
        array: Of any shape that :class:`blocks.subspace.dictionary.Grid` knows.
        wavelength_m: Metres.
    """

    gives_places = True

    steering: Tensor

    def __init__(self, config: TransMusicConfig, array: ArrayGeometry, wavelength_m: float) -> None:
        super().__init__()
        self.config = config
        self.n_sensors = len(array.channel_map)
        self.range_m = searched_ranges(array, wavelength_m)
        grid = Grid.coarse(array, wavelength_m, range_min_m=self.range_m[0], azimuth_limit_rad=config.azimuth_limit_rad)
        dictionary = steering_dictionary(array, wavelength_m, grid)
        self.register_buffer("steering", torch.from_numpy(dictionary.conjugate.copy()), False)
        self.enter = nn.Linear(2 * self.n_sensors, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 2 * config.width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.subspace = nn.Linear(config.width, 2 * self.n_sensors**2)
        self.read = nn.Sequential(
            nn.Linear(len(dictionary.conjugate), config.units),
            nn.ReLU(),
            nn.Linear(config.units, config.units),
            nn.ReLU(),
            nn.Linear(config.units, 2 * config.n_sources),
        )

    def forward(self, samples: Tensor, n_sources: int) -> Places:
        """Places of ``[batch, sensor, snapshot]``; ``n_sources`` is the one that it was made for.

        Raises:
            ParamError: It is another.
        """
        if n_sources != self.config.n_sources:
            raise ParamError(
                f"TransMUSIC: made for {self.config.n_sources} sources, asked for {n_sources}: train one for these"
            )
        x = samples.to(torch.complex64)
        level = (x.real**2 + x.imag**2).mean((1, 2), keepdim=True).sqrt()
        x = x / level.clamp(min=torch.finfo(level.dtype).tiny)
        encoded = self.encoder(self.enter(torch.cat([x.real, x.imag], dim=1).mT)).mean(1)
        real, imag = self.subspace(encoded).reshape(-1, 2, self.n_sensors, self.n_sensors).unbind(1)
        seen = self.steering @ torch.complex(real, imag)
        level = (seen.real**2 + seen.imag**2).sum(-1)
        spectrum = torch.log(level / level.mean(-1, keepdim=True) + 1e-6)
        azimuth, inverse = self.read(spectrum).reshape(-1, n_sources, 2).unbind(-1)
        nearest, farthest = self.range_m
        k = 1 / farthest + torch.sigmoid(inverse) * (1 / nearest - 1 / farthest)
        return Places(self.config.azimuth_limit_rad * torch.tanh(azimuth), 1 / k)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Root of the mean square distance, best permutation, over the farthest range: [NF] Eq. (23).

        Args:
            batch: ``samples``, ``azimuth_rad``, ``range_m``, ``n_sources`` as tensors, the last always the one number.
        """
        m = self.config.n_sources
        found = self(batch["samples"], m)
        truth = batch["azimuth_rad"][:, :m].to(found.range_m.dtype), batch["range_m"][:, :m].to(found.range_m.dtype)
        return root_mean_square(matched_distance(found, *truth)).mean() / self.range_m[1], {}

    def error(self, batch: Batch, cutoff_m: float) -> dict[str, float]:
        """See :func:`blocks.neural.places.places_error`."""
        return places_error(self, batch, cutoff_m)
