"""What flows between blocks, written once: array names, axis order, units.

Positions are metres in the world frame; angles are radians in the array's own frame: azimuth from broadside (+y)
towards +x, elevation towards +z. A ``source`` axis may have length 0: nothing was found.
"""

from __future__ import annotations

from hil.port import Field, Port, field

#: Samples of an array, full scale 1.
IQ = {"iq": field("complex64", "sensor snapshot", "FS")}
#: Samples as the converter gave them: counts, in-phase and quadrature. Devices order the axes as they like and say so
#: in the header; the descriptor's ``raw`` has ``full_scale`` (counts of full scale 1) and, where it is not 0, the
#: ``offset`` to subtract before. The block ToComplex makes IQ of it.
RAW_IQ = {"iq": field("int16", "sensor snapshot component", "count")}
RAW_IQ_INTERLEAVED = {"iq": field("int16", "snapshot sensor component", "count")}
RAW_IQ_BYTES = {"iq": field("uint8", "sensor snapshot component", "count")}
#: Channel frequency response of one terminal at the array; frequencies are offsets from the header's ``frequency_hz``.
CFR = {
    "cfr": field("complex64", "sensor subcarrier"),
    "subcarrier_hz": field("float64", "subcarrier", "Hz"),
    "rnti": field("int64", ""),
}
#: The same as a base station gives it: counts of an arbitrary scale, in-phase and quadrature. The descriptor's ``raw``
#: has ``full_scale`` (counts that become 1) where there is one. The block CfrToComplex makes CFR of it.
RAW_CFR = {
    "cfr": field("int16", "sensor subcarrier component", "count"),
    "subcarrier_hz": field("float64", "subcarrier", "Hz"),
    "rnti": field("int64", ""),
}
#: Phases of one receiver that is switched over the elements of an array, one slot each, and who sent them.
SWITCHED = {
    "phase_rad": field("float64", "slot sample", "rad"),
    "emitter": field("int64", ""),
}
#: Sample covariance, and how many snapshots are in it.
COVARIANCE = {
    "covariance": field("complex128", "sensor sensor", "FS^2"),
    "n_snapshots": field("int64", ""),
}
#: Directions, and ranges where the wavefront tells them (``+inf`` where it is plane). ``polar`` = azimuth_rad,
#: elevation_rad, inverse_range_per_m: the inverse keeps the covariance finite for a plane wave. ``id`` is there where
#: the signal tells who sent it.
ESTIMATES = {
    "azimuth_rad": field("float64", "source", "rad"),
    "elevation_rad": field("float64", "source", "rad"),
    "range_m": field("float64", "source", "m"),
    "polar_covariance": field("float64", "source polar polar", optional=True),
    "power_db": field("float64", "source", "dB", optional=True),
    "id": field("int64", "source", optional=True),
}
#: Positions with covariance; ``id`` is there after tracking.
POSITIONS = {
    "position_m": field("float64", "source xyz", "m"),
    "covariance_m2": field("float64", "source xyz xyz", "m^2", optional=True),
    "azimuth_rad": field("float64", "source", "rad", optional=True),
    "elevation_rad": field("float64", "source", "rad", optional=True),
    "range_m": field("float64", "source", "m", optional=True),
    "power_db": field("float64", "source", "dB", optional=True),
    "id": field("int64", "source", optional=True),
}
#: Tracks: positions with identities that last, velocity, and whether the newest frame had the source at all.
TRACKS = {
    **POSITIONS,
    "id": field("int64", "source"),
    "velocity_m_per_s": field("float64", "source xyz", "m/s"),
    "coasting": field("bool", "source"),
}
#: Where the sources are. Devices and annotated recordings emit it, evaluation consumes it, estimators cannot.
TRUTH = {
    "position_m": field("float64", "source xyz", "m"),
    "id": field("int64", "source"),
    "velocity_m_per_s": field("float64", "source xyz", "m/s", optional=True),
    "power_db": field("float64", "source", "dB", optional=True),
}
#: A spectrum over azimuth and range or azimuth alone, decimated for people to look at.
SPECTRUM = {
    "spectrum_db": field("float32", "azimuth range", "dB"),
    "azimuth_rad": field("float64", "azimuth", "rad"),
    "range_m": field("float64", "range", "m"),
}
#: The receiver's own pose on a map: heading clockwise from +y.
POSE = {
    "position_m": field("float64", "xyz", "m"),
    "heading_rad": field("float64", "", "rad"),
    "pose_covariance": field("float64", "pose pose"),
}


def port_of(stream: dict[str, Field], *, latest: bool = False) -> Port:
    """A port of one of the streams above."""
    return Port.of(latest=latest, **stream)
