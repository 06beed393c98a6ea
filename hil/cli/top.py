"""``hil top``: what a running graph does, drawn anew twice a second."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hil.cli.guard import Verbose, guarded
from hil.errors import ControlError

if TYPE_CHECKING:
    from rich.console import Group

    from hil.runtime.control import ControlClient

#: Wider than any table, to learn how wide one would like to be.
_ANY_WIDTH = 10_000


@guarded
def top(
    address: Annotated[
        str | None, typer.Argument(metavar="ADDR", help="Control address, name or process; absent: what runs here.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Once, then end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object each time.")] = False,
    interval_s: Annotated[float, typer.Option("--interval", min=0.05, metavar="SECONDS")] = 0.5,
    verbose: Verbose = 0,
) -> None:
    """Watch frames, rates, drops, queues and latencies of every block and edge of a running graph.

    \b
    [cyan]hil top[/cyan]
    [cyan]hil top --once --json | jq .drops[/cyan]
    """
    from hil.cli.find import find_control
    from hil.cli.output import write_json
    from hil.runtime.control import ControlClient

    with ControlClient(find_control(address)) as client:
        sample = _Sample(client.request("stats"))
        if as_json and once:
            write_json(sample.stats)
        elif as_json:
            for later in _samples(client, interval_s):
                write_json(later.stats)
        elif once or not sys.stdout.isatty():
            second = next(_samples(client, interval_s), None)  # rates need two looks
            _print(second or sample, sample if second else None)
        else:
            _watch(client, sample, interval_s)


def _samples(client: ControlClient, interval_s: float) -> Iterator[_Sample]:
    """One every ``interval_s`` until what is watched has ended."""
    while True:
        time.sleep(interval_s)
        try:
            yield _Sample(client.request("stats"))
        except ControlError:
            return


class _Sample:
    """Statistics, and when they were taken."""

    def __init__(self, stats: dict[str, Any]) -> None:
        self.stats = stats
        self.at_s = time.monotonic()

    def rate(self, before: _Sample | None, group: str, name: str, key: str) -> float | None:
        if before is None or name not in before.stats.get(group, {}) or self.at_s <= before.at_s:
            return None
        step: float = self.stats[group][name][key] - before.stats[group][name][key]
        return max(step, 0) / (self.at_s - before.at_s)


def _watch(client: ControlClient, before: _Sample, interval_s: float) -> None:
    """Until it ends, or Ctrl-C; the last state stays on the screen."""
    from rich.live import Live

    from hil.cli.console import StdoutConsole

    console = StdoutConsole(140)
    shown = _render(before, None, console.width)
    with Live(shown, console=console, auto_refresh=False, screen=True) as live, contextlib.suppress(KeyboardInterrupt):
        # Workers report five times a second: rates over less than two seconds would jump.
        window = deque([before], maxlen=max(round(2.0 / interval_s), 1))
        for sample in _samples(client, interval_s):
            shown = _render(sample, window[0], console.width)
            live.update(shown, refresh=True)
            window.append(sample)
    console.print(shown)


def _print(sample: _Sample, before: _Sample | None) -> None:
    """Once, into whatever stdout is; a line too long for it is wrapped there, nothing is cut."""
    from rich.measure import Measurement

    from hil.cli.console import StdoutConsole

    console = StdoutConsole(140)
    shown = _render(sample, before, _ANY_WIDTH)
    needed = Measurement.get(console, console.options.update(width=_ANY_WIDTH), shown).maximum
    console.width = max(console.width, needed)
    console.print(shown)


def _render(sample: _Sample, before: _Sample | None, width: int) -> Group:
    """Tables no wider than ``width`` where names and numbers leave that room: what blocks say is cut to fit."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    stats = sample.stats
    if "nodes" not in stats:  # a device, which counts in its own words
        table = Table(box=None, pad_edge=False, show_header=False)
        for name, value in stats.items():
            table.add_row(name, escape(str(value)))
        return Group(table)
    nodes = Table(box=None, pad_edge=False, header_style="cyan")
    for heading in ("node", "frames", "per s", "p50 ms", "p99 ms", "age p50", "age p99", "skipped", "says"):
        side: Literal["left", "right"] = "left" if heading in ("node", "says") else "right"
        nodes.add_column(heading, justify=side, no_wrap=True)
    rows: list[list[str]] = []
    for name, node in stats["nodes"].items():
        times = stats["latency"][name]
        count = "frames_out" if node["frames_out"] else "frames_in"
        says = ", ".join(f"{k} {_short(v)}" for k, v in node["stats"].items() if isinstance(v, int | float))
        service, age = times["service"], times["age"]
        cells = [service.get("p50_ms"), service.get("p99_ms"), age.get("p50_ms"), age.get("p99_ms")]
        rate = _short(sample.rate(before, "nodes", name, count))
        rows.append([name, str(node[count]), rate, *map(_short, cells), str(node["skipped"]), says])
    taken = sum(max(len(str(c.header)), *(len(r[i]) for r in rows)) + 2 for i, c in enumerate(nodes.columns[:-1]))
    for *row, says in rows:
        nodes.add_row(*row, escape(_cut(says, max(width - taken, len("says")))))
    edges = Table(box=None, pad_edge=False, header_style="cyan")
    for heading in ("edge", "frames", "MB/s", "waiting", "dropped", "lost in flight", "blocked ms"):
        edges.add_column(heading, justify="left" if heading == "edge" else "right", no_wrap=True)
    for label, edge in stats["edges"].items():
        if " -> tap-" in label:
            continue
        rate_b = sample.rate(before, "edges", label, "bytes")
        waiting = f"{edge['depth']}/{edge['capacity']}"
        drops = str(edge["dropped"]), str(edge["lost_in_flight"])
        megabytes = None if rate_b is None else rate_b / 1e6
        edges.add_row(label, str(edge["frames"]), _short(megabytes), waiting, *drops, _short(edge["blocked_ms"]))
    drops_text = ", ".join(f"{cause} {n}" for cause, n in stats["drops"].items()) or "none"
    return Group(f"[bold]{escape(stats['graph'])}[/bold]   drops: {drops_text}", nodes, "", edges, *_events(stats))


def _events(stats: Mapping[str, Any]) -> list[str]:
    return [f"event: {e['event']} {e['worker']} {e.get('reason', '')}" for e in stats["events"][-5:]]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
