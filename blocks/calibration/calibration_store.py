"""Calibrations on disk, by device, channel map, frequency, gain and temperature."""

from __future__ import annotations

import hashlib
import json
import logging
from os import PathLike
from pathlib import Path

from blocks.calibration.array_calibration import ArrayCalibration
from blocks.calibration.device_settings import DeviceSettings
from hil.errors import CalibrationError

log = logging.getLogger(__name__)

_SUFFIX = ".calibration.npz"


class CalibrationStore:
    """A folder with one file a calibration.

    One of the same settings takes the place of the older one, so that a device which is calibrated at every retune
    fills no disk. Each file is whole or not there (:meth:`ArrayCalibration.save`), and may be copied, read and deleted
    by itself; several processes may use the folder.
    """

    def __init__(self, folder: str | PathLike[str]) -> None:
        self.folder = Path(folder)

    def put(self, calibration: ArrayCalibration) -> Path:
        """Write ``calibration``; return its file.

        Raises:
            CalibrationError: The folder cannot be written.
        """
        path = self.folder / f"{_key(calibration)}{_SUFFIX}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            calibration.save(path)
        except OSError as error:
            raise CalibrationError(
                f"{path}: the calibration cannot be stored: {error}; choose another folder or its permissions"
            ) from error
        return path

    def find(self, settings: DeviceSettings) -> ArrayCalibration:
        """Return the calibration made for ``settings``: of several the nearest in temperature, frequency and time.

        Raises:
            CalibrationError: None fits; says of each that is there why not.
        """
        fitting: list[ArrayCalibration] = []
        refused: list[str] = []
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            try:
                calibration = ArrayCalibration.load(path)
            except CalibrationError as error:
                log.warning("passed over: %s", error)
                refused.append(str(error))
                continue
            try:
                calibration.require(**settings._asdict())
                fitting.append(calibration)
            except CalibrationError as error:
                refused.append(str(error))
        if not fitting:
            there = "; ".join(refused) or "it is empty"
            raise CalibrationError(f"{self.folder}: no calibration for {_words(settings)}: {there}")

        def distance(c: ArrayCalibration) -> tuple[float, float, int]:
            return (
                _apart(c.temperature_c, settings.temperature_c),
                _apart(c.frequency_hz, settings.frequency_hz),
                -(c.made_ns or 0),
            )

        return min(fitting, key=distance)


def _key(c: ArrayCalibration) -> str:
    """Name of the file: readable, and one for each combination of settings."""
    settings = json.dumps([c.device, c.channel_map, c.frequency_hz, c.receiver_gain_db, c.temperature_c, c.n_sensors])
    readable = "".join(ch if ch.isalnum() else "_" for ch in (c.device or "array"))[:40]
    frequency = "" if c.frequency_hz is None else f"-{c.frequency_hz / 1e6:.3f}MHz"
    return f"{readable}{frequency}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"


def _words(settings: DeviceSettings) -> str:
    return ", ".join(f"{k} {v!r}" for k, v in settings._asdict().items() if v is not None) or "anything"


def _apart(a: float | None, b: float | None) -> float:
    return 0.0 if a is None or b is None else abs(a - b)
