"""A calibration and the data that it is valid for."""

import json
import os
import tempfile
import zipfile
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from blocks.calibration.phase_manifold import calibrated_phase
from hil.errors import CalibrationError

F64 = npt.NDArray[np.float64]

_FORMAT = "hil-array-calibration"
_VERSION = 2
#: Version 1 had no delays, temperature and time.
_READABLE = (1, 2)
_ARRAYS = ("offset_rad", "gain_db", "harmonic_rad", "delay_s")


def _fixed(values: npt.ArrayLike) -> F64:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False, kw_only=True)
class ArrayCalibration:
    """Gain and phase of each branch, what the array does to the wavefront, and what all this is valid for.

    A field of validity that is ``None`` was not recorded and is not compared.

    Attributes:
        calibration_id: Name that frames carry.
        offset_rad: Phase that each sensor's branch adds, ``[sensor]`` radians.
        gain_db: Gain that each branch adds, ``[sensor]`` dB; zeros where only phases were measured.
        scale: Ratio of electrical to drawn size of the array.
        harmonic_rad: Direction-dependent phase of a circular array, ``c_2, c_3, ...``: see ``calibrated_phase``.
        device: Which device, by its serial number or name.
        channel_map: ``channel_map[c]`` is the element that channel ``c`` reads.
        frequency_hz: Carrier frequency at which it was made.
        frequency_tolerance_hz: How far from that it holds.
        receiver_gain_db: Gain setting of the receiver at which it was made; one a channel where they differ.
        delay_s: How much later each sensor's branch gives a signal, ``[sensor]`` seconds.
        temperature_c: Of the device when it was made, degrees Celsius.
        temperature_tolerance_c: How far from that it holds; ``None``: at any temperature.
        made_ns: When it was made, UTC.
    """

    calibration_id: str
    offset_rad: F64
    gain_db: F64
    scale: float = 1.0
    harmonic_rad: F64 = ()  # type: ignore[assignment]
    device: str | None = None
    channel_map: tuple[int, ...] | None = None
    frequency_hz: float | None = None
    frequency_tolerance_hz: float = 0.0
    receiver_gain_db: float | tuple[float, ...] | None = None
    delay_s: F64 = None  # type: ignore[assignment]
    temperature_c: float | None = None
    temperature_tolerance_c: float | None = None
    made_ns: int | None = None

    def __post_init__(self) -> None:
        if self.delay_s is None:
            object.__setattr__(self, "delay_s", np.zeros_like(np.asarray(self.offset_rad, np.float64)))
        for name in _ARRAYS:
            object.__setattr__(self, name, _fixed(getattr(self, name)))
        if isinstance(self.receiver_gain_db, list | tuple):
            object.__setattr__(self, "receiver_gain_db", tuple(float(g) for g in self.receiver_gain_db))
        if self.channel_map is not None:
            object.__setattr__(self, "channel_map", tuple(int(c) for c in self.channel_map))
        of_sensors = {getattr(self, name).shape for name in ("offset_rad", "gain_db", "delay_s")}
        if self.offset_rad.ndim != 1 or len(of_sensors) > 1 or self.harmonic_rad.ndim != 1:
            shapes = ", ".join(str(list(getattr(self, name).shape)) for name in _ARRAYS)
            raise CalibrationError(
                f"calibration {self.calibration_id!r}: expected offset_rad and gain_db [sensor], harmonic_rad [n] and "
                f"delay_s [sensor], got {shapes}"
            )
        if not all(np.isfinite(a).all() for a in (*(getattr(self, name) for name in _ARRAYS), self.scale)):
            raise CalibrationError(f"calibration {self.calibration_id!r}: every value must be finite")

    @property
    def n_sensors(self) -> int:
        return len(self.offset_rad)

    def phase(self, azimuth_rad: npt.ArrayLike, position_m: F64, wavelength_m: float) -> F64:
        """Phases of the calibrated array, ``[..., sensor]`` rad, for sensors at ``position_m`` in channel order."""
        return calibrated_phase(
            azimuth_rad,
            position_m,
            wavelength_m,
            offset_rad=self.offset_rad,
            scale=self.scale,
            harmonic_rad=self.harmonic_rad,
        )

    def require(
        self,
        *,
        device: str | None = None,
        channel_map: tuple[int, ...] | None = None,
        frequency_hz: float | None = None,
        receiver_gain_db: float | tuple[float, ...] | None = None,
        n_sensors: int | None = None,
        temperature_c: float | None = None,
    ) -> None:
        """Check that it belongs to these data; what is not given, or was not recorded, is not compared.

        Raises:
            CalibrationError: Names the field that differs, both values, and what to do.
        """
        who = f"calibration {self.calibration_id!r}"
        fix = "; calibrate anew for these settings or load the one that was made for them"
        pairs: list[tuple[str, Any, Any]] = [
            ("device", self.device, device),
            ("channel_map", self.channel_map, channel_map if channel_map is None else tuple(channel_map)),
            ("receiver_gain_db", self.receiver_gain_db, receiver_gain_db),
            ("n_sensors", self.n_sensors, n_sensors),
        ]
        for name, made_for, came in pairs:
            if made_for is not None and came is not None and made_for != came:
                raise CalibrationError(
                    f"{who}: {name} differs: it was made for {made_for!r}, the data have {came!r}{fix}"
                )
        if (
            self.frequency_hz is not None
            and frequency_hz is not None
            and abs(frequency_hz - self.frequency_hz) > self.frequency_tolerance_hz
        ):
            raise CalibrationError(
                f"{who}: frequency_hz differs: it was made for {self.frequency_hz:.0f} +- "
                f"{self.frequency_tolerance_hz:.0f}, the data have {frequency_hz:.0f}{fix}"
            )
        if (
            self.temperature_c is not None
            and self.temperature_tolerance_c is not None
            and temperature_c is not None
            and abs(temperature_c - self.temperature_c) > self.temperature_tolerance_c
        ):
            raise CalibrationError(
                f"{who}: temperature_c differs: it was made at {self.temperature_c:.1f} +- "
                f"{self.temperature_tolerance_c:.1f}, the data have {temperature_c:.1f}{fix}"
            )

    def applies_to(self, **fields: Any) -> bool:
        """Whether :meth:`require` would accept these fields."""
        try:
            self.require(**fields)
        except CalibrationError:
            return False
        return True

    def renamed(self, calibration_id: str) -> Self:
        return replace(self, calibration_id=calibration_id)

    def save(self, path: str | PathLike[str]) -> None:
        """Write one ``.npz``: the arrays, and the rest as JSON text. Nothing in it is executable.

        The file takes the place of an older one at once, when it is whole and on the disk: a crash leaves either.
        """
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "calibration_id": self.calibration_id,
            "scale": self.scale,
            "device": self.device,
            "channel_map": self.channel_map,
            "frequency_hz": self.frequency_hz,
            "frequency_tolerance_hz": self.frequency_tolerance_hz,
            "receiver_gain_db": self.receiver_gain_db,
            "temperature_c": self.temperature_c,
            "temperature_tolerance_c": self.temperature_tolerance_c,
            "made_ns": self.made_ns,
        }
        target = Path(path)
        handle, unfinished = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, header=np.array(json.dumps(header)), **{name: getattr(self, name) for name in _ARRAYS})
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, target)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            CalibrationError: The file is no such calibration.
        """
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                header = json.loads(str(stored["header"]))
                if header.pop("format") != _FORMAT or (version := header.pop("version")) not in _READABLE:
                    versions = " or ".join(map(str, _READABLE))
                    raise CalibrationError(f"{path}: not a {_FORMAT} of version {versions}")
                arrays = {name: stored[name] for name in _ARRAYS if name != "delay_s" or version > 1}
            return cls(**arrays, **header)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise CalibrationError(f"{path}: no calibration can be read from it: {error}") from error
