"""Benchmarks that have a module for each family of devices, run one after the other."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence

from benchmarks.report import Report, Row

#: Families, in the order in which they are measured.
FAMILIES = ("iio", "usrp", "heimdall", "gnodeb", "gnuradio", "srsran")
Measure = Callable[[bool], Iterator[Row]]


def run(benchmark: str, extra: Sequence[str], doc: str | None, argv: Sequence[str] | None = None) -> int:
    """Measure each family's module of ``benchmarks.BENCHMARK`` with its ``measure(quick)``; return the exit status.

    A family that fails is told on stderr and the others go on; the status is then 1.

    Args:
        benchmark: Name of the package.
        extra: Modules beside those of the families.
        doc: What it measures.
        argv: Arguments, else those of the process.
    """
    modules = [m for m in (*FAMILIES, *extra) if importlib.util.find_spec(f"benchmarks.{benchmark}.{m}") is not None]
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{benchmark}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs, not how fast it is")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.add_argument("--family", action="append", choices=modules, help="only this one; may be given several times")
    options = parser.parse_args(argv)
    report = Report(benchmark, as_json=options.json)
    failed = []
    for name in options.family or modules:
        try:
            measure: Measure = importlib.import_module(f"benchmarks.{benchmark}.{name}").measure
            for row in measure(options.quick):
                report.take(row)
        except Exception as error:  # a number of one family is no reason to lose those of the others
            failed.append(name)
            print(f"{benchmark} {name} failed: {type(error).__name__}: {error}", file=sys.stderr)
    report.finish()
    return 1 if failed else 0
