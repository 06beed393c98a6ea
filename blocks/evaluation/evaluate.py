"""Compare a stream of positions with the truth of the same time."""

from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from blocks.evaluation.position_error import PositionError
from hil.block import Block, Result
from hil.frame import AnyArray
from hil.params import Params
from hil.port import field
from hil.streams import POSITIONS, TRUTH, port_of

#: Errors of one frame: of its matched pairs, and as figures of the whole frame.
ERRORS = {
    "truth_id": field("int64", "pair"),
    "distance_m": field("float64", "pair", "m"),
    "range_error_m": field("float64", "pair", "m"),
    "angle_error_rad": field("float64", "pair", "rad"),
    "n_missed": field("int64", ""),
    "n_false": field("int64", ""),
    "rmspe_m": field("float64", "", "m"),
}


_METRES = {"unit": "m"}


class EvaluateParams(Params, frozen=True):
    gate_m: Annotated[
        float,
        Meta(gt=0, extra_json_schema=_METRES, description="An estimate farther from every source is false"),
    ] = 5.0
    cutoff_m: (
        Annotated[
            float,
            Meta(gt=0, extra_json_schema=_METRES, description="Cost of a missed or extra source in the RMSPE"),
        ]
        | None
    ) = None  # as gate_m


class Evaluate(Block):
    """Match estimates to the truth frame by frame; :meth:`stats` is the summary.

    A frame that only one of the two streams has is not compared and counts in ``unmatched_frames``. Where the
    estimates carry identities, ``id_switches`` counts how often a true source came to carry another one. Setting a
    parameter while running starts the summary anew.
    """

    params: EvaluateParams
    inputs = {"positions": port_of(POSITIONS), "truth": port_of(TRUTH)}
    outputs = {"errors": port_of(ERRORS)}

    def setup(self) -> None:
        self._error = PositionError(self.params.gate_m, self.params.cutoff_m or self.params.gate_m)
        self._id_of_truth: dict[int, int] = {}
        self._n_id_switches = 0

    def process(self, positions: dict[str, AnyArray], truth: dict[str, AnyArray]) -> Result:
        origin = np.zeros(3) if self.array is None else self.array.origin_m
        errors = self._error.add(positions["position_m"], truth["position_m"], origin)
        pairs = errors.assignment
        truth_id = truth["id"][pairs.truth]
        if "id" in positions:
            for true, seen in zip(truth_id.tolist(), positions["id"][pairs.estimate].tolist(), strict=True):
                self._n_id_switches += self._id_of_truth.setdefault(true, seen) != seen
                self._id_of_truth[true] = seen
        return {
            "truth_id": truth_id,
            "distance_m": pairs.distance_m,
            "range_error_m": errors.range_error_m,
            "angle_error_rad": errors.angle_error_rad,
            "n_missed": np.array(pairs.n_missed),
            "n_false": np.array(pairs.n_false),
            "rmspe_m": np.array(errors.rmspe_m),
        }

    def stats(self) -> dict[str, Any]:
        """The summary of :class:`~blocks.evaluation.position_error.PositionError`, and how the streams joined."""
        if not hasattr(self, "_error"):
            return {}
        return {
            **self._error.summary(),
            "id_switches": self._n_id_switches,
            "unmatched_frames": self.n_unmatched,
        }
