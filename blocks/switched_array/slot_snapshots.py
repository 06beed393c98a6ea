"""Phase samples of a switched receiver to one complex sample a slot."""

import numpy as np
import numpy.typing as npt

from blocks.switched_array.slot_timing import SlotTiming
from hil.errors import EstimationError

C128 = npt.NDArray[np.complex128]


def slot_snapshots(phase_rad: npt.ArrayLike, timing: SlotTiming) -> C128:
    r"""Combine the samples of each used slot.

    .. math:: z_s = \sum_k w_k e^{j(\phi_{s,k} - k \Delta - s \Delta_s)} / \sum_k w_k

    with the tone's step :math:`\Delta` a sample and :math:`\Delta_s` a slot: what is left turns with the carrier offset
    from slot to slot. The modulus tells how well the samples agree. The offset inside a slot is left in: it is the same
    for every slot and belongs to the common phase.

    Args:
        phase_rad: ``[..., slot, sample]`` radians, all slots of the packet, the first one slot 0.
        timing: Which slots and samples to use.

    Returns:
        ``[..., used slot]`` complex128, modulus at most 1.

    Raises:
        EstimationError: The packet is too short, has another number of samples a slot, or has values not finite.
    """
    phase = np.asarray(phase_rad, dtype=np.float64)
    weight = np.array(timing.sample_weight)
    if phase.ndim < 2 or phase.shape[-1] != len(weight) or phase.shape[-2] <= timing.last_slot:
        raise EstimationError(
            f"slot_snapshots: expected [..., slot > {timing.last_slot}, sample = {len(weight)}], "
            f"got {list(phase.shape)}"
        )
    used = phase[..., timing.first_slot : timing.last_slot + 1, :]
    if not np.isfinite(used).all():
        raise EstimationError("slot_snapshots: a phase is not finite; leave such packets out")
    turned = used - timing.tone_per_sample_rad * np.arange(len(weight))
    z: C128 = (weight * np.exp(1j * turned)).sum(-1) / weight.sum()
    return z * np.exp(-1j * timing.tone_per_slot_rad * timing.slots)


def element_samples(snapshots: C128, offset_rad: npt.ArrayLike, timing: SlotTiming) -> C128:
    """Take the carrier offset out and average the slots of each element: one array snapshot a packet.

    Args:
        snapshots: ``[..., used slot]`` from :func:`slot_snapshots`.
        offset_rad: Carrier offset, radians a slot, ``[...]``.
        timing: As for the snapshots.

    Returns:
        ``[..., sensor]`` complex128; the modulus is the coherence of that element's slots.
    """
    turn = np.exp(-1j * np.asarray(offset_rad, dtype=np.float64)[..., None] * timing.slots)
    pick = np.zeros((len(timing.slots), timing.n_elements))
    pick[np.arange(len(timing.slots)), timing.element_of_slot] = 1.0
    mean: C128 = (snapshots * turn) @ (pick / pick.sum(0))
    return mean
