"""The motherboard's calls: who has claimed it, what it is, its clocks, its AD9361."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from hil.errors import ControlError, ParamError
from sim_device.servers.protocol_faults import FaultBoard
from sim_device.servers.sample_feed import SampleFeed
from sim_device.servers.usrp.board import CHDR_PORT, Board
from sim_device.servers.usrp.rpc import RpcError

log = logging.getLogger(__name__)

#: What UHD 4.3 expects of MPM: major and minor.
COMPAT = (4, 2)
#: A claim that nobody renews ends after so long; a host renews it each second.
CLAIM_S = 2.5
CLOCK_SOURCES = ("internal", "external", "gpsdo")
TIME_SOURCES = ("internal", "external", "gpsdo")
_SYNC_SOURCES = tuple({"clock_source": c, "time_source": t} for c in CLOCK_SOURCES for t in TIME_SOURCES)
#: What an AD9361 can do.
SAMPLE_RATE_HZ, FREQUENCY_HZ, GAIN_DB = (220e3, 61.44e6), (70e6, 6e9), (0.0, 76.0)
#: Calls that a host makes all the time; calls for which nobody needs a claim.
_BY_THE_WAY = ("reclaim", "get_log_buf")
_FREE = ("claim", "get_", "list_", "supports_", "ping", "db_0_get_")


class Motherboard:
    """Calls of one board. A call that the host has no claim for is refused, as by the real one.

    Args:
        board: What is called for.
        serial: Serial number.
        feed: Samples; all boards share its frequency, gain and rate.
        base_gain_db: Gain of the simulated array where the board's is 0 dB.
        mtu: Longest datagram.
        faults: What to do wrong.
    """

    def __init__(
        self, board: Board, serial: str, feed: SampleFeed, base_gain_db: float, mtu: int, faults: FaultBoard
    ) -> None:
        self._faults = faults
        self._board, self.serial, self._feed, self._base_gain_db, self._mtu = board, serial, feed, base_gain_db, mtu
        self._token: str | None = None
        self._claimed_by, self._renewed_s = "", 0.0
        self._clock_source, self._time_source = "internal", "internal"
        self._rate_hz: float | None = None
        self._methods: dict[str, Callable[..., Any]] = {
            "claim": self._claim,
            "list_methods": lambda: [[name, "", True] for name in sorted(self._methods)],
            "get_mpm_compat_num": lambda: list(COMPAT),
            "get_device_info": self.device_info,
            "get_dboard_info": lambda: [{"pid": "336", "rev": "0", "serial": self.serial, "name": "sim"}],
            "get_last_error": lambda: "",
            "get_init_status": lambda: ["true", "No errors."],
            "get_log_buf": lambda: [],
            "ping": lambda data=None: data,
            "reclaim": self._reclaim,
            "unclaim": self._unclaim,
            "init": self._init,
            "get_proto_ver": lambda: 0x100,
            "get_chdr_width": lambda: 64,
            "get_device_id": lambda: self._board.core.device_id,
            "set_device_id": self._set_device_id,
            "get_chdr_link_types": lambda: ["udp"],
            "get_chdr_link_options": self._link_options,
            "get_clocks": self._clocks,
            "get_num_timekeepers": lambda: 1,
            "get_timekeeper_time": self._timekeeper_time,
            "set_timekeeper_time": self._set_timekeeper_time,
            "set_tick_period": lambda *_: None,
            "get_clock_source": lambda: self._clock_source,
            "get_clock_sources": lambda: list(CLOCK_SOURCES),
            "set_clock_source": self._set_clock_source,
            "get_time_source": lambda: self._time_source,
            "get_time_sources": lambda: list(TIME_SOURCES),
            "set_time_source": self._set_time_source,
            "get_sync_source": lambda: {"clock_source": self._clock_source, "time_source": self._time_source},
            "get_sync_sources": lambda: list(_SYNC_SOURCES),
            "set_sync_source": self._set_sync_source,
            "supports_feature": lambda _: False,
            "get_mb_sensors": lambda: ["ref_locked"],
            "get_mb_sensor": self._mb_sensor,
            "get_mb_eeprom": lambda: {"serial": self.serial, "pid": "58144", "rev": "0"},
            "get_gpio_banks": lambda: [],
            "get_gpio_srcs": lambda *_: [],
            "list_updateable_components": lambda: [],
            "set_channel_mode": lambda *_: None,
            "enable_pps_out": lambda *_: None,
            "db_0_get_master_clock_rate": self._clock_rate,
            "db_0_set_catalina_clock_rate": self._set_clock_rate,
            "db_0_catalina_tune": self._tune,
            "db_0_set_gain": self._set_gain,
            "db_0_set_bw_filter": lambda which, bandwidth_hz: float(bandwidth_hz),
            "db_0_get_sensors": lambda *_: [],
            "db_0_get_sensor": lambda *_: {"name": "", "type": "STRING", "unit": "", "value": ""},
            "db_0_get_dboard_eeprom": lambda: {},
            **dict.fromkeys(_ACCEPTED, lambda *_: None),
        }  # fmt: skip

    # -- calls -----------------------------------------------------------------------------------------------------

    def call(self, method: str, params: list[Any]) -> Any:
        """Do a call.

        Raises:
            RpcError: No such call, or no claim.
        """
        log.debug("board %s: %s%r", self._board.address, method, tuple(params))
        token = self._live_token()
        has_claim = bool(token is not None and params and params[0] == token)
        function = self._methods.get(method)
        if function is None:
            raise RpcError(f"unknown method {method!r}")
        if not has_claim and not method.startswith(_FREE):
            raise RpcError(f"{method}: this device is not claimed by you")
        if method not in _BY_THE_WAY and (fault := self._faults.take("error")) is not None:
            raise RpcError(f"{method}: error {fault.amount or 1:.0f} on command")
        try:
            return function(*params[has_claim:])
        except (ControlError, ParamError) as error:
            raise RpcError(str(error)) from error

    @property
    def claimed(self) -> bool:
        return self._live_token() is not None

    def device_info(self) -> dict[str, str]:
        """What a host is told of the board, also by discovery."""
        return {
            "type": "e3xx",
            "product": "e320",
            "serial": self.serial,
            "name": f"sim{self._board.index}",
            "description": "E320, simulated",
            "mpm_version": "4.3.0",
            "fpga": "1G",
            "fpga_version": "8.0",
            "connection": "remote",
            "mgmt_addr": self._board.address,
        }

    def release(self) -> None:
        """Forget who has claimed the board."""
        self._token = None

    # -- claims ----------------------------------------------------------------------------------------------------

    def _live_token(self) -> str | None:
        if self._token is not None and time.monotonic() - self._renewed_s > CLAIM_S:
            self._token = None
        return self._token

    def _claim(self, sender: str) -> str:
        if self._live_token() is not None:
            log.warning("board %s: %s wants it, but %s has it", self._board.address, sender, self._claimed_by)
            return ""
        self._token, self._claimed_by, self._renewed_s = secrets.token_hex(16), sender, time.monotonic()
        return self._token

    def _reclaim(self) -> bool:
        self._renewed_s = time.monotonic()
        return True

    def _unclaim(self) -> bool:
        self.release()
        return True

    # -- the board -------------------------------------------------------------------------------------------------

    def _init(self, args: dict[str, Any]) -> bool:
        if "master_clock_rate" in args:
            self._set_clock_rate(float(args["master_clock_rate"]))
        if "clock_source" in args:
            self._set_clock_source(str(args["clock_source"]))
        if "time_source" in args:
            self._set_time_source(str(args["time_source"]))
        return True

    def _set_device_id(self, device_id: int) -> None:
        self._board.core.device_id = int(device_id) & 0xFFFF

    def _link_options(self, kind: str) -> list[dict[str, str]]:
        if kind != "udp":
            return []
        return [
            {
                "iface": "sfp0", "ipv4": self._board.address, "port": str(CHDR_PORT),
                "link_rate": str(int(1.25e9)), "type": "internal", "mtu": str(self._mtu),
            }
        ]  # fmt: skip

    def _clocks(self) -> list[dict[str, str]]:
        rate_hz = self._clock_rate()
        return [
            {"name": "radio_clk", "freq": str(rate_hz), "mutable": "true"},
            {"name": "bus_clk", "freq": str(200e6), "mutable": "false"},
        ]

    def _timekeeper_time(self, index: int, at_last_pulse: bool) -> int:
        self.apply_clock_rate()
        keeper = self._board.timekeeper
        return (keeper.at_last_pulse() if at_last_pulse else keeper.now()) & (1 << 64) - 1

    def _set_timekeeper_time(self, index: int, ticks: int, at_next_pulse: bool) -> None:
        self.apply_clock_rate()
        self._board.timekeeper.set(int(ticks), bool(at_next_pulse))

    def _set_clock_source(self, source: str, *_: Any) -> None:
        if source not in CLOCK_SOURCES:
            raise RpcError(f"clock source {source!r}: expected {', '.join(CLOCK_SOURCES)}")
        self._clock_source = source

    def _set_time_source(self, source: str, *_: Any) -> None:
        if source not in TIME_SOURCES:
            raise RpcError(f"time source {source!r}: expected {', '.join(TIME_SOURCES)}")
        self._time_source = source
        self._board.timekeeper.external = source != "internal"

    def _set_sync_source(self, sources: dict[str, str]) -> None:
        self._set_clock_source(sources.get("clock_source", self._clock_source))
        self._set_time_source(sources.get("time_source", self._time_source))

    def _mb_sensor(self, name: str) -> dict[str, str]:
        if name != "ref_locked":
            raise RpcError(f"sensor {name!r}: there is ref_locked")
        return {"name": "ref_locked", "type": "BOOLEAN", "unit": "locked", "value": "true"}

    # -- the AD9361 ------------------------------------------------------------------------------------------------

    def _set_clock_rate(self, rate_hz: float, *_: Any) -> float:
        self._rate_hz = min(max(float(rate_hz), SAMPLE_RATE_HZ[0]), SAMPLE_RATE_HZ[1])
        return self._rate_hz

    def _clock_rate(self) -> float:
        return self._feed.sample_rate_hz if self._rate_hz is None else self._rate_hz

    def apply_clock_rate(self) -> None:
        """Let the array run at the rate that was set last. It waits until somebody asks for time or samples: a host
        that starts goes through other rates to test its codec, which are none of the array's."""
        rate_hz, self._rate_hz = self._rate_hz, None
        if rate_hz is not None and rate_hz != self._feed.sample_rate_hz:
            self._feed.command("set_sample_rate", {"sample_rate_hz": rate_hz})

    def _tune(self, which: str, frequency_hz: float, *_: Any) -> float:
        frequency_hz = min(max(float(frequency_hz), FREQUENCY_HZ[0]), FREQUENCY_HZ[1])
        if which.upper().startswith("RX") and frequency_hz != self._feed.frequency_hz:
            self._feed.command("tune", {"frequency_hz": frequency_hz})
        return frequency_hz

    def _set_gain(self, which: str, gain_db: float, *_: Any) -> float:
        gain_db = min(max(float(gain_db), GAIN_DB[0]), GAIN_DB[1])
        if which.upper().startswith("RX") and self._base_gain_db + gain_db != self._feed.gain_db:
            self._feed.command("set_gain", {"gain_db": self._base_gain_db + gain_db})
        return gain_db


#: Calls of the AD9361 that the simulated one has no use for: accepted.
_ACCEPTED = (
    "db_0_set_timing_mode",
    "db_0_set_active_chains",
    "db_0_set_agc",
    "db_0_set_agc_mode",
    "db_0_set_dc_offset_auto",
    "db_0_set_iq_balance_auto",
    "db_0_data_port_loopback",
    "db_0_get_temperature",
)
