"""Which shipped weights are nearest to the data of a test, and in what they are not made for it."""

from __future__ import annotations

import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from torch import nn

from blocks.neural.weights import SHIPPED, Card, load_card, load_model
from hil.array import ArrayGeometry
from hil.errors import ParamError
from hil.params import convert_params
from sim_device.near_field_places import NearFieldPlaces, NearFieldPlacesParams

#: Weights of the baselines and of Fig. 7, which no flowgraph of the project needs.
OTHERS = Path(__file__).parent / "weights"


class Chosen(NamedTuple):
    """Weights, and what of the test data they were not trained for (in words, empty where nothing).

    ``digest`` tells two files of one name apart.
    """

    name: str
    model: nn.Module
    card: Card
    foreign: tuple[str, ...]
    digest: str


def choose(system: str, test: NearFieldPlaces) -> Chosen | None:
    """The shipped weights of ``system`` for the array of ``test`` that differ from its data in least; None: there are
    none for this array."""
    best: tuple[int, Path, tuple[str, ...]] | None = None
    for path in sorted((*SHIPPED.glob("*.safetensors"), *OTHERS.glob("*.safetensors"))):
        card = load_card(path)
        if card.system != system or not _same_array(card, test):
            continue
        try:
            data = convert_params(NearFieldPlacesParams, card.data, path.name)
        except ParamError:  # of other data than these
            continue
        if card.model.get("learn_positions") and _displaced(data) != _displaced(test.params):
            continue  # it knows another array
        foreign = _foreign(data, test.params)
        # a network for two has no third: that weighs more than another number of snapshots
        strange = len(foreign) + ("number of sources" in foreign)
        if best is None or strange < best[0]:
            best = strange, path, foreign
    if best is None:
        return None
    path = best[1]
    digest = f"{zlib.crc32(path.read_bytes()):08x}"
    model, card = _load(path, digest)
    return Chosen(path.stem, model, card, best[2], digest)


@lru_cache
def _load(path: Path, digest: str) -> tuple[nn.Module, Card]:
    return load_model(path)


def _same_array(card: Card, test: NearFieldPlaces) -> bool:
    positions = ArrayGeometry.from_dict(card.array).channel_position_m
    here = test.array.channel_position_m
    same = positions.shape == here.shape and float(abs(positions - here).max()) < 1e-6
    return same and card.frequency_hz == test.params.frequency_hz


def _displaced(data: NearFieldPlacesParams) -> tuple[object, ...]:
    """Which array it is, where elements are off."""
    return (data.position_error, data.position_error_of, data.position_error_seed) if data.position_error else ()


def _foreign(trained: NearFieldPlacesParams, test: NearFieldPlacesParams) -> tuple[str, ...]:
    out = []
    if trained.n_sources[0] > test.n_sources[0] or trained.n_sources[1] < test.n_sources[1]:
        out.append("number of sources")
    some_coherent = trained.coherent and trained.coherent_share > 0
    some_not = not trained.coherent or trained.coherent_share < 1
    if not (some_coherent if test.coherent else some_not):
        out.append("coherence")
    if test.coherent and test.random_phase and not trained.random_phase:
        out.append("phases")
    if not trained.n_snapshots <= test.n_snapshots <= (trained.n_snapshots_most or trained.n_snapshots):
        out.append("snapshots")
    if _displaced(trained) != _displaced(test):
        out.append("calibration")
    if test.range_m is not None and trained.range_m != test.range_m:
        out.append("ranges")
    if not trained.snr_db[0] <= test.snr_db[0] <= test.snr_db[1] <= trained.snr_db[1]:
        out.append("SNR")
    return tuple(out)
