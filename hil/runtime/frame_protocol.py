"""Frames over a ZeroMQ socket, to any number of consumers, each with a queue and credit of its own.

Protocol, all multipart, on ROUTER (server) and DEALER (client):

========================================  =============================================================
client -> server
``hello``, map                            generation, the streams wanted (none: all), protocol version; where it has
                                          met a server before: which instance, frames begun and finished with
``ack``, u64                              finished with that many frames since ``hello``
``bye``
server -> client
stream, header, arrays ...                a frame, see :mod:`hil.wire`
empty, ``welcome``, instance,             answers each hello; frames follow for this generation only, the first of
generation, first                         them having the number ``first``
========================================  =============================================================

A client that hears nothing says hello again, so it finds a server that was restarted; frames that arrive before the
welcome of the newest generation belong to a lost connection and are discarded; the server sends them again, except the
one that the client had begun. A welcome also tells a client how many frames were sent before it, so that one whose
connection broke knows what it has missed. A consumer that is killed has its counts in a file, so that the one that
takes its place can tell: acknowledgements that were still on their way at that moment would not.
"""

from __future__ import annotations

import struct

PROTOCOL = 1
#: A client that has heard nothing for so long says hello again.
HELLO_INTERVAL_S = 0.25
#: ... and begins a new generation when that is not answered either.
ANSWER_TIMEOUT_S = 2.0
#: A server that is kept busy sending looks so often who else wants frames.
POLL_INTERVAL_S = 0.02
#: A server whose clients have not finished with all frames looks so often whether they are still there.
PROBE_INTERVAL_S = 1.0
#: Counts and instances travel as these.
COUNT = struct.Struct("<Q")
