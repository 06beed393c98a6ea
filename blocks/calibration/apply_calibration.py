"""Take gain and phase of the branches out of samples, as long as the calibration belongs to them."""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from blocks.calibration.array_calibration import ArrayCalibration
from blocks.calibration.gain_phase import correction
from hil.block import Block, Out, Result
from hil.errors import CalibrationError
from hil.frame import CalibrationState, Header
from hil.params import Params
from hil.streams import IQ, port_of

OnMismatch = Literal["refuse", "stale"]


class CalibrationGuard:
    """Says for each frame whether a calibration is valid: looks anew whenever the epoch rises.

    A new epoch whose settings (frequency, receiver gain in the header's ``meta``, channel map, number of sensors)
    are still those of the calibration keeps it valid. Other settings raise, or make it stale.
    """

    def __init__(self, calibration: ArrayCalibration, on_mismatch: OnMismatch) -> None:
        self._calibration, self._on_mismatch = calibration, on_mismatch
        self._known: tuple[Any, ...] | None = None
        self._state: CalibrationState = "none"

    def check(self, header: Header, n_sensors: int, channel_map: tuple[int, ...] | None) -> CalibrationState:
        """State of the calibration for this frame.

        Raises:
            CalibrationError: It does not belong to the frame and ``on_mismatch`` is ``refuse``.
        """
        gain, device = header.meta.get("gain_db"), header.meta.get("device")
        key = (header.epoch, header.frequency_hz, gain, device, n_sensors, channel_map)
        if key != self._known:
            fields: dict[str, Any] = {
                "frequency_hz": header.frequency_hz,
                "receiver_gain_db": gain,
                "device": device,
                "n_sensors": n_sensors,
                "channel_map": channel_map,
            }
            if self._on_mismatch == "refuse":
                self._calibration.require(**fields)
            self._state = "valid" if self._calibration.applies_to(**fields) else "stale"
            self._known = key
        return self._state


class ApplyCalibrationParams(Params, frozen=True):
    path: Annotated[str, Meta(min_length=1, description="Calibration file, .npz")]
    on_mismatch: Annotated[
        OnMismatch, Meta(description="Settings that the calibration was not made for: refuse, or go on and say stale")
    ] = "stale"


class ApplyCalibration(Block):
    """IQ with gain and phase of its branches taken out; the header says which calibration, and whether it is valid."""

    params: ApplyCalibrationParams
    inputs = {"iq": port_of(IQ)}
    outputs = {"iq": port_of(IQ)}

    def setup(self) -> None:
        self._calibration = ArrayCalibration.load(self.params.path)
        if np.any(self._calibration.delay_s):
            raise CalibrationError(
                f"{self.params.path}: it has delays, up to {np.abs(self._calibration.delay_s).max():.3g} s, which one "
                "factor a channel does not undo: use FollowCalibration with a store"
            )
        self._guard = CalibrationGuard(self._calibration, self.params.on_mismatch)
        factors = correction(self._calibration.gain_db, self._calibration.offset_rad)
        self._factors = factors.astype(np.complex64)[:, None]

    def sizes(self) -> dict[str, int]:
        return {"sensor": self._calibration.n_sensors} if hasattr(self, "_calibration") else {}

    def process(self, iq: npt.NDArray[np.complex64]) -> Result:
        channel_map = None if self.array is None else self.array.channel_map
        state = self._guard.check(self.header, len(iq), channel_map)
        return Out(
            {"iq": iq * self._factors},
            {"calibration_id": self._calibration.calibration_id, "calibration": state},
        )
