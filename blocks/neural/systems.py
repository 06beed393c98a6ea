"""The networks by name: what a configuration or a weights file is built from."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from blocks.neural.dcd_music import DcdMusic, DcdMusicConfig
from blocks.neural.deep_cnn import DeepCnn, DeepCnnConfig
from blocks.neural.near_field_subspace_net import NearFieldSubspaceNet, NearFieldSubspaceNetConfig
from blocks.neural.trans_music import TransMusic, TransMusicConfig
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.params import Params, convert_params


class System(NamedTuple):
    """A configuration, and the module that is built from it, an array and a wavelength."""

    config: type[Params]
    module: type[nn.Module]


SYSTEMS: dict[str, System] = {
    "dcd_music": System(DcdMusicConfig, DcdMusic),
    "deep_cnn": System(DeepCnnConfig, DeepCnn),
    "nf_subspacenet": System(NearFieldSubspaceNetConfig, NearFieldSubspaceNet),
    "trans_music": System(TransMusicConfig, TransMusic),
}


def find_system(name: str) -> System:
    """One of :data:`SYSTEMS`, or one's own as ``module:NAME``, where ``NAME`` is a :class:`System`.

    Raises:
        ParamError: There is none of that name.
    """
    if name in SYSTEMS:
        return SYSTEMS[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ParamError(f"no system {name!r}: there are {', '.join(SYSTEMS)}; one's own is named module:NAME")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ParamError(f"system {name!r}: {error}; is the module on the path (PYTHONPATH)?") from error
    if not isinstance(found, System):
        raise ParamError(f"system {name!r}: expected a blocks.neural.systems.System, got {type(found).__name__}")
    return found


def make_model(
    system: str, config: Mapping[str, Any], array: ArrayGeometry, wavelength_m: float, seed: int = 0
) -> nn.Module:
    """Build a network; its first weights depend on ``seed`` alone, and no global generator is touched.

    Raises:
        ParamError: There is no such system, or the configuration does not fit it.
    """
    made = find_system(system)
    params = convert_params(made.config, config, f"model of {system!r}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: nn.Module = made.module(params, array, wavelength_m)
    return model
