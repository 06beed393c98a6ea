"""Boards of AD9361 transceivers with their interface cores: FMComms2 (one, 2 channels), FMComms5 (two, 4 channels)."""

from __future__ import annotations

from typing import NamedTuple

from sim_device.servers.iiod.ad9361_chip import BITS, Chip
from sim_device.servers.iiod.attributes import fixed, kept, rate
from sim_device.servers.iiod.context import Channel, Context, IioDevice, ScanElement
from sim_device.servers.iiod.radio import Radio
from sim_device.servers.iiod.registers import Registers


class Names(NamedTuple):
    """What the devices of a board are called: the chips', their DACs', their ADCs'. The first ADC has the buffer."""

    chips: tuple[str, ...]
    dacs: tuple[str, ...]
    adcs: tuple[str, ...]


FMCOMMS2 = Names(("ad9361-phy",), ("cf-ad9361-dds-core-lpc",), ("cf-ad9361-lpc",))
FMCOMMS5 = Names(
    ("ad9361-phy", "ad9361-phy-B"),
    ("cf-ad9361-dds-core-lpc", "cf-ad9361-dds-core-B"),
    ("cf-ad9361-A", "cf-ad9361-B"),
)


def board(radio: Radio, registers: Registers, names: Names, description: str) -> Context:
    """Return the context of a board; device 0 is the chip that sets the frequency of all, unless others are moved."""
    devices = [Chip(radio, k).device(f"iio:device{k}", name) for k, name in enumerate(names.chips)]
    for k, (dac, adc) in enumerate(zip(names.dacs, names.adcs, strict=True)):
        n_elements = 2 * radio.feed.n_channels if k == 0 else 0  # the first core's buffer has all of the board
        core = registers if k == 0 else Registers()
        devices.append(_dac(radio, f"iio:device{len(devices)}", dac, n_elements))
        devices.append(_adc(radio, core, f"iio:device{len(devices)}", adc, n_elements))
    attributes = {"hw_carrier": "simulated", "hw_model": names.adcs[0]}
    return Context(devices, description, attributes)


def _adc(radio: Radio, registers: Registers, id: str, name: str, n_elements: int) -> IioDevice:
    values: dict[str, str] = {}
    channels = []
    for k in range(n_elements or 4):
        own = f"in_voltage{k}_"
        attributes = [kept(values, a, "0.000000", own + a) for a in ("calibbias", "calibphase")]
        attributes.append(kept(values, "calibscale", "1.000000", own + "calibscale"))
        attributes.append(fixed("samples_pps", "0", "in_voltage_samples_pps"))
        attributes.append(rate(radio, "in_voltage_sampling_frequency"))
        scan = ScanElement(k, f"le:S{BITS}/16>>0") if n_elements else None
        channels.append(Channel(f"voltage{k}", "input", attributes, scan=scan))
    buffer = (fixed("data_available", "0"),) if n_elements else ()
    return IioDevice(id, name, channels, debug=(registers.attribute(),), buffer=buffer)


def _dac(radio: Radio, id: str, name: str, n_elements: int) -> IioDevice:
    values: dict[str, str] = {}
    data = [
        Channel(
            f"voltage{k}",
            "output",
            (rate(radio, "out_voltage_sampling_frequency"),),
            scan=ScanElement(k, "le:S16/16>>0"),
        )
        for k in range(n_elements)
    ]
    tones = []
    for k in range(8):
        part = f"TX{k // 4 + 1}_{'IQ'[k % 4 // 2]}_F{k % 2 + 1}"
        own = f"out_altvoltage{k}_{part}_"
        defaults = (("frequency", "9999985"), ("phase", "0"), ("raw", "1"), ("scale", "0.000000"))
        attributes = [kept(values, a, first, own + a) for a, first in defaults]
        attributes.append(rate(radio, "out_altvoltage_sampling_frequency"))
        tones.append(Channel(f"altvoltage{k}", "output", attributes, part))
    return IioDevice(id, name, [*data, *tones], debug=(Registers().attribute(),))
