"""Steering vectors: exact spherical wavefront, its Fresnel approximation, and the plane wave.

The phase reference is the origin of the array frame (the array's centre); a range is measured from there.
Everything is written in inverse range ``k = 1/r``, which makes the far field the regular point ``k = 0`` and
loses no digits there. NumPy or torch arrays in, the same kind out (array API standard), leading batch axes
kept, differentiable in torch.
"""

from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, is_torch_array
from array_api_compat import device as device_of

from hil.errors import ParamError

Array = Any  # NumPy or torch array; the array API standard has no static type that both satisfy
Model = Literal["exact", "fresnel", "plane"]

SPEED_OF_LIGHT_M_S = 299_792_458.0
_SMALLEST_SQUARE = 1e-24  # a source on a sensor: keeps sqrt and its gradient finite; (1e-12 r)^2, far below any array


def wavelength_m(frequency_hz: float) -> float:
    """Wavelength in vacuum, metres."""
    if not frequency_hz > 0:
        raise ParamError(f"expected frequency_hz > 0, got {frequency_hz}")
    return SPEED_OF_LIGHT_M_S / frequency_hz


def direction_vector(azimuth_rad: Array, elevation_rad: Array = 0.0) -> Array:
    """Unit vector ``[..., xyz]``: azimuth from +y towards +x, elevation from the x-y plane towards +z."""
    xp, (az, el) = _same_kind(azimuth_rad, elevation_rad)
    az, el = xp.broadcast_arrays(az, el)
    return xp.stack([xp.cos(el) * xp.sin(az), xp.cos(el) * xp.cos(az), xp.sin(el)], axis=-1)


def path_difference(
    position_m: Array, direction: Array, inverse_range_per_m: Array, *, model: Model = "exact"
) -> tuple[Array, Array]:
    r"""Extra path to each sensor over the path to the origin, and the amplitude ``r / r_m``.

    With ``q = |p|^2``, ``s = u . p`` and ``k = 1/r``::

        exact    (k q - 2 s) / (1 + sqrt(1 - 2 k s + k^2 q))   equals r_m - r without cancellation
        fresnel  -s + k (q - s^2) / 2                          [NF] Eq. (3), about the centre, any geometry
        plane    -s

    Fresnel is within pi/8 rad of exact beyond ``hil.array.fresnel_distance_oblique`` (at broadside beyond
    ``fresnel_distance``), plane beyond ``fraunhofer_distance``, where ``|p|`` is at most half the aperture.

    Args:
        position_m: ``[sensor, xyz]`` metres.
        direction: Unit vectors ``[..., xyz]`` towards the sources.
        inverse_range_per_m: ``[...]`` 1/m, at least 0; 0 is the far field.
        model: Which wavefront.

    Returns:
        ``(r_m - r) [..., sensor]`` metres and ``r / r_m [..., sensor]`` (of the exact wavefront; ones for
        plane).
    """
    xp, (u, k, p) = _same_kind(direction, inverse_range_per_m, position_m)
    s = u @ xp.permute_dims(p, (1, 0))  # (..., sensor)
    if model == "plane":
        return -s, xp.ones_like(s)
    q = xp.sum(p * p, axis=-1)  # (sensor,)
    k = k[..., None]
    root = xp.sqrt(xp.clip(1 - 2 * k * s + k * k * q, min=_SMALLEST_SQUARE))  # r_m / r
    if model == "fresnel":
        return -s + 0.5 * k * (q - s * s), 1 / root
    if model == "exact":
        return (k * q - 2 * s) / (1 + root), 1 / root
    raise ParamError(f"path_difference: expected model 'exact', 'fresnel' or 'plane', got {model!r}")


def steering_vector(
    position_m: Array,
    source_m: Array,
    wavelength_m: Array,
    *,
    model: Model = "exact",
    amplitude: bool = False,
) -> Array:
    r"""Narrowband steering vectors of sources at Cartesian positions.

    .. math:: a_m = (r / r_m)^{amp} \exp(-j 2\pi (r_m - r) / \lambda)

    [NF] Eq. (3) (``amplitude=False``) and Eq. (4) (``True``); the paper's index counts from one end of the
    array and it stops at the quadratic phase, here the reference is the centre and ``model`` chooses.

    Args:
        position_m: Sensors, ``[sensor, xyz]`` metres; NumPy is taken over to a torch source's dtype and
            device.
        source_m: Sources ``[..., xyz]`` metres in the array frame, off the origin and off every sensor.
        wavelength_m: Scalar or ``[...]``, metres.
        model: Which wavefront.
        amplitude: Multiply by ``r / r_m``, free-space decay relative to the centre.

    Returns:
        ``[..., sensor]`` complex, precision of ``source_m``.
    """
    direction, inverse_range = _polar(source_m)
    path, gain = path_difference(position_m, direction, inverse_range, model=model)
    return _phasor(path, gain if amplitude else None, wavelength_m)


