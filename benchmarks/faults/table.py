"""Each fault times each driver: what tells of it, how long until frames come again, whether what was lost is counted.

Devices run in real time in processes of their own, at addresses that stay; drivers are read as the runtime does. What
was lost is found in the samples (:mod:`benchmarks.faults.truth`) and compared with what the driver says.

``python -m benchmarks.faults.table [--rounds N] [--driver NAME]`` prints the table of docs/devices/faults.md.
"""

from __future__ import annotations

import argparse
import random
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from benchmarks.faults.rig import Device, Reader
from benchmarks.faults.truth import OccasionTruth, SampleTruth, Seen, TickTruth, Truth
from benchmarks.report import Report, Row, commit, machine
from drivers import uhd_interpreter
from drivers.base import Driver
from drivers.fapi import Fapi
from drivers.gnuradio import GnuRadio
from drivers.heimdall import Heimdall
from drivers.iio import Iio
from drivers.oai_tracer import OaiTracer
from drivers.srsran import SrsRan
from drivers.uhd import Uhd
from drivers.xl_array import XlArray
from hil.errors import HilError

ROUNDS, ROUNDS_QUICK = 3, 1
#: A device that is silent for longer counts as gone; shorter and longer pauses are tried.
SILENCE_S, PAUSE_S, HANG_S = 2.0, 1.0, 4.0
#: Frames come without events for so long before a fault and after it.
_CALM_S = 0.6
_LIMIT_S = 40.0
#: How long a device that was killed stays away.
_AWAY_S = 0.3

#: exact: the driver's count is the truth. told: an event says that samples are missing, the protocol does not say how
#: many. unseen: nothing in the protocol shows it.
Account = Literal["exact", "told", "unseen"]


class Case(NamedTuple):
    """A fault and what has to become of it.

    Attributes:
        fault: As the server calls it, or ``kill``, ``kill in retune``.
        events: That tell of it, all of them.
        account: Of what is lost.
        amount: For the server.
        why: The protocol does not allow better.
    """

    fault: str
    events: tuple[str, ...] = ()
    account: Account = "exact"
    amount: float | None = None
    why: str = ""

    @property
    def name(self) -> str:
        if self.fault == "stall":
            return f"stall, {self.amount:g} s"
        return self.fault.replace("_", " ")


class Family(NamedTuple):
    """A driver, its device, and what can go wrong.

    Attributes:
        name: Of the driver, and of its variant.
        driver: Makes it, from the device's addresses.
        module: Of the device.
        params: Of the device.
        truth: Made anew for each run.
        cases: Faults.
        unit: What is counted.
        not_here: Faults of the device that this protocol cannot show, and why.
        fresh: Device and driver are started anew for each round: what went wrong stays wrong.
    """

    name: str
    driver: Callable[[dict[str, Any]], Driver]
    module: str
    params: dict[str, Any]
    truth: Callable[[], Truth]
    cases: tuple[Case, ...]
    unit: Literal["samples", "frames"] = "samples"
    not_here: Mapping[str, str] = MappingProxyType({})
    fresh: bool = False


class Outcome(NamedTuple):
    """One round.

    Attributes:
        events: Names in order, each once.
        back_s: From the fault (from when the device was there again, where it was killed) to the first frame behind
            the last event; ``None``: it did not come back.
        lost: In truth.
        counted: By the driver.
        n_wrong: Samples that were given and are not the device's.
        wrong_frequency: Frames in the end name another frequency than the device's.
        said: What the driver said in words.
    """

    events: tuple[str, ...]
    back_s: float | None
    lost: int
    counted: int
    n_wrong: int
    wrong_frequency: bool
    said: str


# -- what there is -----------------------------------------------------------------------------------------------------


