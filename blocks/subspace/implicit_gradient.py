"""Gradients through a minimum: by the implicit function theorem, whatever iteration found it. Torch."""

from collections.abc import Callable
from typing import Any

Array = Any  # torch


def follows_gradient(*arrays: Array) -> bool:
    """Whether any of the arrays is a torch tensor that somebody wants a gradient of."""
    return any(getattr(a, "requires_grad", False) for a in arrays)


def attach_gradient(point: Array, gradient_of: Callable[[Array], Array], held: Array) -> Array:
    r"""``point``, with its derivative :math:`-H^{-1} \partial g / \partial x` in whatever ``gradient_of`` depends on.

    Exact where ``point`` is a minimum, to the second derivatives, which a Gauss-Newton iteration leaves out; the start
    of the iteration has no derivative.

    Args:
        point: Unknowns ``[..., unknown]`` at the minimum.
        gradient_of: Gradient of the cost ``[..., unknown]`` at unknowns of that shape, differentiable; leading axes are
            independent of each other.
        held: Unknowns that a limit holds: they do not move, ``[..., unknown]``.
    """
    import torch  # only those who have tensors come here

    at = point.detach()
    with torch.enable_grad():
        moved = at.clone().requires_grad_(True)
        gradient = gradient_of(moved)
        rows = [
            torch.autograd.grad(gradient[..., i].sum(), moved, retain_graph=True)[0] for i in range(at.shape[-1])
        ]  # fmt: skip
    hessian = torch.stack(rows, dim=-2).detach()
    # unit diagonal: radians and 1/m differ by orders of magnitude
    scale = torch.diagonal(hessian, dim1=-2, dim2=-1).abs().clamp(min=1e-300).sqrt()
    free = (~held).to(at.dtype) / scale
    eye = torch.eye(at.shape[-1], dtype=at.dtype, device=at.device)
    scaled = hessian * free[..., :, None] * free[..., None, :] + eye * held.to(at.dtype)[..., None, :]
    change = gradient_of(at)
    step: Array = torch.linalg.solve(scaled, ((change - change.detach()) * free)[..., None])[..., 0] * free
    return at - step
