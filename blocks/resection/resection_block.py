"""Bearings of known beacons to own pose: the block."""

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from blocks.calibration.site_survey import SiteSurvey
from blocks.resection.posterior import pose_posterior
from blocks.resection.resect import resect
from hil.block import Block, Out, Result
from hil.errors import EstimationError
from hil.frame import AnyArray
from hil.params import Metres, Params
from hil.port import Port, field
from hil.streams import ESTIMATES, POSE, POSITIONS, port_of

_BEARINGS = {**ESTIMATES, "emitter": field("int64", "source")}


class Beacon(Params, frozen=True):
    id: Annotated[int, Meta(description="Number of the beacon")]
    x_m: Annotated[float, Meta(description="Place on the map", extra_json_schema={"unit": "m"})]
    y_m: Annotated[float, Meta(description="Place on the map", extra_json_schema={"unit": "m"})]


class ResectionParams(Params, frozen=True):
    beacons: Annotated[tuple[Beacon, ...], Meta(min_length=3, description="Beacons on the map, three or more")]
    survey: Annotated[str | None, Meta(description="Site survey, .json; none: the site is as its map")] = None
    bearing_std_rad: (
        Annotated[
            float,
            Meta(
                gt=0,
                description="Standard deviation of a bearing; none: as the survey says",
                extra_json_schema={"unit": "rad"},
            ),
        ]
        | None
    ) = None
    mean: Annotated[bool, Meta(description="Posterior mean, of least mean square error; else robust least squares")] = (
        True
    )
    z_m: Annotated[Metres, Meta(description="Height of the receiver, given on as it is")] = 0.0


class Resection(Block):
    """Own position and heading from bearings of three or more beacons; bearings of others are left out.

    ``pose`` is the pose; ``positions`` the same position as a stream of one source, for evaluation and display. Meta
    ``ambiguous`` is true where another place explains the bearings nearly as well.
    """

    params: ResectionParams
    inputs = {"bearings": Port.of(latest=False, **_BEARINGS)}
    outputs = {"pose": port_of(POSE), "positions": port_of(POSITIONS)}

    def setup(self) -> None:
        path = self.params.survey
        self._survey = SiteSurvey() if path is None else SiteSurvey.load(path)
        self._beacon = {b.id: (b.x_m, b.y_m) for b in self.params.beacons}
        self._n_unknown = 0

    def stats(self) -> dict[str, Any]:
        return {"bearings_of_unknown_beacons": self._n_unknown}

    def process(self, bearings: dict[str, AnyArray]) -> Result:
        emitter = bearings["emitter"]
        known = np.array([int(e) in self._beacon for e in emitter.tolist()], dtype=bool)
        self._n_unknown += int((~known).sum())
        if known.sum() < 3:
            raise EstimationError(f"{self.name}: {int(known.sum())} known beacons are heard, three or more are needed")
        azimuth, emitter = bearings["azimuth_rad"][known], emitter[known]
        survey, p = self._survey, self.params
        beacon = survey.emitter_place(emitter, np.array([self._beacon[int(e)] for e in emitter.tolist()]))
        std = p.bearing_std_rad or survey.bearing_std_rad
        exponent = 0.0 if p.bearing_std_rad is not None else survey.distance_exponent
        robust = resect(azimuth, beacon, std)
        pose: tuple[AnyArray, float, AnyArray] = robust[:3]
        if p.mean:
            pose = pose_posterior(azimuth, beacon, std, distance_exponent=exponent, reference_m=survey.reference_m)
        position = np.append(survey.on_map(pose[0]), p.z_m)
        covariance = survey.map_covariance(pose[2])
        spatial = np.zeros((1, 3, 3))
        spatial[0, :2, :2] = covariance[:2, :2]
        meta = {**self.header.meta, "ambiguous": robust.ambiguous, "n_beacons": len(emitter)}
        carried = {
            "meta": meta,
            "calibration": self.header.calibration,
            "calibration_id": self.header.calibration_id,
        }
        return (
            Out(
                {"position_m": position, "heading_rad": np.array(pose[1]), "pose_covariance": covariance},
                carried,
            ),
            Out({"position_m": position[None], "covariance_m2": spatial, "id": np.zeros(1, np.int64)}, carried),
        )
