"""The end of a run in one object, and as tables for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hil.frame import Loss
from hil.graph import Graph
from hil.source import Source

#: What an evaluation block's statistics have; see :mod:`blocks.evaluation`.
_ERRORS = ("rmse_m", "median_error_m", "missed", "false")


def condense(graph: Graph, result: Mapping[str, Any], printed: str | None, n_frames: int, lost: Loss) -> dict[str, Any]:
    """From the runtime's totals to the summary that is printed.

    Args:
        graph: What ran.
        result: What :meth:`hil.graph.Graph.run` returned.
        printed: The output that was printed, ``"tracker.tracks"``.
        n_frames: How many of its frames; of the source's, where nothing is printed.
        lost: What the headers of these told was lost before them.

    Returns:
        ``frames``, ``drops`` by cause, ``lost`` as the frames
        themselves tell, ``latency`` with p50 and p99 in milliseconds by stage, and end to end: from the moment at which
        this host received a frame to its position. Where blocks compared with the truth, ``evaluation`` has what each
        found; the figures of the one that saw what was printed are beside it: ``rmse_m, median_error_m, missed,
        false``.
    """
    latency = result["latency"]
    node = printed.partition(".")[0] if printed else None
    stages = {name: _milliseconds(times["service"]) for name, times in latency.items() if times["service"].get("n")}
    evaluation = {
        name: totals["stats"] for name, totals in result["nodes"].items() if "rmse_m" in totals.get("stats", {})
    }
    summary: dict[str, Any] = {
        "graph": result["graph"],
        "duration_s": result.get("duration_s"),
        "frames": n_frames,
        "frames_by_node": result["frames"],
        "drops": {**result["drops"], **_device_drops(graph, result)},
        "lost": lost._asdict(),
        "latency": {"stages": stages, "end_to_end": _milliseconds(latency[node]["age"]) if node in latency else None},
        "restarts": result["restarts"],
        "events": result["events"],
        "stats": {n: t["stats"] for n, t in result["nodes"].items() if t["stats"] and n not in evaluation},
    }
    if evaluation:
        summary["evaluation"] = evaluation
        best = evaluation[_evaluation_of(graph, printed, list(evaluation))]
        summary |= {key: best.get(key) for key in _ERRORS}
    return summary


def print_summary(summary: Mapping[str, Any]) -> None:
    """The summary for people, on stdout."""
    from rich.table import Table

    from hil.cli.console import StdoutConsole

    console = StdoutConsole(110)
    duration = summary["duration_s"]
    took = "" if duration is None else f" in {duration:.1f} s"
    console.print(f"\n[bold]{summary['graph']}[/bold]: {summary['frames']} frames{took}")
    stages = Table(box=None, pad_edge=False, header_style="cyan")
    for heading in ("stage", "frames", "p50 ms", "p99 ms"):
        stages.add_column(heading, justify="left" if heading == "stage" else "right")
    for name, n in summary["frames_by_node"].items():
        times = summary["latency"]["stages"].get(name)
        stages.add_row(name, str(n), *(("", "") if times is None else (_ms(times["p50_ms"]), _ms(times["p99_ms"]))))
    whole = summary["latency"]["end_to_end"]
    if whole is not None:
        stages.add_row("end to end", str(summary["frames"]), _ms(whole["p50_ms"]), _ms(whole["p99_ms"]), style="bold")
    console.print(stages)
    console.print("drops: " + (", ".join(f"{cause} {n}" for cause, n in summary["drops"].items()) or "none"))
    lost = ", ".join(f"{what} {n}" for what, n in summary["lost"].items() if n)
    if lost:
        console.print(f"lost before the frames that came, as these tell: {lost}")
    for event in summary["events"]:
        console.print(f"event: {event['event']} {event['worker']} {event.get('reason', '')}")
    if "evaluation" in summary:
        console.print(_errors_table(summary["evaluation"]))


def _errors_table(evaluation: Mapping[str, Mapping[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="cyan")
    keys = {"rmse_m": "RMSE m", "median_error_m": "median m", "range_rmse_m": "range RMSE m", "missed": "missed"}
    keys |= {"false": "false", "id_switches": "id switches"}
    table.add_column("against the truth")
    for heading in keys.values():
        table.add_column(heading, justify="right")
    for name, stats in evaluation.items():
        cells = [stats.get(key) for key in keys]
        table.add_row(name, *("-" if c is None else f"{c:.3f}" if isinstance(c, float) else str(c) for c in cells))
    return table


def _evaluation_of(graph: Graph, printed: str | None, found: list[str]) -> str:
    """The evaluation that is fed by what is printed, else the last one."""
    for connection in graph.connections:
        if ".".join(connection.source) == printed and connection.sink[0] in found:
            return connection.sink[0]
    return found[-1]


def _device_drops(graph: Graph, result: Mapping[str, Any]) -> dict[str, int]:
    """Frames that never came out of a device, as drivers count them."""
    sources = [name for name, node in graph.nodes.items() if isinstance(node, Source)]
    n = sum(result["nodes"].get(name, {}).get("stats", {}).get("frames_lost", 0) for name in sources)
    return {"device": n} if n else {}


def _milliseconds(times: Mapping[str, Any]) -> dict[str, Any] | None:
    return {k: times[k] for k in ("p50_ms", "p99_ms", "n")} if times.get("n") else None


def _ms(value: float) -> str:
    return f"{value:.2f}"
