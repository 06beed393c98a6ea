"""A streaming receiver for radio localization: graphs of array streams, from a device to positions.

Importing this package opens nothing and imports no transport.
"""

from hil.array import ArrayGeometry, fraunhofer_distance, fresnel_distance
from hil.block import Block, Out
from hil.frame import Frame, Header, Loss
from hil.graph import Graph
from hil.params import Params
from hil.port import Port, field
from hil.source import Source

__all__ = [
    "ArrayGeometry",
    "Block",
    "Frame",
    "Graph",
    "Header",
    "Loss",
    "Out",
    "Params",
    "Port",
    "Source",
    "field",
    "fraunhofer_distance",
    "fresnel_distance",
]
