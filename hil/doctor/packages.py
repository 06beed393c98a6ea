"""Python and its packages: those that are needed, and those of each extra, against the versions that are asked for."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator, Sequence

from hil.doctor.finding import Finding

DISTRIBUTION = "hil-receiver"
#: Extras that nobody misses who uses the receiver.
_NOT_FOR_USE = ("all", "dev", "peers")
_OLDEST = (3, 11)
_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*([^;]*?)\s*(?:;\s*extra\s*==\s*[\"'](\w+)[\"'])?$")


def check_packages() -> Iterator[Finding]:
    """Python, the packages of the receiver, and of each extra."""
    python = sys.version.split()[0]
    if sys.version_info < _OLDEST:
        yield Finding("packages", "Python", "fail", python, "use Python 3.11 or newer")
    else:
        yield Finding("packages", "Python", "ok", f"{python} at {sys.executable}")
    try:
        requires = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", DISTRIBUTION, "warn", "runs from a folder, not installed", "make setup")
        return
    by_extra: dict[str, list[tuple[str, str]]] = {}
    for requirement in requires:
        match = _REQUIREMENT.match(requirement)
        if match and not requirement.startswith(DISTRIBUTION):
            by_extra.setdefault(match[3] or "", []).append((match[1], match[2]))
    for extra, wanted in by_extra.items():
        if extra not in _NOT_FOR_USE:
            yield check_extra(extra, wanted)


def check_extra(extra: str, wanted: Sequence[tuple[str, str]]) -> Finding:
    """Whether all packages of one extra are there in versions that do.

    Args:
        extra: Its name, empty for what is always needed.
        wanted: Name and version specifier of each.
    """
    what = f"extra {extra}" if extra else "packages"
    fix = f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install --force-reinstall {DISTRIBUTION}"
    there, wrong = [], []
    for name, specifier in wanted:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if fits(version, specifier):
            there.append(f"{name} {version}")
        else:
            wrong.append(f"{name} is {version}, wanted {specifier}")
    if wrong:
        return Finding("packages", what, "warn" if extra else "fail", ", ".join(wrong), fix)
    return Finding("packages", what, "ok", ", ".join(there))


def fits(version: str, specifier: str) -> bool:
    """Whether ``version`` is one of ``specifier`` (``>=1.9,<2``), by its numbers; local parts (``+cpu``) are free."""
    return all(
        _fits_one(version.partition("+")[0], clause.strip()) for clause in specifier.split(",") if clause.strip()
    )


def _fits_one(version: str, clause: str) -> bool:
    match = re.match(r"(>=|<=|==|!=|~=|<|>)\s*([0-9][0-9.]*)", clause)
    if match is None:
        return True  # a form that this package does not use
    have, want = numbers(version), numbers(match[2])
    length = max(len(have), len(want))
    a, b = have + (0,) * (length - len(have)), want + (0,) * (length - len(want))
    compatible = a >= b and have[: len(want) - 1] == want[:-1]
    return {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, "<": a < b, ">": a > b, "~=": compatible}[match[1]]


def numbers(version: str) -> tuple[int, ...]:
    """``"1.9.0rc1"`` as ``(1, 9, 0)``."""
    return tuple(int(n) for n in re.findall(r"\d+", re.split(r"[a-zA-Z+]", version)[0]))
