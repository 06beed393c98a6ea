"""Management packets: how a host finds the endpoints of a board and sets them up.

The host writes down a path, one hop a node (transport, crossbar, stream endpoint), with operations for each node; the
node does them, takes them off, and appends what it was asked for to the last hop (RFNoC specification, 2.2.6).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple, Protocol

from hil.errors import WireError
from sim_device.servers.usrp.chdr import WORD

(NOP, ADVERTISE, SELECT_DESTINATION, RETURN, INFO_REQUEST, INFO_RESPONSE, WRITE, READ, READ_RESPONSE) = range(9)

#: Kinds of nodes.
CROSSBAR, STREAM_ENDPOINT, TRANSPORT = 1, 2, 3
_MOST_OPERATIONS = 512


class Operation(NamedTuple):
    code: int
    payload: int


class Transaction(NamedTuple):
    """The payload of a management packet."""

    protocol: int
    width: int
    src_epid: int
    hops: list[list[Operation]]

    def pack(self) -> bytes:
        words = [self.src_epid | len(self.hops) << 16 | self.width << 45 | self.protocol << 48]
        for hop in self.hops:
            words += [op.payload << 16 | op.code << 8 | len(hop) - 1 - i for i, op in enumerate(hop)]
        return struct.pack(f"<{len(words)}Q", *words)


def parse_management(payload: bytes) -> Transaction:
    """Take the payload of a management packet apart.

    Raises:
        WireError: It is none.
    """
    n_words = len(payload) // WORD
    if not 1 <= n_words <= _MOST_OPERATIONS:
        raise WireError(f"CHDR management: 1 to {_MOST_OPERATIONS} words, got {len(payload)} bytes")
    head, *words = struct.unpack_from(f"<{n_words}Q", payload)
    hops: list[list[Operation]] = []
    hop: list[Operation] = []
    for word in words:
        hop.append(Operation(word >> 8 & 0xFF, word >> 16))
        if word & 0xFF == 0:
            hops.append(hop)
            hop = []
    n_hops = head >> 16 & 0x3FF
    if hop or n_hops != len(hops):
        raise WireError(f"CHDR management: {n_hops} hops are announced, {len(hops)} came whole")
    return Transaction(head >> 48, head >> 45 & 7, head & 0xFFFF, hops)


class NodeInfo(NamedTuple):
    """What a node says of itself."""

    device_id: int
    kind: int
    instance: int
    extended: int

    def pack(self) -> int:
        return self.device_id | self.kind << 16 | self.instance << 20 | self.extended << 30


class ManagedNode(Protocol):
    """A node that management packets pass."""

    def info(self) -> NodeInfo: ...

    def write(self, address: int, value: int) -> None: ...

    def read(self, address: int) -> int: ...

    def next_node(self, port: int | None) -> ManagedNode | None:
        """Where packets go from here; ``port`` as the host selected it."""
        ...


def run_transaction(
    transaction: Transaction, entry: ManagedNode, advertised: Callable[[int], None]
) -> Transaction | None:
    """Let a transaction pass the nodes of a board.

    Args:
        transaction: As it came.
        entry: The first node.
        advertised: Called with the source endpoint where the host wants to be known here.

    Returns:
        What goes back to the host; ``None`` where the path leads nowhere.
    """
    node: ManagedNode | None = entry
    hops = [list(hop) for hop in transaction.hops]
    while node is not None and len(hops) > 1:
        answers: list[Operation] = []
        port: int | None = None
        turned = False
        for op in hops.pop(0):
            if op.code == ADVERTISE:
                advertised(transaction.src_epid)
            elif op.code == SELECT_DESTINATION:
                port = op.payload & 0x3FF
            elif op.code == RETURN:
                turned = True
            elif op.code == INFO_REQUEST:
                answers.append(Operation(INFO_RESPONSE, node.info().pack()))
            elif op.code == WRITE:
                node.write(op.payload & 0xFFFF, op.payload >> 16 & 0xFFFFFFFF)
            elif op.code == READ:
                address = op.payload & 0xFFFF
                answers.append(Operation(READ_RESPONSE, address | (node.read(address) & 0xFFFFFFFF) << 16))
        hops[-1] += answers
        if turned:
            return transaction._replace(hops=hops)
        node = node.next_node(port)
    return None
