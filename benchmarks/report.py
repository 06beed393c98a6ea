"""What a benchmark says: one row a number, as a table for people or as one JSON object a line.

A row names what it was measured against in the same run and the ratio of ours to theirs, turned so that above 1 is
better; only these ratios compare between machines.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_ALL_HEADS = ("case", "metric", "value", "95 %", "n", "against", "ratio", "target", "met")
#: Columns that only some benchmarks have.
_HEADS = {"cpu_share": "CPU s/s", "age_ms": "age ms"}
ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        n: How many measurements (rounds, frames; the case or metric says which) are behind it.
        ci95: 95 % confidence interval of the value, where the measurements allow one.
        against: What the ratio compares with.
        ratio: Ours to theirs, above 1 is better.
        target: In words; ``meets`` tells whether it is reached, ``None`` where there is none.
        cpu_share: Processor seconds a second that it took meanwhile, of all processes that took part on our side.
        age_ms: Median time from when the last sample of a frame was there until the frame was.
    """

    benchmark: str
    case: str
    metric: str
    value: float
    unit: str
    n: int
    ci95: tuple[float, float] | None
    against: str | None
    ratio: float | None
    target: str | None
    meets: bool | None
    machine: str
    commit: str
    cpu_share: float | None = None
    age_ms: float | None = None


class Report:
    """Collects the rows of one benchmark.

    Args:
        benchmark: Its name.
        as_json: Print each row as soon as it is there; otherwise a table at the end.
    """

    def __init__(self, benchmark: str, *, as_json: bool = False) -> None:
        self.benchmark = benchmark
        self.rows: list[Row] = []
        self._as_json = as_json
        self._machine, self._commit = machine(), commit()

    def add(
        self,
        case: str,
        metric: str,
        value: float,
        unit: str,
        *,
        n: int,
        ci95: tuple[float, float] | None = None,
        against: str | None = None,
        ratio: float | None = None,
        ratio_at_least: float | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        cpu_share: float | None = None,
        age_ms: float | None = None,
    ) -> Row:
        """Add a row. A target is given for the ratio, or for the value itself."""
        # NumPy's numbers are no JSON
        value, ratio = float(value), None if ratio is None else float(ratio)
        target, meets = None, None
        if ratio_at_least is not None:
            target, meets = f"ratio >= {ratio_at_least:g}", ratio is not None and bool(ratio >= ratio_at_least)
        elif at_least is not None:
            target, meets = f">= {at_least:g} {unit}", bool(value >= at_least)
        elif at_most is not None:
            target, meets = f"<= {at_most:g} {unit}", bool(value <= at_most)
        row = Row(
            self.benchmark, case, metric, value, unit, n, ci95, against, ratio, target, meets,
            self._machine, self._commit, cpu_share, age_ms,
        )  # fmt: skip
        self.take(row)
        return row

    def take(self, row: Row) -> None:
        """Add a row that was made elsewhere."""
        self.rows.append(row)
        if self._as_json:
            print(json.dumps(dataclasses.asdict(row)), flush=True)

    def finish(self) -> None:
        """Print the table, unless rows were printed as they came."""
        if not self._as_json:
            print(to_table(self.rows))


def to_table(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table, the machine and the commit above it."""
    if not rows:
        return "nothing was measured"
    lines = [f"{rows[0].benchmark}: {rows[0].machine}, commit {rows[0].commit}", ""]
    more = [name for name in ("cpu_share", "age_ms") if any(getattr(r, name) is not None for r in rows)]
    heads = [*_ALL_HEADS, *(_HEADS[name] for name in more)]
    lines += [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for r in rows:
        interval = "" if r.ci95 is None else f"{r.ci95[0]:.4g} .. {r.ci95[1]:.4g}"
        ratio = "" if r.ratio is None else f"{r.ratio:.3g}"
        met = {None: "", True: "yes", False: "NO"}[r.meets]
        lines.append(
            f"| {r.case} | {r.metric} | {r.value:.4g} {r.unit} | {interval} | {r.n} | {r.against or ''} | {ratio} "
            f"| {r.target or ''} | {met} |" + "".join(_cell(getattr(r, name)) for name in more)
        )
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return " |" if value is None else f" {value:.3g} |"


def median_ci95(samples: Sequence[float] | npt.NDArray[Any]) -> tuple[float, tuple[float, float] | None]:
    """Return the median and its 95 % interval, from order statistics: no distribution is assumed.

    The interval holds the median with the probability that a fair coin falls between its two ranks; below six samples
    no pair of them reaches 95 %, and there is none.
    """
    x = np.sort(np.asarray(samples, dtype=np.float64))
    median = float(np.median(x))
    if x.size < 6:
        return median, None
    half = 1.96 * np.sqrt(x.size) / 2
    low, high = max(0, int(np.floor(x.size / 2 - half))), min(x.size - 1, int(np.ceil(x.size / 2 + half)))
    return median, (float(x[low]), float(x[high]))


def machine() -> str:
    """Processor, cores this process may use, system, Python."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def commit() -> str:
    """The commit that was measured, with a ``+`` where files of the packages differ from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "hil", "blocks", "drivers", "sim_device")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"  # not a git checkout
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
