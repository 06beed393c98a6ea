"""One AD9361 transceiver as the kernel's driver shows it."""

from __future__ import annotations

import errno
from dataclasses import replace

from sim_device.servers.iiod.attributes import bandwidth, fixed, kept, number, plain, rate
from sim_device.servers.iiod.context import Attribute, Channel, Direction, IioDevice, fail
from sim_device.servers.iiod.radio import GAIN_MODES, Limits, Radio, RadioLimits
from sim_device.servers.iiod.registers import Registers

BITS = 12
#: Lowest rates of the converters' chain, without and with the programmable filter (which divides by up to 4).
_LOWEST_RATE_HZ, _LOWEST_FILTERED_RATE_HZ = 25e6 / 12, 25e6 / 48
LIMITS = RadioLimits(
    frequency_hz=Limits(70e6, 1, 6e9),
    sample_rate_hz=Limits(int(_LOWEST_FILTERED_RATE_HZ), 1, 61_440_000),
    bandwidth_hz=Limits(200_000, 1, 56_000_000),
    gain_db=Limits(-3, 1, 71),
)
_ATTENUATION = Limits(-89.75, 0.25, 0)
_RX_PORTS = "A_BALANCED B_BALANCED C_BALANCED A_N A_P B_N B_P C_N C_P TX_MONITOR1 TX_MONITOR2 TX_MONITOR1_2"