def steering_vector_polar(
    position_m: Array,
    azimuth_rad: Array,
    range_m: Array,
    wavelength_m: Array,
    *,
    elevation_rad: Array = 0.0,
    model: Model = "exact",
    amplitude: bool = False,
) -> Array:
    """As :func:`steering_vector`, from azimuth, elevation ``[...]`` rad and range ``[...]`` m.

    An infinite range is the far field. On a line array ``r_n = sqrt(r^2 + d_n^2 - 2 r d_n sin(azimuth))``.
    Gradients with respect to an infinite range are not defined: use :func:`path_difference` with inverse
    range there.
    """
    _, (r, az, el) = _same_kind(range_m, azimuth_rad, elevation_rad)
    path, gain = path_difference(position_m, direction_vector(az, el), 1 / r, model=model)
    return _phasor(path, gain if amplitude else None, wavelength_m)


def steering_vector_wideband(
    position_m: Array,
    source_m: Array,
    frequency_hz: Array,
    *,
    model: Model = "exact",
    amplitude: bool = False,
    common_delay: bool = False,
) -> Array:
    r"""Steering vectors of every subcarrier, the delay applied over the whole band (beam squint included).

    .. math:: a_{m,k} = (r / r_m)^{amp} \exp(-j 2\pi f_k (r_m - r) / c)

    As [BS] Eq. (3) with its element distances read as ``r^(n)``.

    Args:
        position_m: ``[sensor, xyz]`` metres.
        source_m: ``[..., xyz]`` metres in the array frame.
        frequency_hz: Radio frequency of each subcarrier, ``[subcarrier]`` Hz (not the offset from the
            carrier).
        model: Which wavefront.
        amplitude: Multiply by ``r / r_m``.
        common_delay: Keep ``exp(-j 2 pi f_k r / c)``, the delay from the source to the array's centre.

    Returns:
        ``[..., sensor, subcarrier]`` complex, precision of ``source_m``. Use float64 sources with
        ``common_delay``: its phase is ``2 pi r / lambda``, thousands of turns.
    """
    direction, inverse_range = _polar(source_m)
    path, gain = path_difference(position_m, direction, inverse_range, model=model)
    xp, (path, inverse_range, f) = _same_kind(path, inverse_range, frequency_hz)
    if common_delay:
        path = path + 1 / inverse_range[..., None]
    phasor = xp.exp(-2j * np.pi / SPEED_OF_LIGHT_M_S * (path[..., None] * f))
    return gain[..., None] * phasor if amplitude else phasor


def _polar(source_m: Array) -> tuple[Array, Array]:
    """Direction ``[..., xyz]`` and inverse range ``[...]`` 1/m of Cartesian points."""
    xp, (source,) = _same_kind(source_m)
    r = xp.sqrt(xp.clip(xp.sum(source * source, axis=-1), min=_SMALLEST_SQUARE))
    return source / r[..., None], 1 / r


def _phasor(path: Array, gain: Array | None, wavelength_m: Array) -> Array:
    xp, (path, wavelength) = _same_kind(path, wavelength_m)
    phasor = xp.exp(-2j * np.pi * (path / wavelength[..., None] if wavelength.ndim else path / wavelength))
    return phasor if gain is None else gain * phasor


def _same_kind(*arrays: Array) -> tuple[Any, list[Array]]:
    """Bring all to one kind: torch where any is torch, then the dtype and device of the first such one."""
    lead = next((a for a in arrays if is_torch_array(a)), None)
    if lead is None:
        numpy_arrays = [np.asarray(a) for a in arrays]
        dtype = numpy_arrays[0].dtype if numpy_arrays[0].dtype in (np.float32, np.float64) else np.dtype(np.float64)
        return array_namespace(numpy_arrays[0]), [a.astype(dtype, copy=False) for a in numpy_arrays]
    xp = array_namespace(lead)
    kind, device = lead.dtype, device_of(lead)
    # asarray would detach a tensor from its graph; torch warns on read-only NumPy memory, so hand it a copy
    return xp, [
        xp.astype(a, kind, copy=False) if is_torch_array(a) else xp.asarray(np.array(a), dtype=kind, device=device)
        for a in arrays
    ]
