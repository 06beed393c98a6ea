"""From a configuration to a weights file: data, network, training, card."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from msgspec import Meta

from blocks.neural.systems import make_model
from blocks.neural.training import Data, TrainParams, at_most, train
from blocks.neural.weights import Card, save_weights, start_from, weights_path
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.params import Params, Seed, params_to_plain


class TrainingConfig(Params, frozen=True):
    """What ``hil train`` reads."""

    system: Annotated[str, Meta(description="which network: nf_subspacenet")]
    model: Annotated[dict[str, Any], Meta(description="its configuration")] = {}
    start: Annotated[
        str | None, Meta(description="weights to begin with: a file, or the name of shipped ones; absent: drawn")
    ] = None
    data: Annotated[dict[str, Any], Meta(description="parameters of the training data")] = {}
    data_factory: Annotated[str, Meta(description="module:Class that makes them")] = (
        "sim_device.near_field_places:NearFieldPlaces"
    )
    data_seed: Seed = 1
    half: Annotated[bool, Meta(description="write the weights in float16, half the size")] = False
    train: TrainParams = TrainParams()


class PlacesData(Data, Protocol):
    """Data that know the array they are of."""

    params: Any
    array: ArrayGeometry
    wavelength_m: float


def run_training(
    config: TrainingConfig,
    make_data: Callable[[dict[str, Any], int, str], PlacesData],
    directory: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    commit: str = "",
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Path:
    """Train, and leave ``weights.safetensors`` in ``directory``; return its path.

    Args:
        config: What and how.
        make_data: Called with the data's parameters, their seed and ``train`` or ``validation``.
        directory: For checkpoint, log and weights.
        resume: Go on from the checkpoint there.
        device: ``cpu`` or ``cuda``.
        commit: Of the code, for the card.
        on_step: Told each step.
    """
    training, validation = (make_data(config.data, config.data_seed, split) for split in ("train", "validation"))
    model = make_model(config.system, config.model, training.array, training.wavelength_m, config.train.seed)
    if getattr(training.params, "elevation_limit_rad", 0) and not getattr(model.config, "elevation", False):
        raise ParamError(
            f"{config.system}: with data.elevation_limit_rad = {training.params.elevation_limit_rad} sources lie above "
            "and below, where this network looks for none; set model.elevation of an nf_subspacenet, or the limit to 0"
        )
    if config.start is not None and not resume:
        start_from(model, weights_path(config.start))
    trained = train(model, training, validation, config.train, directory, resume=resume, device=device, on_step=on_step)
    p = training.params
    card = Card(
        system=config.system,
        model=params_to_plain(model.config),  # type: ignore[arg-type]
        array=training.array.to_dict(),
        frequency_hz=p.frequency_hz,
        n_sources=p.n_sources,
        n_snapshots=(p.n_snapshots, p.n_snapshots_most or p.n_snapshots),
        snr_db=p.snr_db,
        coherent=p.coherent,
        data=params_to_plain(p),
        data_factory=config.data_factory,
        train=params_to_plain(config.train),
        seed=config.data_seed,
        commit=commit,
        versions={"torch": str(torch.__version__), "numpy": np.__version__},
        trained={
            "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread(s), {device}",
            "steps": config.train.steps,
            "start": config.start,
            "seconds": round(trained.seconds, 1),
        },
        measured={"validation": {**trained.errors, "n": at_most(validation, config.train.validation_examples)}},
    )
    path = directory / "weights.safetensors"
    save_weights(path, model.cpu(), card, half=config.half)
    return path
