"""The scene's sources as terminals of a cell: each has an RNTI and an SRS resource of its own."""

from __future__ import annotations

from typing import NamedTuple

from hil.errors import ParamError
from hil.formats.srs import Srs
from hil.params import convert_params, params_to_plain
from sim_device.scene import Source


class Terminal(NamedTuple):
    """One terminal.

    Attributes:
        rnti: Its name in the cell.
        paths: How its signal comes to the array: the sources of one coherent group, or a single one. Each path has
            power, phase and, by its distance, delay.
        srs: Its resource.
    """

    rnti: int
    paths: tuple[Source, ...]
    srs: Srs


def terminals_of(sources: tuple[Source, ...], srs: Srs, first_rnti: int) -> tuple[Terminal, ...]:
    """Terminals in the order of the scene, their occasions spread evenly over the period of ``srs``.

    Two terminals never disturb one another: what a real cell does by slots, combs, cyclic shifts and bands is taken to
    be done well.

    Raises:
        ParamError: More terminals than RNTIs from ``first_rnti`` on.
    """
    groups: dict[tuple[str, int], list[Source]] = {}
    for source in sources:
        key = ("source", source.id) if source.group is None else ("group", source.group)
        groups.setdefault(key, []).append(source)
    if first_rnti + len(groups) > 0xFFF0:
        raise ParamError(f"{len(groups)} terminals from RNTI {first_rnti} on: expected at most 65519")
    out = []
    for i, paths in enumerate(groups.values()):
        offset = (srs.offset_slots + i * srs.period_slots // len(groups)) % srs.period_slots
        resource = convert_params(Srs, {**params_to_plain(srs), "offset_slots": offset}, "srs")
        out.append(Terminal(first_rnti + i, tuple(paths), resource))
    return tuple(out)
