"""Elements that are not where they are said to be: [NF] challenge C2, an array that nobody has measured."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hil.params import Params, Seed
from sim_device.draws import Draw, generator

F64 = npt.NDArray[np.float64]


class Displacement(Params, frozen=True):
    """How far elements are off along x. The array's descriptor goes on telling where they ought to be."""

    most_wavelengths: Annotated[
        float, Meta(ge=0, le=10, description="uniform between minus and plus this, at the first carrier")
    ] = 0.0
    seed: Annotated[Seed | None, Meta(description="which array it is; absent: the device's seed")] = None


def displacement_m(n_elements: int, most_m: float, seed: Seed) -> F64:
    """Uniform between ``-most_m`` and ``most_m`` along x, [NF] Section IV-B3: ``[element, xyz]`` m.

    The same for the same seed; twice as far for twice ``most_m``.
    """
    off = np.zeros((n_elements, 3))
    off[:, 0] = generator(seed, Draw.DISPLACEMENT).uniform(-1, 1, size=n_elements) * most_m
    return off
