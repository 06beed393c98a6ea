"""What the networks see of the samples: their autocorrelation at a few lags."""

from __future__ import annotations

import torch

from hil.errors import ParamError

Tensor = torch.Tensor


def autocorrelation(x: Tensor, n_lags: int) -> Tensor:
    r"""Lagged covariances, [NF] Eq. (11).

    .. math:: R_x[\tau] = \frac{1}{T - \tau} \sum_{t=0}^{T-\tau-1} x(t) x^H(t + \tau)

    (The paper's sum runs to :math:`T - \tau`, one term too many.)

    Args:
        x: ``[..., sensor, snapshot]`` complex.
        n_lags: ``tau_max + 1``, at most the number of snapshots.

    Returns:
        ``[..., lag, sensor, sensor]``, lag 0 being the sample covariance.
    """
    t = x.shape[-1]
    if not 1 <= n_lags <= t:
        raise ParamError(f"autocorrelation: expected 1 .. {t} lags of {t} snapshots, got {n_lags}")
    return torch.stack([x[..., : t - lag] @ x[..., lag:].mH / (t - lag) for lag in range(n_lags)], dim=-3)


def real_features(correlation: Tensor) -> Tensor:
    """Real over imaginary part, scaled by the mean power: ``[..., lag, 2 * sensor, sensor]``.

    The scale makes the network blind to the level of the receiver, which says nothing of where a source is.
    """
    power = correlation[..., 0, :, :].diagonal(dim1=-2, dim2=-1).real.mean(-1)
    scaled = correlation / power.clamp(min=torch.finfo(power.dtype).tiny)[..., None, None, None]
    return torch.cat([scaled.real, scaled.imag], dim=-2)