def families() -> list[Family]:
    """All drivers of live devices; ports and addresses that are free now."""
    ports = free_ports(12)
    noise = {"noise_power_db": -20.0, "real_time": True, "seed": 5}

    def radio(n: int, rate_hz: float, frequency_hz: float = 2.4e9) -> dict[str, Any]:
        return {**noise, "array": {"kind": "ula", "n": n}, "sample_rate_hz": rate_hz, "frequency_hz": frequency_hz}

    def live(driver: type[Driver], **params: Any) -> Callable[[dict[str, Any]], Driver]:
        return lambda at: driver("radio", **{"uri": at["uri"], "silence_s": SILENCE_S, **params})

    period = 1 << 19
    two, five = radio(2, 250e3), radio(5, 240e3, 433e6)
    fast, slow = radio(2, 600e3), radio(2, 100e3)
    servers = "sim_device.servers"
    host = "127." + ".".join(str(random.SystemRandom().randint(1, 254)) for _ in range(3))
    srs = {"n_rb": 24, "n_fft": 512, "c_srs": 6, "period_slots": 40}
    cell = {"srs": srs, "loop_occasions": 1}
    kraken = {"device": five, "loop_ticks": period, "n_samples": 4096, "calibration_s": 0.0}
    kraken |= {"port": ports[1], "control_port": ports[2]}
    gnuradio = {"device": two, "loop_ticks": period, "n_samples": 1000, "tag_every_s": 0.2}
    fapi_at = f"127.0.0.1:{ports[9]}"
    return [
        Family(
            "iio",
            live(Iio, poll_s=0.1),
            f"{servers}.iiod",
            {"device": fast, "loop_ticks": period, "port": ports[0]},
            lambda: SampleTruth(fast, period, "int12"),
            IIO,
        ),
        Family(
            "uhd",
            live(Uhd, sample_rate_hz=250e3, frequency_hz=2.4e9),
            f"{servers}.usrp",
            {"device": two, "loop_ticks": period, "host": host},
            lambda: SampleTruth(two, period, "int16"),
            UHD,
        ),
        Family(
            "heimdall, version 1",
            live(Heimdall),
            f"{servers}.heimdall",
            kraken,
            lambda: SampleTruth(five, period, "complex64"),
            HEIMDALL_1,
        ),
        Family(
            "heimdall, version 2",
            live(Heimdall, sample_rate_hz=240e3),
            f"{servers}.heimdall",
            {**kraken, "version": 2},
            lambda: SampleTruth(five, period, "uint8"),
            HEIMDALL_2,
        ),
        Family(
            "gnuradio, PUB with tags",
            live(GnuRadio, sample_rate_hz=250e3, frequency_hz=2.4e9),
            f"{servers}.gnuradio",
            {**gnuradio, "port": ports[3]},
            lambda: SampleTruth(two, period, "complex64"),
            GNURADIO_TAGS,
        ),
        Family(
            "gnuradio, PUB without tags",
            live(GnuRadio, sample_rate_hz=250e3, frequency_hz=2.4e9),
            f"{servers}.gnuradio",
            {**gnuradio, "port": ports[3], "content": "stream"},
            lambda: SampleTruth(two, period, "complex64"),
            GNURADIO_PLAIN,
        ),
        Family(
            "srsran",
            live(SrsRan, sample_rate_hz=250e3, frequency_hz=2.4e9),
            f"{servers}.srsran",
            {"device": two, "loop_ticks": period, "n_samples": 1000, "port": ports[4]},
            lambda: SampleTruth(two, period, "complex64"),
            SRSRAN,
            fresh=True,
        ),
        Family(
            "oai_tracer",
            live(OaiTracer, srs={"n_rb": 24, "n_subcarriers": 288}),
            f"{servers}.gnodeb",
            {**cell, "port": ports[8]},
            lambda: OccasionTruth(2),
            OAI_TRACER,
            "frames",
        ),
        Family(
            "fapi",
            lambda at: Fapi("radio", uri=f"udp://{fapi_at}", silence_s=SILENCE_S, srs={"n_rb": 24}),
            f"{servers}.gnodeb",
            {**cell, "fapi_to": fapi_at},
            lambda: OccasionTruth(2),
            FAPI,
            "frames",
            {"drop_connection": "UDP has no connection", "clock_jump": "the messages carry no time"},
        ),
        Family(
            "xl_array",
            lambda at: XlArray("radio", endpoint=at["endpoint"]),
            "benchmarks.faults.xl_array_at",
            {"device": {**slow, "n_snapshots": 1000, "frame_period_s": 0.01}, "port": ports[10]},
            lambda: TickTruth(slow),
            XL_ARRAY,
        ),
    ]


