"""The layers of the surrogate networks in matrix products of NumPy, without gradients: what the blocks run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import sgemm
from torch import Tensor, nn

from blocks.neural.surrogate_network import DenseLayers, snapshots_feature

F32 = npt.NDArray[np.float32]

#: Examples that go through the convolutions together: more do not fit the second-level cache, fewer pay Python's price.
CHUNK = 4


class FastAutoencoder:
    """Convolutions and deconvolutions of a trained network.

    A 2 x 2 convolution of an image that lies in memory pixel by pixel is four matrix products, of the pixels from four
    different first ones on; a deconvolution is one product, whose four parts are added a pixel apart. The anti-
    rectifier is taken as ``[x, |x|]``, of which ``[relu(x), relu(-x)]`` is a linear function that the next weights
    absorb.

    Args:
        encode: The network's convolutions.
        decode: Its deconvolutions.
    """

    def __init__(self, encode: nn.Sequential, decode: nn.Sequential) -> None:
        down = [m for m in encode if isinstance(m, nn.Conv2d)]
        up = [m for m in decode if isinstance(m, nn.ConvTranspose2d)]
        # (row, column, in, out)
        kernels = [_numpy(m.weight).transpose(2, 3, 1, 0) for m in down]
        kernels += [_numpy(m.weight).transpose(2, 3, 0, 1) for m in up]
        layers = [
            _Layer(_taps(kernel, first=i == 0), _numpy(m.bias))
            for i, (kernel, m) in enumerate(zip(kernels, (*down, *up), strict=True))
        ]
        self._encode, self._decode = layers[: len(down)], layers[len(down) :]

    def __call__(self, features: F32, n_snapshots: int) -> F32:
        """``[batch, lag, row, column]`` to ``[batch, row, column]``; the number of snapshots it does not ask for."""
        x = np.ascontiguousarray(features.transpose(0, 2, 3, 1))
        return np.concatenate([self._chunk(x[i : i + CHUNK]) for i in range(0, len(x), CHUNK)])

    def _chunk(self, x: F32) -> F32:
        for layer in self._encode:
            x = _halves(_convolve(x, layer.taps), layer.bias)
        for layer in self._decode[:-1]:
            x = _halves(_deconvolve(x, layer.taps), layer.bias)
        last = self._decode[-1]
        return np.asarray(_deconvolve(x, last.taps)[..., 0] + last.bias)


class FastDense:
    """Dense layers of a trained network.

    Args:
        layers: Trained.
    """

    def __init__(self, layers: DenseLayers) -> None:
        self._row, self._column = layers.row.cpu().numpy(), layers.column.cpu().numpy()
        self._first, self._last = _linear(layers.first), _linear(layers.last)
        self._blocks = [_Block.of(*block) for block in layers.blocks]  # type: ignore[misc]
        self._rank, self._snapshots = layers.rank, layers.snapshots
        if self._snapshots:  # its weights come last
            self._of_snapshots = self._first.weight[-1]
            self._first = self._first._replace(weight=np.ascontiguousarray(self._first.weight[:-1]))

    def __call__(self, features: F32, n_snapshots: int) -> F32:
        """``[batch, 1, 2 N, N]`` to ``[batch, 2 N, rank]``."""
        x = _affine(features[:, 0, self._row, self._column], self._first)
        if self._snapshots:
            x += np.float32(snapshots_feature(n_snapshots)) * self._of_snapshots
        for block in self._blocks:
            centred = x - x.mean(axis=-1, keepdims=True)
            deviation = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + block.epsilon)
            inner = _affine(centred / deviation * block.scale + block.shift, block.up)
            x += _affine(np.maximum(inner, 0, out=inner), block.down)
        return _affine(np.maximum(x, 0, out=x), self._last).reshape(len(x), -1, self._rank)


class _Layer(NamedTuple):
    """Taps of a 2 x 2 kernel, each ``[channel in, channel out]``, for what :func:`_halves` makes."""

    taps: list[F32]
    bias: F32


class _Linear(NamedTuple):
    weight: F32
    bias: F32


class _Block(NamedTuple):
    """Normalized to zero mean and variance 1, scaled and shifted; up, rectified, down."""

    scale: F32
    shift: F32
    epsilon: float
    up: _Linear
    down: _Linear

    @classmethod
    def of(cls, norm: nn.LayerNorm, up: nn.Linear, _: nn.ReLU, down: nn.Linear) -> _Block:
        return cls(_numpy(norm.weight), _numpy(norm.bias), norm.eps, _linear(up), _linear(down))


def _numpy(value: Tensor | None) -> F32:
    assert value is not None
    return value.detach().cpu().numpy().copy()


def _linear(layer: nn.Linear) -> _Linear:
    return _Linear(np.ascontiguousarray(_numpy(layer.weight).T), _numpy(layer.bias))


def _affine(x: F32, layer: _Linear) -> F32:
    out: F32 = x @ layer.weight
    out += layer.bias
    return out


def _taps(kernel: F32, *, first: bool) -> list[F32]:
    """``[row, column, in, out]`` as four matrices; behind an anti-rectifier for ``[x, |x|]``."""
    if not first:
        half = kernel.shape[2] // 2
        above, below = kernel[:, :, :half], kernel[:, :, half:]
        kernel = np.concatenate([above - below, above + below], axis=2) * np.float32(0.5)
    return [np.ascontiguousarray(kernel[i, j], dtype=np.float32) for i in (0, 1) for j in (0, 1)]


def _convolve(x: F32, taps: list[F32]) -> F32:
    """2 x 2 without padding: ``[batch, row, column, in]`` to ``[batch, row - 1, column - 1, out]``."""
    n_batch, rows, columns, n_in = x.shape
    flat = x.reshape(-1, n_in)
    n_out, n_pixels = taps[0].shape[1], len(flat) - columns - 1
    out = np.empty((len(flat), n_out), np.float32)
    for tap, first in zip(taps, (0, 1, columns, columns + 1), strict=True):
        # of transposed views, so that the library finds the order of memory that it likes and accumulates in place
        sgemm(1.0, tap.T, flat[first : first + n_pixels].T, float(first > 0), out[:n_pixels].T, overwrite_c=True)
    # pixels of the last row and column have run into the next ones
    return out.reshape(n_batch, rows, columns, n_out)[:, :-1, :-1]


def _deconvolve(x: F32, taps: list[F32]) -> F32:
    """Its transpose: ``[batch, row, column, in]`` to ``[batch, row + 1, column + 1, out]``."""
    n_batch, rows, columns, n_in = x.shape
    n_out = taps[0].shape[1]
    product = (x.reshape(-1, n_in) @ np.concatenate(taps, axis=1)).reshape(n_batch, rows, columns, 4, n_out)
    out = np.zeros((n_batch, rows + 1, columns + 1, n_out), np.float32)
    for i, (down, right) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        out[:, down : down + rows, right : right + columns] += product[:, :, :, i]
    return out


def _halves(x: F32, bias: F32) -> F32:
    """``[x, |x|]`` of a layer's output, dense in memory."""
    n = x.shape[-1]
    out = np.empty((*x.shape[:-1], 2 * n), np.float32)
    np.add(x, bias, out=out[..., :n])
    np.abs(out[..., :n], out=out[..., n:])
    return out
