"""All searches at once, for a limited time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hil.discovery import iio, simulated, uhd
from hil.discovery.child import ChildFailed
from hil.discovery.found import Found
from hil.discovery.identify import USUAL, identify

Result = Sequence[Found] | Found | None


class Place(NamedTuple):
    """Where to look: a host with the usual ports, or one port; or the address of one device for its driver."""

    host: str = ""
    port: int | None = None
    driver: str | None = None
    address: str = ""


class Searched(NamedTuple):
    """What was found, and what could not be asked, in words by search."""

    found: list[Found]
    problems: dict[str, str]


def search(places: Sequence[Place], interpreter: Callable[[], str | None], timeout_s: float, *, wide: bool) -> Searched:
    """Look everywhere in parallel and return after ``timeout_s`` at the latest.

    Args:
        places: Hosts and addresses to ask.
        interpreter: Finds a Python that can import uhd; ``None``: there is none.
        timeout_s: For all of it. What has not answered by then is among the problems.
        wide: Also what announces itself: on USB, by multicast, by broadcast, and simulated devices of this host.
    """

    def ask_uhd() -> Result:
        path = interpreter()
        if path is None:
            raise ChildFailed("no Python here can import uhd: sudo apt-get install python3-uhd uhd-host (hil doctor)")
        return uhd.find(path, [*([""] if wide else []), *arguments], timeout_s)

    arguments = [p.address for p in places if p.driver == "uhd"]
    arguments += [f"addr={p.host}" for p in places if p.host and p.port is None]
    jobs: dict[str, Callable[[], Result]] = {}
    if wide or arguments:
        jobs["uhd"] = ask_uhd
    if wide:
        jobs["iio scan"] = lambda: iio.scan(timeout_s)
        jobs["simulated devices"] = lambda: simulated.find(min(timeout_s, 1.0))
    for place in places:
        if place.driver == "iio":
            jobs[place.address] = lambda p=place: iio.ask_uri(p.address, timeout_s)  # type: ignore[misc]
        elif place.host and place.port is not None:
            jobs[f"{place.host}:{place.port}"] = lambda p=place: identify(p.host, p.port, timeout_s)  # type: ignore[misc]
        elif place.host:
            for port, ask in USUAL.items():
                jobs[f"{place.host}:{port}"] = lambda h=place.host, n=port, a=ask: a(h, n, timeout_s)  # type: ignore[misc]
    return _collect(jobs, timeout_s)


def _collect(jobs: dict[str, Callable[[], Result]], timeout_s: float) -> Searched:
    answers: queue.Queue[tuple[str, Result | Exception]] = queue.Queue()

    def work(name: str, job: Callable[[], Result]) -> None:
        try:
            answers.put((name, job()))
        except Exception as error:  # told below
            answers.put((name, error))

    for name, job in jobs.items():  # daemons: one that hangs in a name server does not keep the process
        threading.Thread(target=work, args=(name, job), daemon=True, name=f"search {name}").start()
    end_s = time.monotonic() + timeout_s
    found: list[Found] = []
    waiting, problems = list(jobs), {}
    while waiting:
        try:
            name, answer = answers.get(timeout=max(0.0, end_s - time.monotonic()))
        except queue.Empty:
            break
        waiting.remove(name)
        if isinstance(answer, ChildFailed):
            problems[name] = str(answer)
        elif isinstance(answer, Exception):
            problems[name] = f"{type(answer).__name__}: {answer}"
        elif isinstance(answer, Found):
            found.append(answer)
        elif answer is not None:
            found += answer
    problems |= {name: f"no answer in {timeout_s:g} s" for name in waiting}
    return Searched(merged(found), problems)


def merged(found: Sequence[Found]) -> list[Found]:
    """One entry a device, sorted by kind: what a simulated device says of itself goes to what its protocol says."""
    by_place: dict[str, Found] = {}
    for one in sorted(found, key=lambda f: f.simulated):
        key = _place(one.address)
        known = by_place.get(key)
        if known is None:
            by_place[key] = one
        elif one.simulated:
            channels = one.channels if one.channels is not None else known.channels
            details = {**one.details, **known.details}
            by_place[key] = known._replace(
                simulated=True, address=one.address, channels=channels, name=one.name, details=details
            )
    others = {place for one in by_place.values() for place in _further_places(one.address)}
    return sorted((one for key, one in by_place.items() if key not in others), key=lambda f: (f.kind, f.address))


def _further_places(address: str) -> list[str]:
    """``host:port`` of the further ports of one device, ``srsran://host:2000,2001``."""
    host, colon, ports = address.partition("://")[2].partition("?")[0].rpartition(":")
    return [f"{host}:{port}" for port in ports.split(",")[1:]] if colon else []


def _place(address: str) -> str:
    """``host:port`` of an address, where it has them: how two searches know the same device."""
    text = address.partition("://")[2] or address
    text = text.removeprefix("ip:").partition("?")[0].partition(",")[0]
    if address.startswith("ip:") and ":" not in text:
        return f"{text}:{iio.PORT}"
    if address.startswith("heimdall://") and ":" not in text:
        return f"{text}:5000"
    name, equals, value = text.partition("=")
    return value if equals and name.startswith(("addr", "mgmt_addr")) else text.replace("localhost", "127.0.0.1")
