"""Undo the overflow of phases that were kept in one signed byte."""

import itertools

import numpy as np
import numpy.typing as npt

from hil.errors import ParamError

F64 = npt.NDArray[np.float64]


def resolve_overflow(phase_rad: npt.ArrayLike, unit_rad: float, tone_per_sample_rad: float) -> F64:
    r"""Return phases in which a value that lost 256 units has them back.

    A recorder that counts phase in units of ``unit_rad`` and keeps half a turn ``n = pi / unit_rad > 128`` as positive
    numbers in a signed byte turns each count ``c`` of 128 .. n into ``c - 256``. What is recorded as -128 .. n - 256 is
    then ambiguous: it may be itself or 256 units more, and 256 units are no multiple of a turn. Inside one slot the
    tone steps by a known phase, so of all readings of a slot's samples the one whose samples agree best,
    :math:`\max |\sum_k e^{j(\phi_k - k\Delta)}|`, is taken. The two readings of a sample are ``256 unit_rad`` apart
    modulo a turn (131 degrees for n = 201): far more than the noise of a sample.

    Args:
        phase_rad: Phases as recorded, ``[..., slot, sample]`` radians.
        unit_rad: One unit of the recorder, radians.
        tone_per_sample_rad: Phase step of the tone from sample to sample, with the carrier offset where it is known.

    Returns:
        ``[..., slot, sample]`` float64 radians, up to 256 units above those that came.

    Raises:
        ParamError: The unit is not positive.
    """
    if not unit_rad > 0:
        raise ParamError(f"resolve_overflow: unit_rad must be above 0, got {unit_rad}")
    phase = np.asarray(phase_rad, dtype=np.float64)
    counts = np.rint(phase / unit_rad)
    half_turn = np.rint(np.pi / unit_rad)
    ambiguous = (counts >= -128) & (counts <= half_turn - 256)
    if half_turn <= 128 or not ambiguous.any():
        return phase
    lift = 256 * unit_rad
    n_samples = phase.shape[-1]
    best = np.full(phase.shape[:-1], -1.0)
    reading = np.zeros(phase.shape, dtype=bool)
    tone = tone_per_sample_rad * np.arange(n_samples)
    for bits in itertools.product((False, True), repeat=n_samples):
        lifted = np.array(bits)
        agreement = np.abs(np.exp(1j * (phase + lift * lifted - tone)).sum(-1))
        better = (agreement > best) & (ambiguous | ~lifted).all(-1)
        best = np.where(better, agreement, best)
        reading = np.where(better[..., None], lifted, reading)
    return phase + lift * reading
