"""One thing that was looked at."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """What was found.

    Attributes:
        group: ``packages``, ``devices``, ``permissions``, ``host``, ``test``.
        what: What was looked at.
        state: ``warn``: something will not work, or not well; ``fail``: the receiver itself does not.
        says: What was found.
        remedy: What to do, empty where nothing is to be done.
    """

    group: str
    what: str
    state: State
    says: str
    remedy: str = ""


def worst(findings: list[Finding]) -> State:
    """The worst state of all."""
    states = {finding.state for finding in findings}
    return "fail" if "fail" in states else "warn" if "warn" in states else "ok"
