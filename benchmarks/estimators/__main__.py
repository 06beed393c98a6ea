"""How fast the estimators are, against pyroomacoustics, plain NumPy and the matrix products that they cannot avoid.

``python -m benchmarks.estimators [--quick] [--json] [--plots DIR]``. One thread, one run: what is compared takes turns,
and every result is checked before it is timed. Times are medians over rounds. pyroomacoustics is the extra ``peers``;
where it is absent its rows are left out, which the command says.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks.estimators.growth import growth, plot
from benchmarks.estimators.large import large
from benchmarks.estimators.line import far_field
from benchmarks.estimators.near_field import near_field
from benchmarks.estimators.planar import planar
from benchmarks.report import Report


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, small sizes")
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.add_argument("--plots", type=Path, help="draw cost against size into this folder")
    options = parser.parse_args()
    report = Report("estimators", as_json=options.json)
    n_rounds = 7 if options.quick else 61
    with threadpool_limits(1):
        far_field(report, n_rounds)
        near_field(report, n_rounds, 64 if options.quick else 500)
        if not options.quick:
            large(report, n_rounds)
        planar(report, n_rounds)
        sizes = (64, 256) if options.quick else (16, 64, 256, 1024, 4096)
        table = growth(report, 3 if options.quick else 11, sizes, (1, 4) if options.quick else (1, 2, 4, 8, 16))
    if options.plots:
        plot(table, options.plots)
    report.finish()


if __name__ == "__main__":
    main()
