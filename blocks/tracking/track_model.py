"""What a tracker takes for granted: how sources move, how often they are seen, when a track begins and ends."""

from typing import Annotated, Literal

from msgspec import Meta

from hil.params import Count, Index, Params, Seconds


class TrackModel(Params, frozen=True):
    """Model and rules of :class:`~blocks.tracking.multi_target_tracker.MultiTargetTracker`."""

    acceleration_psd_m2_per_s3: Annotated[
        float, Meta(gt=0, le=1e6, description="Power spectral density of the white acceleration of each axis")
    ] = 0.5
    speed_std_m_per_s: Annotated[
        float, Meta(gt=0, le=1e5, description="Standard deviation of each component of an unknown velocity")
    ] = 3.0
    gate_probability: Annotated[
        float, Meta(gt=0, lt=1, description="Share of true detections that fall within the gate")
    ] = 0.9999
    confirm_hits: Annotated[Count, Meta(description="So many detections confirm a new track ...")] = 3
    confirm_window: Annotated[Count, Meta(description="... within so many frames of its first, else it is dropped")] = 5
    coast_s: Annotated[
        Seconds, Meta(description="A track ends when its last detection is longer ago than this ...")
    ] = 2.0
    coast_frames: Annotated[Index, Meta(description="... and more than so many frames went by without one")] = 10
    max_gap_s: Annotated[
        Seconds, Meta(description="A track ends when its last detection is longer ago than this, frames or none")
    ] = 10.0
    resolution_rad: Annotated[
        float,
        Meta(
            ge=0,
            description="Two sources closer in angle may come as one detection, which then updates neither; about 2/N "
            "for a line of N half-wave elements",
        ),
    ] = 0.03
    position_floor_m: Annotated[
        float,
        Meta(
            gt=0,
            description="Standard deviation added to each position's: keeps singular covariances (a line array says "
            "nothing of z) and overconfident ones in bounds",
        ),
    ] = 1e-3
    space: Annotated[
        Literal["inverse_range", "cartesian"],
        Meta(description="inverse_range for positions seen from one array, cartesian for any others"),
    ] = "inverse_range"

    def __post_init__(self) -> None:
        if self.confirm_window < self.confirm_hits:
            raise ValueError(
                f"confirm_window must be at least confirm_hits = {self.confirm_hits}, got {self.confirm_window}"
            )