class Chip:
    """One transceiver: its own state, and the radio's where it receives."""

    def __init__(self, radio: Radio, chip: int) -> None:
        self._radio, self._chip = radio, chip
        self._filter_on = radio.feed.sample_rate_hz < _LOWEST_RATE_HZ
        self._filter = (4, 4, 128) if self._filter_on else (0, 0, 0)  # RX decimation, TX interpolation, taps
        self._stored: dict[str, str] = {}

    def device(self, id: str, name: str) -> IioDevice:
        channels = [
            self._oscillator("altvoltage0", "RX_LO"),
            self._oscillator("altvoltage1", "TX_LO"),
            *(self._rx(k) for k in range(self._radio.channels_per_chip)),
            *(self._tx(k) for k in range(self._radio.channels_per_chip)),
            Channel("temp0", "input", (Attribute("input", lambda: "42982", filename="in_temp0_input"),)),
            Channel("out", "input", (self._filter_switch("voltage_filter_fir_en", "in_out_voltage_filter_fir_en"),)),
        ]
        attributes = (
            kept(self._stored, "calib_mode", "auto"),
            fixed("calib_mode_available", "auto manual manual_tx_quad tx_quad rf_dc_offs rssi_gain_step"),
            kept(self._stored, "dcxo_tune_coarse", "8"),
            kept(self._stored, "dcxo_tune_fine", "5920"),
            kept(self._stored, "ensm_mode", "fdd"),
            fixed("ensm_mode_available", "sleep wait alert fdd pinctrl pinctrl_fdd_indep"),
            Attribute("filter_fir_config", self._read_filter, self._write_filter),
            Attribute("multichip_sync", lambda: "0", lambda text: None),
            Attribute("rx_path_rates", lambda: self._path_rates("ADC", "R", "RXSAMP")),
            kept(self._stored, "trx_rate_governor", "nominal"),
            fixed("trx_rate_governor_available", "nominal highest_osr"),
            Attribute("tx_path_rates", lambda: self._path_rates("DAC", "T", "TXSAMP")),
            kept(self._stored, "xo_correction", "40000000"),
        )
        debug = (
            Registers().attribute(),
            kept(self._stored, "initialize", "0"),
            kept(self._stored, "loopback", "0"),
            kept(self._stored, "bist_tone", "0"),
            kept(self._stored, "bist_prbs", "0"),
            kept(self._stored, "adi,2rx-2tx-mode-enable", "1"),
        )
        return IioDevice(id, name, channels, attributes, debug)

    # -- channels --------------------------------------------------------------------------------------------------

    def _oscillator(self, id: str, name: str) -> Channel:
        base = f"out_{id}_{name}"
        if name == "RX_LO":
            frequency = Attribute(
                "frequency",
                lambda: str(round(self._radio.frequency_hz(self._chip))),
                lambda text: self._radio.tune(number(text), self._chip),
                f"{base}_frequency",
            )
        else:
            frequency = kept(self._stored, "frequency", "2450000000", f"{base}_frequency", LIMITS.frequency_hz)
        return Channel(
            id,
            "output",
            (
                kept(self._stored, "external", "0", f"{base}_external"),
                frequency,
                fixed("frequency_available", str(LIMITS.frequency_hz), f"{base}_frequency_available"),
                kept(self._stored, "powerdown", "0", f"{base}_powerdown"),
            ),
            name,
        )

    def _rx(self, k: int) -> Channel:
        radio, chip = self._radio, self._chip
        channel = chip * radio.channels_per_chip + k
        own, shared = f"in_voltage{k}_", "in_voltage_"
        return Channel(
            f"voltage{k}",
            "input",
            (
                kept(self._stored, "bb_dc_offset_tracking_en", "1", shared + "bb_dc_offset_tracking_en"),
                self._filter_switch("filter_fir_en", shared + "filter_fir_en"),
                Attribute(
                    "gain_control_mode",
                    lambda: radio.mode[channel],
                    lambda text: radio.set_mode(plain(text), channel),
                    own + "gain_control_mode",
                ),
                fixed("gain_control_mode_available", " ".join(GAIN_MODES), shared + "gain_control_mode_available"),
                Attribute(
                    "hardwaregain",
                    lambda: f"{radio.gain_db(channel):.6f} dB",
                    lambda text: radio.set_gain(float(round(number(text))), channel),
                    own + "hardwaregain",
                ),
                fixed("hardwaregain_available", str(LIMITS.gain_db), own + "hardwaregain_available"),
                kept(self._stored, "quadrature_tracking_en", "1", shared + "quadrature_tracking_en"),
                *bandwidth(radio, chip, LIMITS.bandwidth_hz),
                kept(self._stored, "rf_dc_offset_tracking_en", "1", shared + "rf_dc_offset_tracking_en"),
                kept(self._stored, "rf_port_select", "A_BALANCED", own + "rf_port_select"),
                fixed("rf_port_select_available", _RX_PORTS, shared + "rf_port_select_available"),
                *self._sampling("input"),
            ),
        )

    def _tx(self, k: int) -> Channel:
        own, shared = f"out_voltage{k}_", "out_voltage_"
        return Channel(
            f"voltage{k}",
            "output",
            (
                self._filter_switch("filter_fir_en", shared + "filter_fir_en"),
                kept(self._stored, "hardwaregain", "-10.000000 dB", own + "hardwaregain", _ATTENUATION, "{:.6f} dB"),
                fixed("hardwaregain_available", str(_ATTENUATION), own + "hardwaregain_available"),
                kept(self._stored, "rf_bandwidth", "18000000", shared + "rf_bandwidth", LIMITS.bandwidth_hz),
                kept(self._stored, "rf_port_select", "A", own + "rf_port_select"),
                fixed("rf_port_select_available", "A B", shared + "rf_port_select_available"),
                *self._sampling("output"),
            ),
        )

    def _sampling(self, direction: Direction) -> tuple[Attribute, Attribute]:
        name = ("in" if direction == "input" else "out") + "_voltage_sampling_frequency"
        available = LIMITS.sample_rate_hz
        return (
            replace(rate(self._radio, name), write=self._set_rate),
            fixed("sampling_frequency_available", str(available), name + "_available"),
        )

    # -- rates and the programmable filter -------------------------------------------------------------------------

    def _set_rate(self, text: str) -> None:
        rate_hz = number(text)
        lowest = _LOWEST_FILTERED_RATE_HZ if self._filter_on else _LOWEST_RATE_HZ
        if rate_hz < int(lowest):
            raise fail(errno.EINVAL, f"sample rate {rate_hz:g} is below {lowest:g}")
        self._radio.set_sample_rate(rate_hz)

    def _filter_switch(self, name: str, filename: str) -> Attribute:
        def switch(text: str) -> None:
            on = plain(text) in ("1", "Y", "y", "True", "true")
            if on and not self._filter[2]:
                raise fail(errno.EINVAL, "no filter is loaded")
            if not on and self._radio.feed.sample_rate_hz < int(_LOWEST_RATE_HZ):
                raise fail(errno.EINVAL, "the sample rate needs the filter")
            self._filter_on = on

        return Attribute(name, lambda: str(int(self._filter_on)), switch, filename)

    def _read_filter(self) -> str:
        rx, tx, taps = self._filter
        return f"FIR Rx: {taps},{rx} Tx: {taps},{tx}"

    def _write_filter(self, text: str) -> None:
        rx = tx = taps = 0
        for line in text.strip("\0").splitlines():
            words = line.split()
            try:
                if words[:1] == ["RX"]:
                    rx = int(words[words.index("DEC") + 1])
                elif words[:1] == ["TX"]:
                    tx = int(words[words.index("INT") + 1])
                elif "," in line:
                    _ = [int(tap) for tap in line.split(",")]
                    taps += 1
            except (ValueError, IndexError) as error:
                raise fail(errno.EINVAL, f"filter: {line[:40]!r} is not understood") from error
        if not taps or taps > 128 or taps % 16 or rx not in (1, 2, 4) or tx not in (1, 2, 4):
            raise fail(errno.EINVAL, f"filter: {taps} taps, RX decimation {rx}, TX interpolation {tx}")
        self._filter = rx, tx, taps

    def _path_rates(self, converter: str, stage: str, last: str) -> str:
        rate_hz = self._radio.feed.sample_rate_hz
        before = rate_hz * (self._filter[0] if self._filter_on else 1)
        halves = next(f for f in (12, 8, 4, 2, 1) if before * f <= (320e6 if converter == "DAC" else 640e6) or f == 1)
        top = before * halves
        pll = top
        while pll < 715e6:
            pll *= 2
        one, two = before * min(halves, 2), before * min(halves, 4)
        names = (f"BBPLL:{pll:.0f}", f"{converter}:{top:.0f}", f"{stage}2:{two:.0f}", f"{stage}1:{one:.0f}")
        return " ".join((*names, f"{stage}F:{before:.0f}", f"{last}:{rate_hz:.0f}"))