_TCP = "TCP loses and damages no bytes"
_NO_NUMBER = "the protocol numbers nothing"
IIO = (
    Case("stall", ("overflow",), "told", PAUSE_S, _NO_NUMBER),
    Case("stall", ("disconnected", "reconnect"), "told", HANG_S, _NO_NUMBER),
    Case("drop_connection", ("disconnected", "reconnect"), "told"),
    Case("short_read", ("short_read",), "told", 100, _NO_NUMBER),
    Case("error", ("disconnected", "reconnect"), "told"),
    Case("corrupt", ("disconnected", "reconnect"), "told"),
    Case("overrun", ("overflow",), "told", 5000, _NO_NUMBER),
    Case("retune", ("retune",), "told"),
    Case("kill", ("disconnected", "reconnect"), "told"),
    Case("kill in retune", ("disconnected", "reconnect"), "told"),
)
UHD = (
    Case("stall", ("overflow", "gap"), "exact", PAUSE_S),
    Case("stall", ("disconnected", "reconnect"), "told", HANG_S),
    Case("drop_connection", ("disconnected", "reconnect"), "told"),
    Case("error", ("ControlError",)),
    Case("corrupt", ("bad_packet", "gap")),
    Case("lose_packets", ("sequence_error", "gap"), "exact", 3),
    Case("overrun", ("overflow", "gap")),
    Case("clock_jump", ("clock_jump",), "exact", 0.5),
    Case("retune", (), "unseen"),
    Case("kill", ("disconnected", "reconnect")),
    Case("kill in retune", ("disconnected", "reconnect")),
)
HEIMDALL_1 = (
    Case("stall", ("gap",), "exact", PAUSE_S),
    Case("stall", ("disconnected", "reconnect"), "exact", HANG_S),
    Case("drop_connection", ("disconnected", "reconnect")),
    Case("short_read", ("disconnected", "reconnect", "gap")),
    Case("error", ("ControlError",)),
    Case("corrupt", ("disconnected", "reconnect")),
    Case("lose_packets", ("gap",), "exact", 3),
    Case("overrun", ("gap",), "exact", 5000),
    Case("clock_jump", ("clock_jump",), "exact", 2.0),
    Case("retune", ("retune",)),
    Case("kill", ("disconnected", "reconnect")),
    Case("kill in retune", ("disconnected", "reconnect")),
)
HEIMDALL_2 = (
    Case("stall", ("gap",), "told", PAUSE_S),
    Case("stall", ("disconnected", "reconnect"), "told", HANG_S),
    Case("drop_connection", ("disconnected", "reconnect"), "told"),
    Case("short_read", ("disconnected", "reconnect"), "told"),
    Case("error", ("ControlError",)),
    Case("corrupt", ("resync",)),
    Case("lose_packets", ("gap",), "told", 6),
    Case("overrun", ("gap",), "told", 25_000),
    Case("clock_jump", ()),
    Case("retune", ("retune",)),
    Case("kill", ("disconnected", "reconnect")),
    Case("kill in retune", ("disconnected", "reconnect")),
)
GNURADIO_TAGS = (
    Case("stall", ("overflow", "gap"), "exact", PAUSE_S),
    Case("drop_connection", ("disconnected", "reconnect")),
    Case("short_read", ("corrupt", "gap")),
    Case("corrupt", ("corrupt", "gap")),
    Case("lose_packets", ("gap",), "exact", 3),
    Case("overrun", ("overflow", "gap"), "exact", 5000),
    Case("clock_jump", ("clock_jump",), "exact", -2.0),
    Case("retune", ("retune",)),
    Case("stall", ("disconnected", "reconnect"), "exact", HANG_S),
    Case("kill", ("disconnected", "reconnect")),
)
GNURADIO_PLAIN = (
    Case("stall", ("gap",), "told", PAUSE_S),
    Case("stall", ("disconnected", "reconnect"), "told", HANG_S),
    Case("drop_connection", ("disconnected", "reconnect"), "told"),
    Case("short_read", ("corrupt",), "told"),
    Case("corrupt", (), "unseen"),
    Case("lose_packets", ("gap",), "told", 30),
    Case("overrun", ("gap",), "told", 25_000),
    Case("clock_jump", ()),
    Case("retune", (), "unseen"),
    Case("kill", ("disconnected", "reconnect")),
)
SRSRAN = (
    Case("stall", (), "exact", PAUSE_S),
    Case("stall", ("disconnected", "reconnect"), "exact", HANG_S),
    Case("drop_connection", ("disconnected", "reconnect"), "told"),
    Case("short_read", ("disconnected", "reconnect"), "told"),
    Case("corrupt", (), "unseen"),
    Case("lose_packets", (), "unseen", 3),
    Case("kill", ("disconnected", "reconnect")),
)
OAI_TRACER = (
    Case("stall", (), "exact", PAUSE_S),
    Case("stall", ("disconnected", "reconnect"), "exact", HANG_S),
    Case("drop_connection", ("disconnected", "reconnect")),
    Case("short_read", ("short_read", "gap"), "exact", 100),
    Case("corrupt", ("disconnected", "reconnect")),
    Case("lose_packets", ("gap",), "exact", 5),
    Case("clock_jump", ("clock_jump",), "exact", 2.5),
    Case("kill", ("disconnected", "reconnect")),
)
FAPI = (
    Case("stall", ("gap",), "exact", PAUSE_S),
    Case("short_read", ("corrupt", "gap")),
    Case("corrupt", ("corrupt", "gap")),
    Case("lose_packets", ("messages_lost", "gap"), "exact", 5),
    Case("stall", ("disconnected", "reconnect", "gap"), "exact", HANG_S),
    Case("kill", ("restart",)),
)
XL_ARRAY = (
    Case("stall", ("overflow",), "exact", PAUSE_S),
    Case("overrun", ("gap",), "exact", 5000),
    Case("retune", ("retune",)),
    Case("kill", ("reconnect",)),
    Case("kill in retune", ("reconnect",)),
)


