"""Any recording through any estimator: recorded samples -> estimates -> positions -> tracks, against recorded truth.

Run: ``python -m flowgraphs.replay --set path=run.mcap`` or ``hil replay run.mcap --estimator near_field_music``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from blocks.evaluation.evaluate import Evaluate, EvaluateParams
from blocks.geometry.polar_to_cartesian import PolarToCartesian
from blocks.subspace.music import FarFieldMusic, NearFieldMusic
from blocks.tracking.tracker import Tracker, TrackerParams
from drivers.mcap_replay import McapReplay
from drivers.sigmf_replay import SigmfReplay
from hil.block import Block
from hil.errors import GraphError
from hil.graph import Graph
from hil.params import Params, params_to_plain
from hil.source import Source

#: Estimators by short name, and how far their chain goes.
ESTIMATORS: dict[str, tuple[type[Block], str]] = {
    "near_field_music": (NearFieldMusic, "tracks"),
    "far_field_music": (FarFieldMusic, "estimates"),
}


class Settings(Params, frozen=True):
    path: Annotated[str, Meta(min_length=1, description="the recording: .mcap, .sigmf-meta or .sigmf")]
    speed: Annotated[float, Meta(ge=0, le=1e6, description="1: as it was, 10: ten times as fast, 0: at once")] = 0.0
    input: Annotated[str, Meta(description="last name of the recorded stream that is estimated from")] = "iq"
    truth: Annotated[str, Meta(description="last name of the recorded truth; left out where there is none")] = "truth"
    estimator: Annotated[str, Meta(description=f"{', '.join(ESTIMATORS)}, or a block as package.module:Class")] = (
        "near_field_music"
    )
    parameters: Annotated[dict[str, Any], Meta(description="of the estimator")] = {}
    until: Annotated[
        Literal["estimates", "positions", "tracks"] | None,
        Meta(description="how far to go; absent: tracks, for far_field_music estimates"),
    ] = None
    tracker: TrackerParams = TrackerParams(acceleration_psd_m2_per_s3=5.0)
    evaluate: EvaluateParams = EvaluateParams()


def build(settings: Settings) -> Graph:
    """Draw the receiver. What there is to connect depends on the recording, so this one looks into the file."""
    graph = Graph("replay")
    replay = graph.add(make_replay(settings.path, settings.speed))
    cls, default_end = _estimator(settings.estimator)
    graph.add(cls("estimator", **settings.parameters))
    graph.connect(f"replay.{_port(replay, settings.input, settings.path)}", "estimator")
    exposed = {"iq": f"replay.{settings.input}"}
    exposed |= {what: f"estimator.{port}" for port in cls.outputs if (what := _kind(cls, port)) is not None}
    end = settings.until or default_end
    if "estimates" in exposed and end != "estimates":
        graph.add(PolarToCartesian("cartesian"))
        graph.connect(exposed["estimates"], "cartesian")
        exposed["positions"] = "cartesian.positions"
    compare = {"single_frame": exposed["positions"]} if "positions" in exposed else {}
    if "positions" in exposed and end == "tracks":
        graph.add(Tracker("tracker", **params_to_plain(settings.tracker)))
        graph.connect(exposed["positions"], "tracker")
        exposed["positions"] = compare["tracked"] = "tracker.tracks"
    if settings.truth in replay.outputs:
        exposed["truth"] = f"replay.{settings.truth}"
        for name, output in compare.items():
            graph.add(Evaluate(name, **params_to_plain(settings.evaluate)))
            graph.connect(output, f"{name}.positions")
            graph.connect(exposed["truth"], f"{name}.truth")
    return graph.expose(**exposed)


def make_replay(path: str, speed: float, name: str = "replay") -> Source:
    """The driver for the file's format, with the outputs that the recording has."""
    cls = McapReplay if Path(path).suffix == ".mcap" else SigmfReplay
    return cls(name, path=path, speed=speed)


def _estimator(name: str) -> tuple[type[Block], str]:
    if name in ESTIMATORS:
        return ESTIMATORS[name]
    module_name, colon, class_name = name.partition(":")
    known = f"expected {', '.join(ESTIMATORS)}, or package.module:Class"
    if not colon:
        raise GraphError(f"no estimator {name!r}: {known}")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise GraphError(f"no estimator {name!r} ({error}): {known}") from error
    if not (isinstance(cls, type) and issubclass(cls, Block)):
        raise GraphError(f"{name!r} is no block: {known}")
    return cls, "tracks"


def _kind(cls: type[Block], port: str) -> str | None:
    """What a port carries, by its arrays."""
    fields = cls.outputs[port].fields or {}
    signs = {"heading_rad": "pose", "position_m": "positions", "spectrum_db": "spectrum", "azimuth_rad": "estimates"}
    return next((what for sign, what in signs.items() if sign in fields), None)


def _port(replay: Source, name: str, path: str) -> str:
    if name not in replay.outputs:
        raise GraphError(f"{path} has no stream {name!r}, it has {', '.join(replay.outputs)}: give the setting input")
    return name


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.replay")


if __name__ == "__main__":
    main()
