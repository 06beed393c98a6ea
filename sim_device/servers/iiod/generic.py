"""A device of any number of complex channels, as converters with digital down-conversion show themselves.

``hil-array-phy`` has frequency, rate, gain and bandwidth, common to all channels; ``hil-array-adc`` has the buffer,
with scan elements ``voltageK_i`` and ``voltageK_q`` of 16 bits. They are two devices so that 256 channels are 512
channels of one device and not one more: the real daemon's mask line ends there.
"""

from __future__ import annotations

from dataclasses import replace

from sim_device.servers.iiod.attributes import bandwidth, fixed, number, plain, rate
from sim_device.servers.iiod.context import Attribute, Channel, Context, IioDevice, ScanElement
from sim_device.servers.iiod.radio import GAIN_MODES, Limits, Radio, RadioLimits
from sim_device.servers.iiod.registers import Registers

BITS = 16
LIMITS = RadioLimits(
    frequency_hz=Limits(1, 1, 1e12),
    sample_rate_hz=Limits(1, 1, 1e11),
    bandwidth_hz=Limits(1, 1, 1e12),
    gain_db=Limits(-120, 0.25, 120),
)
#: Complex channels that one context was tested with.
MAX_CHANNELS = 256


def generic(radio: Radio, registers: Registers, description: str) -> Context:
    """Return the context."""
    return Context([_phy(radio), _adc(radio, registers)], description, {"hw_carrier": "simulated"})


def _phy(radio: Radio) -> IioDevice:
    every = range(radio.feed.n_channels)
    oscillator = Channel(
        "altvoltage0",
        "output",
        (
            Attribute(
                "frequency",
                lambda: str(round(radio.frequency_hz())),
                lambda text: radio.tune(number(text)),
                "out_altvoltage0_RX_LO_frequency",
            ),
            fixed("frequency_available", str(LIMITS.frequency_hz), "out_altvoltage0_RX_LO_frequency_available"),
        ),
        "RX_LO",
    )
    receivers = Channel(
        "voltage0",
        "input",
        (
            Attribute(
                "gain_control_mode",
                lambda: radio.mode[0],
                lambda text: radio.set_mode(plain(text), *every),
                "in_voltage0_gain_control_mode",
            ),
            fixed("gain_control_mode_available", " ".join(GAIN_MODES), "in_voltage_gain_control_mode_available"),
            Attribute(
                "hardwaregain",
                lambda: f"{radio.gain_db(0):.6f} dB",
                lambda text: radio.set_gain(number(text), *every),
                "in_voltage0_hardwaregain",
            ),
            fixed("hardwaregain_available", str(LIMITS.gain_db), "in_voltage0_hardwaregain_available"),
            *bandwidth(radio, 0, LIMITS.bandwidth_hz),
            replace(
                rate(radio, "in_voltage_sampling_frequency"), write=lambda text: radio.set_sample_rate(number(text))
            ),
            fixed(
                "sampling_frequency_available",
                str(LIMITS.sample_rate_hz),
                "in_voltage_sampling_frequency_available",
            ),
        ),
    )
    return IioDevice("iio:device0", "hil-array-phy", [oscillator, receivers])


def _adc(radio: Radio, registers: Registers) -> IioDevice:
    sampling = (rate(radio, "in_voltage_sampling_frequency"),)
    channels = [
        Channel(f"voltage{k}_{part}", "input", sampling, scan=ScanElement(2 * k + p, f"le:S{BITS}/16>>0"))
        for k in range(radio.feed.n_channels)
        for p, part in enumerate("iq")
    ]
    return IioDevice("iio:device1", "hil-array-adc", channels, debug=(registers.attribute(),))
