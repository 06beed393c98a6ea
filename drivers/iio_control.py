"""What an IIO radio is told and asked: frequency, rate, gain, bandwidth, overflow.

Boards that pyadi-iio knows are set through it, because it knows what belongs to a setting (a sample rate of an AD9361
needs a filter); any other device by the attributes that the kernel's drivers have in common. All are read back: what a
device took is what it says, not what it was told.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal, NamedTuple

from drivers.iio_library import IioTrouble, import_adi, why
from hil.errors import ControlError

log = logging.getLogger(__name__)

#: Status of the ADC's interface core: bit 2 says that samples were lost, and is cleared by writing it.
_STATUS, _OVERFLOW = 0x80000088, 4
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
#: Relative difference between what was asked for and what synthesizers of such devices make of it.
_TOLERANCE = 1e-6

Setting = Literal["frequency_hz", "sample_rate_hz", "bandwidth_hz", "gain_db", "gain_mode"]
_ATTRIBUTES: dict[Setting, str] = {
    "frequency_hz": "frequency",
    "sample_rate_hz": "sampling_frequency",
    "bandwidth_hz": "rf_bandwidth",
    "gain_db": "hardwaregain",
    "gain_mode": "gain_control_mode",
}


class RadioState(NamedTuple):
    """What holds now; empty or ``None`` where the device does not tell.

    Attributes:
        frequency_hz: Of each local oscillator.
        gain_db: Of each receiver.
    """

    frequency_hz: tuple[float, ...]
    sample_rate_hz: float | None
    gain_db: tuple[float, ...]


class IioControl:
    """Settings of one context, by attributes.

    Args:
        context: ``iio.Context``.
        adc: ``iio.Device`` whose samples are read.
    """

    def __init__(self, context: Any, adc: Any) -> None:
        self._adc = adc
        devices = list(context.devices)
        self._oscillators = [c for d in devices for c in d.channels if c.output and c.name == "RX_LO"]
        inputs = [c for d in devices for c in d.channels if not c.output]
        self._receivers = [c for c in inputs if "hardwaregain" in c.attrs]
        self._rates = [c for c in self._receivers if "sampling_frequency" in c.attrs] or [
            c for c in adc.channels if "sampling_frequency" in c.attrs
        ]
        self._bands = [c for c in self._receivers if "rf_bandwidth" in c.attrs]
        self.has_overflow = self._try_overflow()

    # -- asked -----------------------------------------------------------------------------------------------------

    def state(self) -> RadioState:
        """Ask what holds.

        Raises:
            OSError: The device does not answer.
        """
        return RadioState(
            tuple(_number(c, "frequency") for c in self._oscillators),
            _number(self._rates[0], "sampling_frequency") if self._rates else None,
            tuple(_number(c, "hardwaregain") for c in self._receivers),
        )

    def overflowed(self) -> bool:
        """Whether samples were lost since this was last asked."""
        if not self.has_overflow or not self._adc.reg_read(_STATUS) & _OVERFLOW:
            return False
        self._adc.reg_write(_STATUS, _OVERFLOW)
        return True

    def limits(self) -> dict[str, tuple[float, float] | None]:
        """Lowest and highest frequency, rate and gain."""
        return {
            "tune_hz": _limits(self._oscillators, "frequency"),
            "sample_rate_hz": _limits(self._rates, "sampling_frequency"),
            "gain_db": _limits(self._receivers, "hardwaregain"),
        }

    # -- told ------------------------------------------------------------------------------------------------------

    def check(self, what: Setting, value: float | str, receiver: int | None = None) -> None:
        """See whether a setting is one that the device has.

        Args:
            what: Which.
            value: A number, or the name of a gain mode.
            receiver: One of them; ``None``: all.

        Raises:
            ControlError: It is not; says what there is.
        """
        channels = self._channels(what)
        if not channels:
            raise ControlError(f"{what}: the device has none that can be set")
        if receiver is not None and receiver >= len(channels):
            raise ControlError(f"{what}: receiver {receiver}: the device has 0 to {len(channels) - 1}")
        if isinstance(value, str):
            available = channels[0].attrs.get(f"{_ATTRIBUTES[what]}_available")
            if available is not None and value not in available.value.split():
                raise ControlError(f"{what}={value}: the device has {', '.join(available.value.split())}")
            return
        limits = _limits(channels, _ATTRIBUTES[what])
        if limits is not None and not limits[0] <= value <= limits[1]:
            raise ControlError(f"{what}={value:g}: the device takes {limits[0]:.10g} to {limits[1]:.10g}")

    def set(self, what: Setting, value: float | str, receiver: int | None = None) -> None:
        """Set it, of one receiver or of all, and see what the device took. A gain makes the mode manual.

        Raises:
            ControlError: Beyond the limits, refused, or not taken as it was given; says which.
        """
        self.check(what, value, receiver)
        chosen = range(len(self._channels(what))) if receiver is None else [receiver]
        try:
            for k in chosen:
                if what == "gain_db" and "gain_control_mode" in self._receivers[k].attrs:
                    self._put("gain_mode", k, "manual")
                self._put(what, k, value)
            took = [self._channels(what)[k].attrs[_ATTRIBUTES[what]].value for k in chosen]
        except OSError as error:
            reason, fix = why(error)
            raise ControlError(f"{what}={value}: the device refuses it: {reason}; {fix}") from error
        except ValueError as error:  # pyadi-iio's
            raise ControlError(f"{what}={value}: {error}") from error
        for text in took:
            if not _taken(what, value, text):
                raise ControlError(f"{what}={value}: the device took {text} instead")

    # -- how -------------------------------------------------------------------------------------------------------

    def _channels(self, what: Setting) -> list[Any]:
        match what:
            case "frequency_hz":
                return self._oscillators
            case "sample_rate_hz":
                return self._rates[:1]
            case "bandwidth_hz":
                return self._bands
            case "gain_db":
                return self._receivers
            case "gain_mode":
                return [c for c in self._receivers if "gain_control_mode" in c.attrs]

    def _put(self, what: Setting, k: int, value: float | str) -> None:
        text = value if isinstance(value, str) else f"{value:.6f}" if what == "gain_db" else str(round(value))
        self._channels(what)[k].attrs[_ATTRIBUTES[what]].value = text

    def _try_overflow(self) -> bool:
        try:
            self._adc.reg_read(_STATUS)
            self._adc.reg_write(_STATUS, _OVERFLOW)
        except OSError as error:
            log.warning("%s has no overflow register (%s): samples it loses go unseen", self._adc.name, error)
            return False
        return True


class AdiControl(IioControl):
    """An AD9361 board, set through pyadi-iio.

    Args:
        context: ``iio.Context``.
        adc: ``iio.Device`` whose samples are read.
        radio: ``adi.ad9361`` or ``adi.FMComms5``.
    """

    def __init__(self, context: Any, adc: Any, radio: Any) -> None:
        super().__init__(context, adc)
        self._radio = radio

    def _put(self, what: Setting, k: int, value: float | str) -> None:
        chip, second = k // 2, "chip_b_" if k > 1 else ""
        match what:
            case "frequency_hz":
                setattr(self._radio, "rx_lo_chip_b" if k else "rx_lo", round(float(value)))
            case "sample_rate_hz":
                self._radio.sample_rate = round(float(value))
            case "bandwidth_hz" if k % 2 == 0:  # one filter a chip
                setattr(self._radio, "rx_rf_bandwidth_chip_b" if chip else "rx_rf_bandwidth", round(float(value)))
            case "gain_db":
                setattr(self._radio, f"rx_hardwaregain_{second}chan{k % 2}", float(value))
            case "gain_mode":
                setattr(self._radio, f"gain_control_mode_{second}chan{k % 2}", value)


def control_of(context: Any, adc: Any) -> IioControl:
    """Return the control of the board that ``context`` is."""
    names = {d.name for d in context.devices}
    try:
        if {"ad9361-phy", "ad9361-phy-B", "cf-ad9361-A"} <= names:
            return AdiControl(context, adc, _fmcomms5(import_adi(), context))
        if {"ad9361-phy", "cf-ad9361-lpc", "cf-ad9361-dds-core-lpc"} <= names:
            return AdiControl(context, adc, import_adi().ad9361(context))
    except IioTrouble:
        raise
    except Exception as error:  # pyadi-iio raises bare Exception
        raise IioTrouble(
            "pyadi-iio cannot open the board", str(error), "see iio_info -u URI for what it has"
        ) from error
    return IioControl(context, adc)


def _fmcomms5(adi: ModuleType, context: Any) -> Any:
    """``adi.FMComms5`` on a context that is open: its own constructor takes an address only."""
    board = type("FMComms5", (adi.FMComms5,), {"_ctx": context})
    return board(uri="")


def _number(channel: Any, name: str) -> float:
    text = channel.attrs[name].value
    found = _NUMBER.search(text)
    if found is None:
        raise OSError(f"{name} of {channel.id} is {text!r}, not a number")
    return float(found[0])


def _limits(channels: Sequence[Any], name: str) -> tuple[float, float] | None:
    """What ``NAME_available`` says, ``[lowest step highest]`` or a list of values."""
    for channel in channels[:1]:
        available = channel.attrs.get(f"{name}_available")
        numbers = [float(n) for n in _NUMBER.findall(available.value)] if available is not None else []
        if numbers:
            return min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1])
    return None


def _taken(what: Setting, asked: float | str, text: str) -> bool:
    """Whether a device that says ``text`` took what it was asked for, as synthesizers and gain tables can."""
    found = _NUMBER.search(text)
    if isinstance(asked, str):
        return text.strip() == asked
    if found is None or what == "bandwidth_hz":  # filters have steps of their own
        return found is not None
    tolerance = 0.51 if what == "gain_db" else max(10.0, _TOLERANCE * asked)
    return abs(float(found[0]) - asked) <= tolerance
