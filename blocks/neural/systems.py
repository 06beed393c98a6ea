"""The networks by name: what a configuration or a weights file is built from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from blocks.neural.dcd_music import DcdMusic, DcdMusicConfig
from blocks.neural.near_field_subspace_net import NearFieldSubspaceNet, NearFieldSubspaceNetConfig
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.params import Params, convert_params


class System(NamedTuple):
    """A configuration, and the module that is built from it, an array and a wavelength."""

    config: type[Params]
    module: type[nn.Module]


SYSTEMS: dict[str, System] = {
    "dcd_music": System(DcdMusicConfig, DcdMusic),
    "nf_subspacenet": System(NearFieldSubspaceNetConfig, NearFieldSubspaceNet),
}


def make_model(
    system: str, config: Mapping[str, Any], array: ArrayGeometry, wavelength_m: float, seed: int = 0
) -> nn.Module:
    """Build a network; its first weights depend on ``seed`` alone, and no global generator is touched.

    Raises:
        ParamError: There is no such system, or the configuration does not fit it.
    """
    if system not in SYSTEMS:
        raise ParamError(f"no system {system!r}: there are {', '.join(SYSTEMS)}")
    made = SYSTEMS[system]
    params = convert_params(made.config, config, f"model of {system!r}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = made.module(params, array, wavelength_m)
    return model