def free_ports(n: int) -> list[int]:
    """``n`` ports of the loopback that follow one another, none of which is in use."""
    chosen = random.SystemRandom()
    while True:
        first = chosen.randint(15_000, 30_000)
        try:
            for port in range(first, first + n):
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    with socket.socket(socket.AF_INET, kind) as tried:
                        tried.bind(("127.0.0.1", port))
        except OSError:
            continue
        return list(range(first, first + n))


# -- one round ---------------------------------------------------------------------------------------------------------


class Bench:
    """A family at work."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.device = Device(family.module, family.params)
        self.device.start()
        self.truth = family.truth()
        self.reader = Reader(family.driver(self.device.addresses), self.truth)
        self.reader.start()

    def close(self) -> None:
        self.reader.close()
        self.device.close()

    def calm(self) -> int:
        """Wait until frames come without events; return how many have come."""
        self._wait(lambda: self._is_calm(0, 0.0), "no frames come")
        return len(self.reader.seen)

    def round(self, case: Case) -> Outcome:
        """Let ``case`` happen and see what becomes of it."""
        at, began_s = self.calm(), time.monotonic()
        restarts_s, said = [], ""
        if case.fault.startswith("kill"):
            said, there_s = self._kill(retune=case.fault != "kill")
            restarts_s, began_s = [there_s], there_s
        else:
            self._inject(case)
        refused = case.events == ("ControlError",)
        if refused:  # it is a command that goes wrong
            said = self._said(self._tune())
        paused_s = case.amount or 0.0 if case.fault == "stall" else 0.0
        expected = set() if refused else set(case.events)
        try:
            self._wait(
                lambda: expected <= {*_events(self.reader.seen[at:])} and self._is_calm(at, began_s + paused_s),
                case.name,
            )
        except TimeoutError as error:
            said = f"{error}, came {_events(self.reader.seen[at:])}"
        if self.device.ask("stats").get("faults_waiting"):
            raise RuntimeError(f"{self.family.name}: {case.name}: it did not happen")
        # the last frame before it, so that what is missing behind that is seen
        first = max((i for i in range(at) if self.reader.seen[i].header.kind == "data"), default=0)
        before, seen = self._last_of_each_key(first), self.reader.seen[at:]
        data = [s for s in seen if s.header.kind == "data"]
        last_event_s = max([s.at_s for s in seen if s.header.kind == "event"], default=began_s)
        back = [s.at_s for s in data if s.at_s >= max(last_event_s, began_s)]
        told_lost = [getattr(s.header.lost, self.family.unit) for s in data]
        why = [str(s.header.meta.get("why", "")) for s in seen if s.header.kind == "event"]
        return Outcome(
            (*(["ControlError"] if "ControlError" in said else []), *_events(seen)),
            back[0] - began_s if back else None,
            self.truth.lost([*before, *seen], restarts_s),
            sum(told_lost),
            sum(s.n_wrong for s in data if s.header.meta.get("usable", True)),
            self._wrong_frequency(data),
            " | ".join(w for w in (said, *dict.fromkeys(why)) if w),
        )

    # -- inside --------------------------------------------------------------------------------------------------------

    def _inject(self, case: Case) -> None:
        if self.family.name != "xl_array":
            self.device.ask("fault", kind=case.fault, amount=case.amount)
        elif case.fault == "stall":
            self.device.ask("stall", seconds=case.amount)
        elif case.fault == "overrun":
            self.device.ask("drop_samples", n=case.amount)
        else:
            self.device.ask("tune", frequency_hz=2.45e9)

    def _kill(self, retune: bool) -> tuple[str, float]:
        """Kill the device, in the midst of a retune if so, and start it again; what the verb said, when it is back."""
        asked = None
        if retune:
            asked = self._tune()
            time.sleep(random.SystemRandom().uniform(0.0, 0.03))
        self.device.kill()
        time.sleep(_AWAY_S)
        self.device.close()
        self.truth.forget()
        self.device.start()
        there_s = time.monotonic()
        return "" if asked is None else self._said(asked), there_s

    def _tune(self) -> Future[Any]:
        driver: Any = self.reader.driver
        frequency_hz = 440e6 if self.family.name.startswith("heimdall") else 2.45e9
        return self.reader.call(lambda: driver.tune(frequency_hz))

    def _said(self, asked: Future[Any]) -> str:
        """What became of a command."""
        try:
            return f"tune: {asked.result(_LIMIT_S)}"
        except HilError as error:
            return f"tune: {type(error).__name__}: {error}"

    def _is_calm(self, at: int, since_s: float) -> bool:
        """Whether frames have come for a while without events, later than ``since_s`` and frame ``at``."""
        seen, now = self.reader.seen, time.monotonic()
        events_s = max([s.at_s for s in seen[at:] if s.header.kind == "event"], default=0.0)
        begun_s = max(events_s, since_s)
        data = [s.at_s for s in seen[at:] if s.header.kind == "data" and s.at_s > begun_s]
        return len(data) >= 5 and now - data[0] > _CALM_S and now - data[-1] < _CALM_S

    def _wait(self, enough: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + _LIMIT_S
        while not enough():
            if self.reader.failure is not None:
                raise self.reader.failure
            if time.monotonic() > end:
                raise TimeoutError(f"not in {_LIMIT_S:g} s: {what}")
            time.sleep(0.02)

    def _last_of_each_key(self, until: int) -> list[Seen]:
        last = {s.key: s for s in self.reader.seen[: until + 1] if s.header.kind == "data"}
        return sorted(last.values(), key=lambda s: s.at_s)

    def _wrong_frequency(self, data: Sequence[Seen]) -> bool:
        device_hz = float(self.device.ask("get", path="frequency_hz"))
        return not data or abs((data[-1].header.frequency_hz or 0.0) / device_hz - 1) > 1e-6


def _events(seen: Sequence[Seen]) -> list[str]:
    names = [s.header.meta["event"] for s in seen if s.header.kind == "event"]
    return list(dict.fromkeys(names))


@contextmanager
def bench(family: Family) -> Iterator[Bench]:
    with closing(Bench(family)) as it:
        kinds = it.device.ask("describe").get("faults", [])
        missing = set(kinds) - {case.fault for case in family.cases} - set(family.not_here)
        if missing:
            raise ValueError(f"{family.name}: no case for {', '.join(sorted(missing))}")
        yield it


def right(case: Case, outcome: Outcome) -> bool:
    """Whether all is as it has to be."""
    seen = outcome.back_s is not None and set(case.events) <= set(outcome.events)
    # a new life of the device counts from when it began, which the truth does not see
    knowable = case.account == "exact" and not case.fault.startswith("kill")
    counted = not knowable or outcome.lost == outcome.counted
    damaged = outcome.n_wrong == 0 or case.account != "exact"
    return seen and counted and damaged and (not outcome.wrong_frequency or case.account == "unseen")


# -- all of them -------------------------------------------------------------------------------------------------------


def outcomes(rounds: int, drivers: Sequence[str] = ()) -> Iterator[tuple[Family, Case, list[Outcome]]]:
    """Let everything go wrong."""
    for family in families():
        if drivers and not any(family.name.startswith(d) for d in drivers):
            continue
        if family.name == "uhd" and uhd_interpreter.first_usable() is None:
            sys.stderr.write(f"uhd: not measured: it needs the Debian package {uhd_interpreter.PACKAGE}\n")
            continue
        with bench(family) as it:
            for case in family.cases if not family.fresh else ():
                yield family, case, [it.round(case) for _ in range(rounds)]
        for case in family.cases if family.fresh else ():
            told = []
            for _ in range(rounds):
                with bench(family) as it:
                    told.append(it.round(case))
            yield family, case, told


def measure(quick: bool) -> Iterator[Row]:
    """Rows for :mod:`benchmarks.faults`."""
    report = Report("faults")
    for family, case, told in outcomes(ROUNDS_QUICK if quick else ROUNDS):
        name, n = f"{family.name}: {case.name}", len(told)
        events = ", ".join(dict.fromkeys(e for o in told for e in o.events)) or "no event"
        wrong = sum(not right(case, o) for o in told)
        yield report.add(name, f"not as it has to be ({events})", wrong, "rounds", n=n, at_most=0)
        back = [o.back_s for o in told if o.back_s is not None]
        if back:
            yield report.add(name, "frames again after", statistics.median(back), "s", n=len(back))
        yield report.add(name, "lost", sum(o.lost for o in told), family.unit, n=n)
        yield report.add(name, "lost, as the driver counts", sum(o.counted for o in told), family.unit, n=n)


def main() -> int:
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults.table", description=about)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each fault (%(default)s)")
    parser.add_argument("--driver", action="append", default=[], help="only those whose name begins so")
    parser.add_argument("--words", action="store_true", help="tell what the driver said")
    options = parser.parse_args()
    print(f"{machine()}, commit {commit()}\n")
    heads = ("driver", "fault", "events", "frames again after, s", "lost", "counted", "damaged, given", "n", "right")
    print(f"| {' | '.join(heads)} |\n|" + " --- |" * len(heads))
    failed = 0
    for family, case, told in outcomes(options.rounds, options.driver):
        events = ", ".join(dict.fromkeys(e for o in told for e in o.events)) or "none"
        back = [o.back_s for o in told if o.back_s is not None]
        after = f"{statistics.median(back):.2f} (at most {max(back):.2f})" if back else "never"
        wrong = sum(not right(case, o) for o in told)
        failed += wrong
        print(
            f"| {family.name} | {case.name} | {events} | {after} | {sum(o.lost for o in told)} {family.unit} | "
            f"{sum(o.counted for o in told)} | {sum(o.n_wrong for o in told)} | {len(told)} | "
            f"{'yes' if not wrong else f'NO, {wrong} rounds'} |",
            flush=True,
        )
        if options.words:
            print("    ", *{(o.said, o.wrong_frequency) for o in told}, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
