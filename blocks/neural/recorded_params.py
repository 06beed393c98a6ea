"""What is read of recordings for training and tests, and which of it."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from hil.array_params import Array
from hil.params import Count, Hz, Metres, Params, Seconds

Bounds = tuple[float, float]
Split = Literal["train", "validation", "test"]
Share = Annotated[float, Meta(ge=0, le=1)]
Paths = tuple[Annotated[str, Meta(min_length=1)], ...]

#: In the order of time; each keeps away from the places of those behind it.
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class RecordedPlacesParams(Params, frozen=True):
    """What is read. Fields that are absent are found in the recordings and then stand on the card of the weights."""

    paths: Annotated[Paths, Meta(description="recordings; their time is split into training, validation and test")] = ()
    validation_paths: Annotated[Paths, Meta(description="recordings for validation alone, instead of a share")] = ()
    test_paths: Annotated[Paths, Meta(description="recordings for tests alone, instead of a share")] = ()
    shares: Annotated[
        tuple[Share, Share, Share], Meta(description="of the time of `paths`: training, validation, test")
    ] = (0.7, 0.15, 0.15)
    rounds: Annotated[
        Count, Meta(description="the time is cut in so many pieces, each of them split by the shares")
    ] = 4
    gap_s: Annotated[Seconds, Meta(description="between frames of two splits")] = 0.2
    apart_m: Annotated[
        Metres | None,
        Meta(description="training leaves out what is closer to a place of validation or test; absent: a wavelength"),
    ] = None
    iq: Annotated[str, Meta(description="stream of samples, by its whole or last name")] = "iq"
    truth: Annotated[str, Meta(description="stream of positions, by its whole or last name")] = "truth"
    truth_within_s: Annotated[Seconds, Meta(description="a frame is left out without truth so near in time")] = 0.05
    array: Annotated[Array | None, Meta(description="instead of what the recordings describe")] = None
    frequency_hz: Annotated[Hz | None, Meta(description="of the frames that are taken; absent: they have one")] = None
    every: Annotated[Count, Meta(description="take each so-manieth frame")] = 1
    n_snapshots: Annotated[Count | None, Meta(description="frames are cut to these; absent: whole frames")] = None
    n_snapshots_most: Annotated[
        Count | None, Meta(description="present: from n_snapshots to this, uniformly in the logarithm, each batch")
    ] = None
    n_sources: Annotated[
        tuple[Count, Count] | None, Meta(description="fewest and most in a frame that is taken; absent: all")
    ] = None
    azimuth_limit_rad: Annotated[float, Meta(gt=0, lt=1.5707963)] = np.pi / 3
    elevation_limit_rad: Annotated[
        float, Meta(ge=0, lt=1.5707963, description="0: sources are level; on a line always, where none is told")
    ] = 0.0
    range_m: Annotated[
        Bounds | None, Meta(description="nearest and farthest; absent: Fresnel to half the Fraunhofer distance")
    ] = None
    coherent: Annotated[bool, Meta(description="as you know it, for the card: samples are not asked")] = False
    snr_db: Annotated[
        Bounds | None, Meta(description="lowest and highest, as you know it; absent: estimated from the samples")
    ] = None
    snr_estimated: Annotated[
        bool, Meta(description="set where snr_db was estimated; it is then estimated anew of other recordings")
    ] = False
    most_mib: Annotated[Count, Meta(description="memory for the samples of a split")] = 1024

    def __post_init__(self) -> None:
        if not sum(self.shares) > 0:
            raise ValueError(f"shares: expected one above 0, got {self.shares}")
        if self.n_snapshots_most is not None and self.n_snapshots_most < (self.n_snapshots or 1):
            raise ValueError(f"n_snapshots_most: expected at least {self.n_snapshots}, got {self.n_snapshots_most}")
        if self.n_snapshots_most is not None and self.n_snapshots is None:
            raise ValueError("n_snapshots_most: give n_snapshots too, the fewest")

    def own_paths(self, split: Split) -> Paths:
        """Recordings for that split alone."""
        return {"train": (), "validation": self.validation_paths, "test": self.test_paths}[split]

    def shares_of_time(self) -> tuple[float, ...]:
        """Of what ``paths`` name, for each of :data:`SPLITS`; one with recordings of its own needs none."""
        return tuple(0.0 if self.own_paths(s) else share for s, share in zip(SPLITS, self.shares, strict=True))
