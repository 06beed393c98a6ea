"""The points of [NF] Figs. 4 to 8 and Tables II and III, on test data off any grid. SNR is that of power."""

from __future__ import annotations

from typing import Any, NamedTuple

from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance

#: What the published code calls 0, 5 and 10 dB is 0, 10 and 20 dB: its amplitude is 10^(SNR / 10).
SNR_DB = (0.0, 10.0, 20.0, 30.0)

CLASSIC = ("2D MUSIC", "2D MUSIC refined")
NEURAL = ("NF-SubspaceNet", "NF-SubspaceNet refined", "NF-SubspaceNet block", "DCD-MUSIC", "DCD-MUSIC refined")
#: As the array was learned to be, by weights that learned it.
LEARNED = ("2D MUSIC positions learned", "2D MUSIC positions learned, refined")
BASELINES = ("DeepCNN", "TransMUSIC")
#: At the one setting that they are trained for.
PUBLISHED = "published choices"
COHERENT_CLASSIC = ("2D MUSIC smoothed", "beamforming", "greedy likelihood")
FOUR = (*CLASSIC, *COHERENT_CLASSIC, *BASELINES, *NEURAL)
ALL = (*FOUR, PUBLISHED)


class Case(NamedTuple):
    """One point of a figure.

    Attributes:
        figure: Of the paper, ``4a`` for its first panel; ``4d`` is not in it.
        title: What the panel is of.
        x: Where on its axis.
        axis: What that is.
        data: Of the test data, see :class:`sim_device.near_field_places.NearFieldPlacesParams`.
        methods: What is compared.
        measure: What is shown: distance, angle, or distance and the number of sources.
    """

    figure: str
    title: str
    x: float
    axis: str
    data: dict[str, Any]
    methods: tuple[str, ...] = FOUR
    measure: str = "position"

    @property
    def label(self) -> str:
        return f"{'Table' if self.figure == 'III' else 'Fig.'} {self.figure}, {self.title}, {self.axis} {self.x:g}"


def cases(*, quick: bool) -> list[Case]:
    """All points; in a quick run two of each figure."""
    return [case for make in (_fig4, _mixed, _fig7, _fig8, _table3) for case in make(quick)]


def _few(values: tuple[float, ...], quick: bool) -> tuple[float, ...]:
    return (values[0], values[-1]) if quick else values


def _fig4(quick: bool) -> list[Case]:
    panels: list[tuple[str, str, dict[str, Any]]] = [
        ("4a", "2 non-coherent", {}),
        ("4b", "2 coherent", {"coherent": True, "random_phase": True}),
        ("4c", "2 coherent, T=10", {"coherent": True, "random_phase": True, "n_snapshots": 10}),
        ("4d", "2 coherent in phase", {"coherent": True}),
    ]
    out = []
    for figure, title, data in panels:
        snr = (20.0,) if figure == "4d" else (0.0, 20.0) if quick else SNR_DB
        methods = ALL if figure == "4d" else FOUR
        out += [Case(figure, title, v, "dB", {**data, "snr_db": (v, v)}, methods) for v in snr]
    return out


def _mixed(quick: bool) -> list[Case]:
    """Table II is the point at 20 dB."""
    out = []
    methods = (*CLASSIC, "NF-SubspaceNet", "NF-SubspaceNet block", "DCD-MUSIC")
    for figure, title, coherent in (("5", "2 to 8 non-coherent", False), ("6", "2 to 8 coherent", True)):
        for v in (20.0,) if quick else (0.0, 20.0):
            data = {"coherent": coherent, "n_sources": (2, 8), "snr_db": (v, v)}
            out.append(Case(figure, title, v, "dB", data, methods, "order"))
    return out


def _off(eta: float) -> dict[str, Any]:
    """One array for all examples, as in the published code, of a seed that nothing was chosen by."""
    return {"position_error": eta, "position_error_of": "array", "position_error_seed": 1}


def _fig7(quick: bool) -> list[Case]:
    three = {"coherent": True, "n_sources": (3, 3), "snr_db": (0.0, 0.0)}
    methods = (
        *CLASSIC,
        "greedy likelihood",
        *LEARNED,
        "NF-SubspaceNet",
        "NF-SubspaceNet block",
        "DCD-MUSIC",
        "DCD-MUSIC refined",
    )
    out = [
        Case("7a", "3 coherent, 0 dB", v, "eta/wavelength", {**three, **_off(v)}, methods)
        for v in _few((0.0, 0.1, 0.25), quick)
    ]
    return out + [
        Case("7b", "3 coherent, 0 dB", float(t), "T", {**three, "n_snapshots": t}, methods)
        for t in ((10, 100) if quick else (10, 30, 100, 200))
    ]


def _fig8(quick: bool) -> list[Case]:
    """[NF]'s sources are not coherent; 8b is not in it."""
    large = {"array": {"kind": "ula", "n": 64}, "frequency_hz": 5e9, "snr_db": (20.0, 20.0)}
    methods = (*CLASSIC, *LEARNED, *NEURAL)
    panels: list[tuple[str, str, dict[str, Any]]] = [
        ("8", "N=64, 2 non-coherent, 20 dB", {}),
        ("8b", "N=64, 2 coherent, 20 dB", {"coherent": True, "random_phase": True}),
    ]
    return [
        Case(figure, title, v, "eta/wavelength", {**large, **data, **_off(v)}, methods)
        for figure, title, data in panels
        for v in ((0.0, 0.25) if quick or figure == "8b" else (0.0, 0.05, 0.1, 0.25))
    ]


def _table3(quick: bool) -> list[Case]:
    aperture = ArrayGeometry.ula(15, 0.5).aperture_m
    nearest, fraunhofer = fresnel_distance(aperture, 1.0), fraunhofer_distance(aperture, 1.0)
    methods = (*CLASSIC, *NEURAL)
    out = [
        Case("III", "2 non-coherent, 20 dB, waves by Eq. (3)", 0.5, "Fraunhofer x",
             {"snr_db": (20.0, 20.0), "model": "fresnel", "amplitude": False}, methods, "angle")
    ]  # fmt: skip
    for far in _few((0.5, 1.0, 2.0, 5.0, 10.0), quick):
        data: dict[str, Any] = {"snr_db": (20.0, 20.0)}
        if far != 0.5:  # that far they are drawn anyway
            data["range_m"] = (nearest, far * fraunhofer)
        out.append(Case("III", "2 non-coherent, 20 dB", far, "Fraunhofer x", data, methods, "angle"))
    return out
