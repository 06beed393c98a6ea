"""How a site differs from its map, and how far bearings can be believed there: learned from known places."""

import json
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from hil.errors import CalibrationError, EstimationError

F64 = npt.NDArray[np.float64]

_FORMAT = "hil-site-survey"
_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class SiteSurvey:
    r"""What belongs to the site and not to the array. The default is a site that is as its map.

    Places as the waves see them, "site" coordinates, are ``(stretch * x, y)`` of the map, after an emitter was moved by
    its shift.

    Attributes:
        stretch: True x scale of the map over its y scale.
        emitter: Emitters whose place was corrected.
        shift_m: Where each stands minus its place on the map, one ``(x, y)`` an emitter, map metres.
        bearing_std_rad: Standard deviation of a bearing by multipath at ``reference_m``.
        reference_m: Distance at which it holds.
        distance_exponent: It grows with distance as ``(r / reference_m) ** distance_exponent``.
    """

    stretch: float = 1.0
    emitter: tuple[int, ...] = ()
    shift_m: tuple[tuple[float, float], ...] = ()
    bearing_std_rad: float = 0.07
    reference_m: float = 8.0
    distance_exponent: float = 0.0

    def __post_init__(self) -> None:
        if not (self.stretch > 0 and self.bearing_std_rad > 0 and self.reference_m > 0):
            raise CalibrationError(
                f"site survey: stretch, bearing_std_rad and reference_m must be above 0, got {self.stretch}, "
                f"{self.bearing_std_rad}, {self.reference_m}"
            )
        if len(self.emitter) != len(self.shift_m) or any(len(s) != 2 for s in self.shift_m):
            raise CalibrationError(f"site survey: {len(self.emitter)} emitters, shifts {self.shift_m}")

    def place(self, map_m: npt.ArrayLike) -> F64:
        """Site coordinates of points ``[..., xy]`` of the map."""
        return np.asarray(map_m, dtype=np.float64) * [self.stretch, 1.0]

    def emitter_place(self, emitter: npt.ArrayLike, map_m: npt.ArrayLike) -> F64:
        """Site coordinates ``[emitter, xy]`` of emitters at their places on the map."""
        shift = dict(zip(self.emitter, self.shift_m, strict=True))
        moved = [shift.get(int(e), (0.0, 0.0)) for e in np.asarray(emitter).tolist()]
        return self.place(np.asarray(map_m, dtype=np.float64) + np.array(moved).reshape(-1, 2))

    def on_map(self, site_m: npt.ArrayLike) -> F64:
        """Points ``[..., xy]`` of the map at site coordinates."""
        return np.asarray(site_m, dtype=np.float64) / [self.stretch, 1.0]

    def map_covariance(self, covariance: F64) -> F64:
        """Covariance of (x, y, heading) on the map, from that in site coordinates."""
        scale = np.array([1 / self.stretch, 1.0, 1.0])
        return covariance * scale[:, None] * scale

    def map_bearing(
        self,
        azimuth_rad: npt.ArrayLike,
        emitter: npt.ArrayLike,
        emitter_m: npt.ArrayLike,
        position_m: npt.ArrayLike,
        heading_rad: float,
    ) -> F64:
        """Bearing on the map, clockwise from its +y, of emitters that the array hears at ``azimuth_rad``.

        Adds by how much the direction on the map differs from that at the site, both seen from the *estimated* pose: a
        small correction that depends little on an error of that pose.

        Args:
            azimuth_rad: In the array frame, ``[emitter]``.
            emitter: Numbers of the emitters.
            emitter_m: Their places on the map, ``[emitter, xy]``.
            position_m: Estimated own position on the map, ``[xy]``.
            heading_rad: Estimated heading.
        """
        drawn = np.asarray(emitter_m, dtype=np.float64) - np.asarray(position_m, dtype=np.float64)
        seen = self.emitter_place(emitter, emitter_m) - self.place(position_m)
        turn = np.arctan2(drawn[:, 0], drawn[:, 1]) - np.arctan2(seen[:, 0], seen[:, 1])
        bearing: F64 = np.angle(np.exp(1j * (np.asarray(azimuth_rad, dtype=np.float64) + heading_rad + turn)))
        return bearing

    def save(self, path: str | PathLike[str]) -> None:
        """Write it as JSON."""
        Path(path).write_text(json.dumps({"format": _FORMAT, "version": _VERSION, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            CalibrationError: The file is no such survey.
        """
        try:
            fields = json.loads(Path(path).read_text())
            if fields.pop("format") != _FORMAT or fields.pop("version") != _VERSION:
                raise CalibrationError(f"{path}: not a {_FORMAT} of version {_VERSION}")
            fields["emitter"] = tuple(fields["emitter"])
            fields["shift_m"] = tuple((float(x), float(y)) for x, y in fields["shift_m"])
            return cls(**fields)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CalibrationError(f"{path}: no site survey can be read from it: {error}") from error


def phase_scatter_exponent(residual_rad: F64, distance_m: npt.ArrayLike) -> float:
    """Power of distance with which phase residuals grow: slope of their log RMS, kept within 0 .. 1.

    A direct path falls with distance while what the surroundings scatter does not, so bearings are worse farther away,
    never better.

    Args:
        residual_rad: ``[group, sensor]``.
        distance_m: ``[group]``.

    Raises:
        EstimationError: Fewer than three groups.
    """
    rms = np.sqrt((residual_rad**2).mean(-1))
    if len(rms) < 3:
        raise EstimationError(f"phase_scatter_exponent: expected at least 3 groups, got {len(rms)}")
    spread = np.log(np.asarray(distance_m, dtype=np.float64))
    spread = spread - spread.mean()
    slope = float((spread * np.log(np.maximum(rms, 1e-6))).sum() / max(float((spread**2).sum()), 1e-12))
    return float(np.clip(slope, 0.0, 1.0))


def bearing_scatter(
    error_rad: F64, place: npt.ArrayLike, distance_m: npt.ArrayLike, exponent: float, reference_m: float
) -> float:
    """Standard deviation at ``reference_m`` of bearings around their places' best headings.

    Args:
        error_rad: Bearing minus true bearing, ``[group]``; a common error at a place is its heading's and is taken out.
        place: ``[group]``, any labels.
        distance_m: ``[group]``.
        exponent: Power of distance with which the deviation grows.
        reference_m: Distance for which it is wanted.

    Raises:
        EstimationError: No place has two emitters.
    """
    labels, index = np.unique(np.asarray(place), return_inverse=True)
    if len(error_rad) <= len(labels):
        raise EstimationError(f"bearing_scatter: {len(error_rad)} groups at {len(labels)} places: hear two at a place")
    heading = np.arctan2(np.bincount(index, np.sin(error_rad)), np.bincount(index, np.cos(error_rad)))
    left = np.angle(np.exp(1j * (error_rad - heading[index])))
    scaled = left / (np.asarray(distance_m, dtype=np.float64) / reference_m) ** exponent
    return float(np.sqrt((scaled**2).sum() / (len(error_rad) - len(labels))))
