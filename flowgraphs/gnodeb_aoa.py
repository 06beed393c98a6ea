"""Directions of the terminals of a 5G cell: channel estimates of SRS -> complex -> subcarriers -> DBF and MUSIC.

The base station is an OpenAirInterface gNodeB (T tracer, live or a record file), any that gives FAPI SRS.indication, or
the simulated one, which is the default.

Run: ``python -m flowgraphs.gnodeb_aoa`` or ``hil run flowgraphs.gnodeb_aoa --set feed.uri=tcp://gnb:2021``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from blocks.cfr.cfr_angle import CfrAngle, CfrAngleParams
from blocks.cfr.cfr_to_complex import CfrToComplex
from blocks.cfr.select_subcarriers import SelectSubcarriers, SelectSubcarriersParams
from drivers.fapi import Fapi
from drivers.oai_tracer import OaiTracer
from drivers.oai_tracer_file import OaiTracerFile
from hil.array_params import Array, build_array
from hil.errors import GraphError
from hil.formats.fapi import Profile
from hil.graph import Graph
from hil.params import Count, Hz, Index, Params, params_to_plain
from hil.source import Source


class Feed(Params, frozen=True):
    """Where channel estimates come from, and what they do not tell themselves."""

    protocol: Annotated[Literal["t_tracer", "fapi"], Meta(description="how the base station tells")] = "t_tracer"
    uri: Annotated[
        str | None,
        Meta(description="tcp://host:2021 of a T tracer, udp://0.0.0.0:port for FAPI; absent: start a simulated one"),
    ] = None
    path: Annotated[str | None, Meta(description="a record file of the T tracer instead")] = None
    fapi_profile: Annotated[Profile, Meta(description="byte order of FAPI")] = "nfapi"
    frequency_hz: Annotated[Hz, Meta(le=1e12, description="centre of the carrier")] = 3.5e9
    scs_khz: Annotated[Literal[15, 30, 60, 120], Meta(description="subcarrier spacing")] = 30
    n_rb: Annotated[Count, Meta(le=275, description="resource blocks of the carrier")] = 273
    first_subcarrier: Annotated[Index, Meta(description="of the sounded band")] = 0
    n_subcarriers: Annotated[Count, Meta(description="of the sounded band")] = 3264
    array: Annotated[Array | None, Meta(description="where the antennas are; absent: a line, half a wavelength")] = None
    simulated: Annotated[
        dict[str, Any], Meta(description="parameters of the simulated base station: device.sources, srs, prg_size ...")
    ] = {}


class Settings(Params, frozen=True):
    feed: Feed = Feed()
    select: SelectSubcarriersParams = SelectSubcarriersParams()
    dbf: CfrAngleParams = CfrAngleParams(method="dbf")
    music: CfrAngleParams = CfrAngleParams(method="music", spectrum_every=25)


def build(settings: Settings) -> Graph:
    """Draw the receiver."""
    graph = Graph("gnodeb_aoa")
    # Blocks
    graph.add(make_source(settings.feed))
    graph.add(CfrToComplex("complex"))
    graph.add(SelectSubcarriers("select", **params_to_plain(settings.select)))
    graph.add(CfrAngle("dbf", **params_to_plain(settings.dbf)))
    graph.add(CfrAngle("music", **params_to_plain(settings.music)))
    # Connections
    graph.connect("gnodeb.cfr", "complex")
    graph.connect("complex.cfr", "select")
    graph.connect("select.cfr", "dbf")
    graph.connect("select.cfr", "music")
    return graph.expose(
        estimates="music.estimates", estimates_dbf="dbf.estimates", spectrum="music.spectrum", cfr="complex.cfr"
    )


def make_source(feed: Feed) -> Source:
    """The driver of the feed."""
    carrier = {"frequency_hz": feed.frequency_hz, "scs_khz": feed.scs_khz, "n_rb": feed.n_rb}
    band = {"first_subcarrier": feed.first_subcarrier}
    array = None if feed.array is None else params_to_plain(feed.array)
    if feed.path is not None:
        if feed.uri is not None or feed.protocol != "t_tracer":
            raise GraphError(
                "feed.path is a record file of the T tracer: leave out feed.uri, and feed.protocol as it is"
            )
        geometry = None if feed.array is None else build_array(feed.array, 1, feed.frequency_hz).to_dict()
        srs = {**carrier, **band, "n_subcarriers": feed.n_subcarriers}
        return OaiTracerFile("gnodeb", path=feed.path, array=geometry, srs=srs)
    where: dict[str, Any] = {"uri": feed.uri, "array": array}
    if feed.uri is None:
        where = {"embedded": True, "device": simulated(feed), "array": array}
    if feed.protocol == "fapi":
        return Fapi("gnodeb", **where, profile=feed.fapi_profile, srs={**carrier, **band})
    return OaiTracer("gnodeb", **where, srs={**carrier, **band, "n_subcarriers": feed.n_subcarriers})


def simulated(feed: Feed) -> dict[str, Any]:
    """Parameters of the simulated base station: the carrier and the array of the feed, and what is asked for."""
    asked = feed.simulated
    array = {} if feed.array is None else {"array": params_to_plain(feed.array)}
    device = {"frequency_hz": feed.frequency_hz, **array, **asked.get("device", {})}
    srs = {"scs_khz": feed.scs_khz, "n_rb": feed.n_rb, **asked.get("srs", {})}
    return {**asked, "device": device, "srs": srs}


def main() -> None:
    from hil.cli import run_flowgraph

    run_flowgraph("flowgraphs.gnodeb_aoa")


if __name__ == "__main__":
    main()
