"""Captures of a switched 8-element circle to bearings, and to the receiver's own position and heading.

Run: ``hil run flowgraphs.ble_uca8`` with the captures in ``../shared/data/ble-uca8``, or
``--set captures.paths='["my/*.csv"]'``. A calibration and a site survey, learned at other positions, are made by
``python -m benchmarks.ble_uca8 --train DIR --save FOLDER`` and given by ``--set bearing.calibration=...``,
``--set group.calibration=...`` and ``--set resection.survey=...``.
"""

from __future__ import annotations

import math
from typing import Annotated

from msgspec import Meta

from blocks.evaluation.evaluate import Evaluate, EvaluateParams
from blocks.resection.resection_block import Beacon, Resection, ResectionParams
from blocks.switched_array.switched_bearing import (
    GroupBearings,
    GroupBearingsParams,
    SwitchedBearing,
    SwitchedBearingParams,
)
from drivers.table import Table
from hil.array import ArrayGeometry
from hil.graph import Graph
from hil.params import Params, params_to_plain

#: Neighbouring elements are 4.56 cm apart; the switch goes round counter-clockwise.
_ARRAY = ArrayGeometry.uca(
    8, 0.0456 / (2 * math.sin(math.pi / 8)), channel_map=(0, 7, 6, 5, 4, 3, 2, 1), array_id="uca8"
)
#: Middle of the band: the channel of a packet is not recorded.
_FREQUENCY_HZ = 2.44e9
#: Phases are recorded in 1/201 of half a turn.
_UNIT_RAD = math.pi / 201


class Captures(Params, frozen=True):
    """Files, one a position; 600 packets each."""

    paths: Annotated[tuple[str, ...], Meta(min_length=1, description="CSV files or patterns")] = (
        "../shared/data/ble-uca8/*.csv",
    )
    speed: Annotated[float, Meta(ge=0, le=1e6, description="1: as it was, 10: ten times as fast, 0: at once")] = 0.0


class Settings(Params, frozen=True):
    captures: Captures = Captures()
    bearing: SwitchedBearingParams = SwitchedBearingParams(frequency_hz=_FREQUENCY_HZ, overflow_unit_rad=_UNIT_RAD)
    group: GroupBearingsParams = GroupBearingsParams(frequency_hz=_FREQUENCY_HZ, n_packets=600, every=100)
    resection: ResectionParams = ResectionParams(
        beacons=(
            Beacon(id=1, x_m=12.0, y_m=12.0),
            Beacon(id=2, x_m=0.0, y_m=0.0),
            Beacon(id=4, x_m=0.0, y_m=12.0),
            Beacon(id=5, x_m=12.0, y_m=0.0),
        )
    )
    evaluate: EvaluateParams = EvaluateParams()


def build(settings: Settings) -> Graph:
    """Draw the receiver."""
    graph = Graph("ble_uca8")
    # Blocks
    graph.add(
        Table(
            "captures",
            paths=list(settings.captures.paths),
            speed=settings.captures.speed,
            array=_ARRAY.to_dict(),
            port="switched",
            fields={
                "phase_rad": {
                    "columns": "2:113",
                    "shape": [37, 3],
                    "axes": "slot sample",
                    "unit": "rad",
                    "scale": _UNIT_RAD,
                },
                "emitter": {"columns": 1, "dtype": "int64"},
            },
            time={"columns": 0, "unit": "s"},
            truth_from_name={"pattern": r"x(?P<x>\d+)y(?P<y>\d+)", "scale_m": [3.0, 3.0, 1.0]},
        )
    )
    graph.add(SwitchedBearing("bearing", **params_to_plain(settings.bearing)))
    graph.add(GroupBearings("group", **params_to_plain(settings.group)))
    graph.add(Resection("resection", **params_to_plain(settings.resection)))
    graph.add(Evaluate("evaluate", **params_to_plain(settings.evaluate)))
    # Connections
    graph.connect("captures.switched", "bearing")
    graph.connect("bearing.bearings", "group")
    graph.connect("group.bearings", "resection")
    graph.connect("resection.positions", "evaluate.positions")
    graph.connect("captures.truth", "evaluate.truth")
    return graph.expose(
        positions="resection.positions",
        pose="resection.pose",
        bearings="group.bearings",
        packets="bearing.bearings",
        truth="captures.truth",
    )


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.ble_uca8")


if __name__ == "__main__":
    main()
