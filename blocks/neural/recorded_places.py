"""Training and test data from recordings of one's own array, of sources whose places are known.

A recording has a stream of samples and one of true positions, as ``hil record`` makes them of the simulated device. In
a configuration::

    system = "nf_subspacenet"
    data_factory = "blocks.neural.recorded_places:RecordedPlaces"
    [model]
    learn_positions = true
    [model.network]
    n_sensors = 9
    layers = "dense"
    [data]
    paths = ["capture.mcap"]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from blocks.neural.recorded_choice import Chosen, choose_frames, polar_places
from blocks.neural.recorded_params import SPLITS, RecordedPlacesParams, Split
from blocks.neural.recorded_streams import read_samples
from blocks.neural.source_snr import mean_source_snr_db
from hil.errors import EstimationError, ParamError, RecordingError
from hil.params import Seed, convert_params
from hil.wavefront import wavelength_m

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
C64 = npt.NDArray[np.complex64]

#: Of the ratios of all sources, in percent, those that are told as lowest and highest.
_SNR_PERCENT = 1, 99
#: Examples whose signal-to-noise ratio is estimated at once.
_CHUNK = 256


class RecordedPlaces:
    """Examples of one split; their samples are held in memory.

    Each piece of ``n_snapshots`` of a frame is one example. There are as many as were recorded: batches go through all
    of them in an order drawn from the seed, then through all of them in another one.

    Args:
        params: What is read.
        seed: Of the order; splits are the same for every seed.
        split: What it is for.

    Attributes:
        params: As given, and what was found in the recordings filled in.
        array: Of the first recording.
        wavelength_m: Metres.
        range_m: Nearest and farthest place.
        n_examples: How many there are.

    Raises:
        RecordingError: A recording cannot be read or has no truth, nothing is left of it, or array or carrier differ.
        ParamError: A parameter does not fit the recordings, or they take more memory than ``most_mib``.
    """

    def __init__(self, params: dict[str, Any] | RecordedPlacesParams, seed: Seed, split: Split) -> None:
        p = params if isinstance(params, RecordedPlacesParams) else convert_params(RecordedPlacesParams, params, "data")
        self.seed, self.split = seed, split
        chosen = choose_frames(p, split)
        self.array, self.range_m = chosen.array, chosen.range_m
        self.wavelength_m = wavelength_m(chosen.frequency_hz)
        n_snapshots = p.n_snapshots or _same_length(chosen)
        pieces = self._load(chosen, p, p.n_snapshots_most or n_snapshots)
        self.n_examples = len(self._samples)
        self._places(chosen, pieces)
        self._snr_db: F64 = np.full(self.n_examples, np.nan)
        estimated = p.snr_db is None or p.snr_estimated
        self.params = replace(
            p,
            frequency_hz=chosen.frequency_hz,
            n_snapshots=n_snapshots,
            n_sources=(int(self._n_sources.min()), int(self._n_sources.max())),
            snr_estimated=estimated,
            snr_db=self._estimate_snr(chosen, pieces) if estimated else p.snr_db,
        )

    def batch(self, number: int, n: int) -> dict[str, npt.NDArray[Any]]:
        """Return batch ``number`` of batches of ``n`` examples each.

        Returns:
            ``samples`` complex64 ``[batch, sensor, snapshot]``, at the level of the recording; ``azimuth_rad``,
            ``elevation_rad`` and ``range_m`` ``[batch, source]``, NaN behind the sources that are there; ``n_sources``
            and ``snr_db`` ``[batch]``, the latter an estimate, NaN where it is not estimated.
        """
        return self.examples(number * n, n)

    def examples(self, first: int, n: int) -> dict[str, npt.NDArray[Any]]:
        """Return ``n`` examples from the ``first`` on, as :meth:`batch` does: no other until all were given."""
        epochs, places = np.divmod(np.arange(first, first + n), self.n_examples)
        rows = np.concatenate([self._order(int(e))[places[epochs == e]] for e in np.unique(epochs)])
        return {
            "samples": self._samples[rows, :, : self._length(first)],
            "azimuth_rad": self._azimuth_rad[rows],
            "elevation_rad": self._elevation_rad[rows],
            "range_m": self._range_m[rows],
            "n_sources": self._n_sources[rows],
            "snr_db": self._snr_db[rows],
        }

    # -- inside ----------------------------------------------------------------------------------------------------

    def _order(self, epoch: int) -> I64:
        return self._generator(0, epoch).permutation(self.n_examples)

    def _length(self, first: int) -> int:
        p = self.params
        assert p.n_snapshots is not None  # found where it was not given
        if p.n_snapshots_most is None:
            return p.n_snapshots
        return round(np.exp(self._generator(1, first).uniform(np.log(p.n_snapshots), np.log(p.n_snapshots_most))))

    def _generator(self, *key: int) -> np.random.Generator:
        spawn_key = (SPLITS.index(self.split), *key)
        return np.random.Generator(np.random.SFC64(np.random.SeedSequence(self.seed, spawn_key=spawn_key)))

    def _load(self, chosen: Chosen, params: RecordedPlacesParams, n_snapshots: int) -> I64:
        """Read the samples; return how many examples each frame gives."""
        n_channels = len(chosen.array.channel_map)
        pieces = np.array([f.n_snapshots // n_snapshots for f in chosen.frames])
        shape = int(pieces.sum()), n_channels, n_snapshots
        mib = 8 * np.prod(shape, dtype=float) / 2**20
        if mib > params.most_mib:
            raise ParamError(
                f"data of {self.split}: {shape[0]} examples of {n_channels} channels x {n_snapshots} snapshots take "
                f"{mib:.0f} MiB, the limit is {params.most_mib}: take fewer frames (data.every), or set data.most_mib"
            )
        self._samples: C64 = np.empty(shape, np.complex64)
        rows = np.append(0, np.cumsum(pieces))
        at = {(f.path, f.number): int(row) for f, row in zip(chosen.frames, rows, strict=False)}
        for path in dict.fromkeys(f.path for f in chosen.frames):
            n_read = self._fill(path, at, params.iq, n_snapshots)
            if n_read < sum(p == path for p, _ in at):
                raise RecordingError(f"{path}: it changed while it was read: wait until the recording has ended")
        return pieces

    def _fill(self, path: Path, at: dict[tuple[Path, int], int], iq: str, n_snapshots: int) -> int:
        n_read = 0
        for number, x in read_samples(path, [number for p, number in at if p == path], iq):
            if len(x) != self._samples.shape[1]:
                raise RecordingError(
                    f"{path}: frame {number} has {len(x)} channels, the array has {self._samples.shape[1]}: record "
                    "with the geometry of the array that is there, or give data.array"
                )
            n = x.shape[1] // n_snapshots
            cut = x[:, : n * n_snapshots].reshape(len(x), n, n_snapshots)
            self._samples[at[path, number] : at[path, number] + n] = np.swapaxes(cut, 0, 1)
            n_read += 1
        return n_read

    def _places(self, chosen: Chosen, pieces: I64) -> None:
        most = max(len(f.ids) for f in chosen.frames)
        polar = np.full((3, len(chosen.frames), most), np.nan)
        for i, f in enumerate(chosen.frames):
            polar[:, i, : len(f.ids)] = polar_places(chosen.array, f.position_m)
        self._azimuth_rad, self._elevation_rad, self._range_m = np.repeat(polar, pieces, axis=1)
        self._n_sources: I64 = np.repeat([len(f.ids) for f in chosen.frames], pieces).astype(np.int64)

    def _estimate_snr(self, chosen: Chosen, pieces: I64) -> tuple[float, float]:
        """Of each example; return the lowest and highest of all sources, but for a hundredth at either end."""
        for m in np.unique(self._n_sources).tolist():
            rows = np.flatnonzero(self._n_sources == m)
            for part in np.array_split(rows, -(-len(rows) // _CHUNK)):
                try:
                    self._snr_db[part] = mean_source_snr_db(self._samples[part], m)
                except EstimationError as error:
                    raise ParamError(
                        f"the signal-to-noise ratio cannot be estimated: {error}; give data.snr_db"
                    ) from error
        over_mean = [f.power_db - 10 * np.log10(np.mean(10 ** (f.power_db / 10))) for f in chosen.frames]
        frame = np.repeat(np.arange(len(pieces)), pieces)
        each = np.concatenate([snr + over_mean[i] for snr, i in zip(self._snr_db, frame, strict=True)])
        low, high = np.percentile(each, _SNR_PERCENT).round(1).tolist()
        return low, high


def _same_length(chosen: Chosen) -> int:
    lengths = {f.n_snapshots for f in chosen.frames}
    if len(lengths) > 1:
        raise RecordingError(f"frames have {min(lengths)} to {max(lengths)} snapshots: give data.n_snapshots")
    return lengths.pop()
