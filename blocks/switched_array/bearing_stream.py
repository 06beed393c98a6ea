"""What flows from a switched receiver to resection: bearings with who was heard."""

from hil.port import field
from hil.streams import ESTIMATES

#: Bearings of emitters in the array frame. ``std_rad``: by the packets' own noise. ``response``: what the array heard.
EMITTER_BEARINGS = {
    **ESTIMATES,
    "emitter": field("int64", "source"),
    "std_rad": field("float64", "source", "rad"),
    "coherence": field("float64", "source"),
    "response": field("complex128", "source sensor"),
    "offset_hz": field("float64", "source", "Hz", optional=True),
}
