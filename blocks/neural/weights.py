"""Weights in a file that says what they are: safetensors with a card."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from blocks.neural.systems import make_model
from hil.array import ArrayGeometry
from hil.errors import HilError, ParamError, RecordingError
from hil.params import Params, convert_params, params_to_plain
from hil.wavefront import wavelength_m

FORMAT = 1

#: Weights that come with the project, by name.
SHIPPED = Path(__file__).parent / "shipped"


class Card(Params, frozen=True):
    """What weights were trained for, on what, and how good they were found.

    Attributes:
        system: Name in :data:`blocks.neural.systems.SYSTEMS`.
        model: Configuration of the network.
        array: Of the training data, as :meth:`hil.array.ArrayGeometry.to_dict` gives it.
        frequency_hz: Of the training data.
        n_sources: Fewest and most in the training data.
        n_snapshots: Fewest and most in the training data.
        snr_db: Lowest and highest, power of a source over noise at one sensor.
        coherent: Whether sources sent the same waveform.
        data: All parameters of the training data.
        data_factory: ``module:Class`` that makes them.
        train: All parameters of the training.
        seed: Of the data.
        commit: Of the code.
        versions: Of the libraries that the result depends on.
        trained: On which machine, how long, how many steps.
        measured: Figures by name, with how many test examples they are of.
    """

    system: str
    model: dict[str, Any]
    array: dict[str, Any]
    frequency_hz: Annotated[float, Meta(gt=0)]
    n_sources: tuple[int, int]
    n_snapshots: tuple[int, int]
    snr_db: tuple[float, float]
    coherent: bool
    data: dict[str, Any]
    data_factory: str
    train: dict[str, Any]
    seed: int
    commit: str
    versions: dict[str, str]
    trained: dict[str, Any]
    measured: dict[str, Any] = {}
    format: int = FORMAT


def weights_path(name: str) -> Path:
    """A file, or the shipped weights of that name."""
    shipped = SHIPPED / f"{name}.safetensors"
    return shipped if shipped.exists() else Path(name)


def save_weights(path: Path, model: nn.Module, card: Card, *, half: bool = False) -> None:
    """Write weights and card to ``path``; whole, or not at all.

    Args:
        path: A file.
        model: Whose weights.
        card: What they are.
        half: In float16, half the size, from which :func:`load_model` makes float32 again.
    """
    metadata = {"card": json.dumps(params_to_plain(card))}
    tensors: dict[str, Tensor] = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(save(tensors, metadata))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_card(path: Path) -> Card:
    """Read the card alone.

    Raises:
        RecordingError: No such file, or it is no weights file of this project.
    """
    if not path.is_file():
        raise RecordingError(f"no weights at {path}: make them with `hil train`, or name shipped ones")
    try:
        with safe_open(path, "pt") as file:
            plain = json.loads((file.metadata() or {})["card"])
        return convert_params(Card, plain, str(path))
    except (OSError, SafetensorError, KeyError, ValueError, HilError) as error:
        raise RecordingError(f"{path}: no weights with a card: {error}; make them with `hil train`") from error


def load_model(path: Path) -> tuple[nn.Module, Card]:
    """Build the network of a weights file and load it, ready to estimate.

    Raises:
        RecordingError: The file is not readable, or its weights are not those of the network on its card.
    """
    card = load_card(path)
    try:
        array = ArrayGeometry.from_dict(card.array)
        model = make_model(card.system, card.model, array, wavelength_m(card.frequency_hz))
        with safe_open(path, "pt") as file:
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - no mapping
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError, HilError) as error:
        raise RecordingError(f"{path}: the weights do not fit the network on the card: {error}") from error
    return model.eval(), card


def start_from(model: nn.Module, path: Path) -> None:
    """Give ``model`` the weights of a file, to be trained on.

    Raises:
        RecordingError: The file is not readable, or of a network of other sizes.
    """
    card = load_card(path)
    try:
        with safe_open(path, "pt") as file:
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - no mapping
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise RecordingError(f"{path}: weights of a {card.system} do not fit the one to be trained: {error}") from error


def check_fits(card: Card, array: ArrayGeometry, frequency_hz: float, who: str) -> None:
    """Refuse weights for data of another array or carrier.

    Element positions may differ by a hundredth of a wavelength, the carrier by a hundredth of itself where the spacing
    in wavelengths then stays within the first limit.

    Raises:
        ParamError: Names both sides.
    """
    trained = ArrayGeometry.from_dict(card.array)
    n, n_trained = len(array.channel_map), len(trained.channel_map)
    if n != n_trained:
        raise ParamError(f"{who}: weights for {n_trained} sensors, the data have {n}: train for this array (hil train)")
    here = array.channel_position_m / wavelength_m(frequency_hz)
    there = trained.channel_position_m / wavelength_m(card.frequency_hz)
    off = float(abs(here - there).max())
    if off > 0.01:
        raise ParamError(
            f"{who}: weights for {trained.array_id!r} at {card.frequency_hz / 1e6:g} MHz, the data come from "
            f"{array.array_id!r} at {frequency_hz / 1e6:g} MHz: elements differ by {off:.2g} wavelengths; train for "
            "this array (hil train)"
        )
