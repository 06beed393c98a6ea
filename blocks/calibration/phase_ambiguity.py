"""Phases that changed by a quarter or a half turn: what dividers of local oscillators do at a retune or a restart."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hil.errors import ParamError

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class PhaseSteps(NamedTuple):
    """How phases differ from those that were stored.

    Attributes:
        steps: Whole steps of ``2 pi / n_states``, ``[sensor]``, 0 .. n_states - 1; 0 at the reference.
        residual_rad: What is left without them, ``[sensor]``, within half a step; the median channel's is 0.
    """

    steps: I64
    residual_rad: F64


def phase_steps(measured_rad: F64, stored_rad: F64, n_states: int, reference: int = 0) -> PhaseSteps:
    """Compare phases with stored ones, both relative to one channel, up to whole steps.

    A channel whose divider by two (or four) came up in another state is off by a multiple of pi (or pi / 2) exactly,
    whatever the temperature; what is left over tells whether the stored phases still hold. The reference may have come
    up in another state as well: the steps of the others are relative to it.

    Args:
        measured_rad: ``[sensor]``.
        stored_rad: ``[sensor]``.
        n_states: 4 for quarter turns, 2 for half turns, 1 for none.
        reference: Channel whose step is 0.

    Raises:
        ParamError: Shapes that differ, or another number of states.
    """
    if measured_rad.shape != stored_rad.shape or measured_rad.ndim != 1 or n_states not in (1, 2, 4):
        raise ParamError(
            f"phase_steps: expected two arrays [sensor] and 1, 2 or 4 states, got {list(measured_rad.shape)}, "
            f"{list(stored_rad.shape)} and {n_states}"
        )
    difference = measured_rad - stored_rad
    difference = difference - difference[reference]
    # the reference's own drift moves all others: it is taken out as the centre of what is left of a turn of one step
    centre = np.angle(np.exp(1j * n_states * difference).sum()) / n_states
    steps = np.rint((difference - centre) / (2 * np.pi / n_states)).astype(np.int64)
    steps -= steps[reference]
    residual = np.angle(np.exp(1j * (difference - steps * 2 * np.pi / n_states)))
    residual = np.angle(np.exp(1j * (residual - np.median(residual))))
    return PhaseSteps(steps % n_states, residual)
