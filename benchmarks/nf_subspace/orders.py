"""How many sources: what criteria say of the eigenvalues of a covariance, sampled or made by a network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.nf_subspace.methods import Test
from benchmarks.nf_subspace.networks import choose
from blocks.subspace.model_order import eigenvalue_summary, model_order, threshold_order

CRITERIA = ("mdl", "aic", "threshold")


def decided(method: str, criterion: str, test: Test) -> npt.NDArray[np.int64] | None:
    """Number of sources of each example; None where there are no weights for it.

    Args:
        method: One on the sample covariance (``2D MUSIC``) or on the one of NF-SubspaceNet.
        criterion: One of :data:`CRITERIA`.
        test: The examples.
    """
    if method.startswith("2D MUSIC"):
        covariance, threshold = test.covariance, None
    else:
        chosen = choose("nf_subspacenet", test.places)
        if not method.startswith("NF-SubspaceNet") or chosen is None:
            return None
        covariance = test.surrogate(chosen.name, chosen.model)
        threshold = float(getattr(chosen.model.config, "threshold", 0.5))
    eigenvalues = np.linalg.eigvalsh(covariance)
    if criterion == "threshold":
        # noise has power 1 in the samples; the largest of its eigenvalues is below (1 + sqrt(N / T))^2
        edge = (1 + np.sqrt(eigenvalues.shape[-1] / test.samples.shape[-1])) ** 2
        return np.asarray(threshold_order(eigenvalues, edge if threshold is None else threshold))
    summary = eigenvalue_summary(eigenvalues, test.samples.shape[-1])
    return np.asarray(model_order(summary, "mdl" if criterion == "mdl" else "aic"))
