"""NF-SubspaceNet with the choices of its published implementation, trained here.

``python -m benchmarks.nf_subspace.published`` trains it again.

What that code does and [NF] does not: covariances with the mean removed, ``K^H K`` scaled by its Frobenius norm, no
skip; sources on whole degrees and metres, 3,686 of them again and again for 51 epochs, and a search on whole degrees
and metres; where the spectrum has fewer peaks than there are sources, places at random. Wavefronts are exact here, as
in all of this benchmark.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from blocks.neural.losses import spectrum_loss
from blocks.neural.subspace_split import noise_projector, subspace_split
from blocks.neural.surrogate_network import SurrogateConfig, SurrogateNetwork
from blocks.subspace.spectrum import local_maxima
from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance
from hil.wavefront import steering_vector_polar

F64 = npt.NDArray[np.float64]
Tensor = torch.Tensor

#: Trained with the command above.
WEIGHTS = Path(__file__).parent / "published_n15.safetensors"

N_TRAIN, N_VALIDATION, EPOCHS, BATCH = 3686, 410, 51, 128
#: Its amplitude is 10^(SNR / 10): what it calls 10 dB.
SNR_DB = 20.0
N_SNAPSHOTS = 100
AZIMUTH_DEG = 60


class PublishedNet(nn.Module):
    """Samples in, covariance out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = SurrogateNetwork(SurrogateConfig(skip=False))

    def forward(self, x: Tensor) -> Tensor:
        """``[batch, sensor, snapshot]`` complex to ``[batch, sensor, sensor]`` complex128."""
        config, t = self.layers.config, x.shape[-1]
        x = (x - x.mean(-1, keepdim=True)).to(torch.complex64)
        lags = [x[..., : t - k] @ x[..., k:].mH / (t - k - 1) for k in range(config.n_lags)]
        correlation = torch.stack(lags, dim=-3)
        out = self.layers.decode(self.layers.encode(torch.cat([correlation.real, correlation.imag], dim=-2)))[:, 0]
        n = config.n_sensors
        k = torch.complex(out[:, :n].double(), out[:, n:].double())
        gram = k.mH @ k + config.epsilon * torch.eye(n, dtype=k.dtype)
        return gram / torch.linalg.matrix_norm(gram)[:, None, None]


class WholePlaces:
    """Two coherent sources in phase on different whole degrees, on whole metres."""

    def __init__(self) -> None:
        self.wavelength_m = 1.0
        self.array = ArrayGeometry.ula(15, 0.5)
        aperture = self.array.aperture_m
        nearest, farthest = fresnel_distance(aperture, 1.0), fraunhofer_distance(aperture, 1.0) / 2
        self.range_m = np.arange(np.ceil(nearest), np.floor(farthest) + 1)
        self.azimuth_rad = np.deg2rad(np.arange(-AZIMUTH_DEG, AZIMUTH_DEG + 1))

    def draw(self, rng: np.random.Generator, n: int, *, coherent: bool = True) -> dict[str, npt.NDArray[Any]]:
        """As :meth:`sim_device.near_field_places.NearFieldPlaces.batch`."""
        azimuth = np.stack([rng.choice(self.azimuth_rad, 2, replace=False) for _ in range(n)])
        ranges = rng.choice(self.range_m, (n, 2))
        steering = steering_vector_polar(self.array.channel_position_m, azimuth, ranges, 1.0, amplitude=True)
        waveform = _gaussian(rng, n, 2, N_SNAPSHOTS)
        if coherent:
            waveform = np.repeat(waveform[:, :1], 2, axis=1)
        x = 10 ** (SNR_DB / 20) * np.swapaxes(steering, -1, -2) @ waveform + _gaussian(rng, n, 15, N_SNAPSHOTS)
        return {
            "samples": x.astype(np.complex64),
            "azimuth_rad": azimuth,
            "range_m": ranges,
            "n_sources": np.full(n, 2),
            "snr_db": np.full(n, SNR_DB),
        }


def estimate(
    surrogate: npt.NDArray[np.complex128], places: WholePlaces, n_sources: int, rng: np.random.Generator
) -> tuple[F64, F64]:
    """Azimuths and ranges ``[source]`` of the highest peaks, at random where none is left."""
    steering = _steering(places)
    signal = np.linalg.eigh(surrogate)[1][:, ::-1][:, :n_sources]
    depth = 1 - (np.abs(steering.conj() @ signal) ** 2).sum(-1)
    peak = local_maxima(1 / np.maximum(depth, 1e-12))[:n_sources]
    azimuth, ranges = np.unravel_index(peak, depth.shape)
    missing = n_sources - len(peak)
    return (
        np.append(places.azimuth_rad[azimuth], rng.choice(places.azimuth_rad, missing)),
        np.append(places.range_m[ranges], rng.choice(places.range_m, missing)),
    )


def _steering(places: WholePlaces) -> npt.NDArray[np.complex128]:
    a = steering_vector_polar(
        places.array.channel_position_m, places.azimuth_rad[:, None], places.range_m, 1.0, amplitude=True
    )
    unit: npt.NDArray[np.complex128] = a / np.linalg.norm(a, axis=-1, keepdims=True)
    return unit


def train(seed: int, path: Path, on_epoch: Any = print) -> None:
    """Train on one thread and leave the weights, with what it took, in ``path``."""
    places, rng = WholePlaces(), np.random.default_rng(seed)
    training, validation = (_tensors(places.draw(rng, n)) for n in (N_TRAIN, N_VALIDATION))
    began = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = PublishedNet()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=10)
        for epoch in range(EPOCHS):
            net.train()
            order = torch.from_numpy(rng.permutation(N_TRAIN))
            for chosen in torch.split(order, BATCH):
                optimizer.zero_grad(set_to_none=True)
                loss = _loss(net, places, {k: v[chosen] for k, v in training.items()})
                torch.autograd.backward(loss)
                optimizer.step()
            net.eval()
            with torch.no_grad():
                validation_loss = float(_loss(net, places, validation))
            plateau.step(validation_loss)
            took_s = time.monotonic() - began
            on_epoch(f"epoch {epoch + 1} of {EPOCHS}, validation loss {validation_loss:.4f}, {took_s:.0f} s")
    # what it took is of the processor that it ran on, other work there included
    told = {"seconds": f"{time.monotonic() - began:.0f}", "epochs": str(EPOCHS), "seed": str(seed)}
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path, told)


def load() -> PublishedNet:
    """The network with the weights that :func:`train` left."""
    net = PublishedNet()
    net.load_state_dict(load_file(WEIGHTS))
    return net.eval()


def _loss(net: PublishedNet, places: WholePlaces, batch: dict[str, Tensor]) -> Tensor:
    steering = steering_vector_polar(
        torch.from_numpy(np.array(places.array.channel_position_m)),
        batch["azimuth_rad"],
        batch["range_m"],
        1.0,
        amplitude=True,
    )
    steering = steering / torch.linalg.vector_norm(steering, dim=-1, keepdim=True)
    count = batch["n_sources"]
    _, vectors = subspace_split(net(batch["samples"]), count)
    present = torch.ones(steering.shape[:2], dtype=torch.bool)
    return spectrum_loss(noise_projector(vectors, count), steering, present).mean()


def _tensors(batch: dict[str, npt.NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def _gaussian(rng: np.random.Generator, *shape: int) -> npt.NDArray[np.complex128]:
    """Circular, of power 1."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) * np.sqrt(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train(options.seed, options.out)


if __name__ == "__main__":
    main()
