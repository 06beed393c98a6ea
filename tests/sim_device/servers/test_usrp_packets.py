"""CHDR packets, management, registers, time and calls of a simulated USRP, without UHD."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import WireError
from sim_device.device import XlArrayDevice
from sim_device.servers.protocol_faults import FaultBoard
from sim_device.servers.sample_feed import SampleFeed
from sim_device.servers.usrp import chdr, management, radio
from sim_device.servers.usrp.board import Board
from sim_device.servers.usrp.discovery import discovery_answer
from sim_device.servers.usrp.endpoint import EPID_SELF, OSTRM_CTRL_STATUS, OSTRM_DST_EPID, StreamEndpoint
from sim_device.servers.usrp.mpm import Motherboard
from sim_device.servers.usrp.radio_clock import RadioClock, Timekeeper
from sim_device.servers.usrp.rpc import RpcConversation

HOST = ("127.0.0.1", 50000)


class _Socket:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, host: tuple[str, int]) -> None:
        assert host == HOST
        self.sent.append(data)


class _Network:
    def __init__(self) -> None:
        self.socket = _Socket()

    def bind_udp(self, address: tuple[str, int], received: Any, buffer_bytes: int) -> _Socket:
        return self.socket


@pytest.fixture
def feed() -> SampleFeed:
    array = {"kind": "ula", "n": 2}
    return SampleFeed(XlArrayDevice("usrp", array=array, frequency_hz=2.4e9, sample_rate_hz=1e6, real_time=False))


@pytest.fixture
def board(feed: SampleFeed) -> Iterator[Board]:
    yield Board(0, "127.0.0.1", 2, Timekeeper(RadioClock(feed), 0), lambda: None, _Network())  # type: ignore[arg-type]


def _motherboard(board: Board, feed: SampleFeed) -> Motherboard:
    return Motherboard(board, "51A0000", feed, 0.0, 9000, FaultBoard(("error",)))


def _sent(board: Board) -> list[chdr.Packet]:
    sent = board.socket.sent  # type: ignore[attr-defined]
    out = [chdr.parse_packet(data) for data in sent]
    sent.clear()
    return out


# -- codecs -----------------------------------------------------------------------------------------------------------


@given(
    st.builds(
        chdr.Control,
        dst_port=st.integers(0, 1023),
        src_port=st.integers(0, 1023),
        seq=st.integers(0, 63),
        src_epid=st.integers(0, 0xFFFF),
        address=st.integers(0, 0xFFFFF),
        op=st.integers(0, 15),
        data=st.lists(st.integers(0, 2**32 - 1), max_size=15).map(tuple),
        timestamp=st.none() | st.integers(0, 2**64 - 1),
        is_ack=st.booleans(),
        byte_enable=st.integers(0, 15),
        status=st.integers(0, 3),
    )
)
def test_a_control_transaction_comes_back(control: chdr.Control) -> None:
    packed = control.pack()
    assert len(packed) % 8 == 0
    assert chdr.parse_control(packed) == control


def test_words_of_a_packet_lie_where_the_specification_has_them() -> None:
    # written out by hand: type 7 with time, end of burst, length 24, number 0x1234, endpoint 5
    header = 7 << 53 | 1 << 57 | 24 << 16 | 0x1234 << 32 | 5
    packet = chdr.parse_packet(struct.pack("<QQ", header, 99) + b"\x01\x02\x03\x04\x05\x06\x07\x08")
    assert packet == chdr.Packet(7, 5, 0x1234, 99, bytes(range(1, 9)), True)
    assert chdr.header_word(7, 5, 0x1234, 24, True) == header


def test_metadata_words_are_passed_over() -> None:
    header = 6 << 53 | 2 << 48 | 32 << 16
    packet = chdr.parse_packet(struct.pack("<4Q", header, 1, 2, 3))
    assert packet.payload == struct.pack("<Q", 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 7,
        struct.pack("<Q", 100 << 16),
        struct.pack("<Q", 4 << 16),
        struct.pack("<QQ", 7 << 53 | 8 << 16, 0),
    ],
)
def test_what_is_no_packet_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="CHDR"):
        chdr.parse_packet(data)


@given(
    st.lists(
        st.lists(
            st.builds(management.Operation, code=st.integers(0, 8), payload=st.integers(0, 2**48 - 1)),
            min_size=1,
            max_size=6,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_management_transaction_comes_back(hops: list[list[management.Operation]]) -> None:
    transaction = management.Transaction(0x100, 0, 7, hops)
    assert management.parse_management(transaction.pack()) == transaction


# -- a board ----------------------------------------------------------------------------------------------------------


def _manage(board: Board, *hops: list[management.Operation]) -> management.Transaction:
    payload = management.Transaction(0x100, 0, 1, list(hops)).pack()
    board.handle(chdr.build_packet(chdr.MANAGEMENT, 0, 3, payload), HOST)
    (answer,) = _sent(board)
    assert (answer.kind, answer.dst_epid) == (chdr.MANAGEMENT, 1)
    return management.parse_management(answer.payload)


OP = management.Operation
NOP, RETURN = OP(management.NOP, 0), OP(management.RETURN, 0)


def test_a_host_finds_the_endpoints_by_walking(board: Board) -> None:
    board.core.device_id = 9
    info = OP(management.INFO_REQUEST, 0)
    to_crossbar = [OP(management.ADVERTISE, 0)]
    (last,) = _manage(board, to_crossbar, [info, RETURN], [NOP]).hops
    assert last[1].code == management.INFO_RESPONSE
    assert last[1].payload & 0xFFFF == 9
    assert last[1].payload >> 16 & 15 == management.CROSSBAR
    assert last[1].payload >> 30 == 1 << 8 | 3  # one managed port of three
    to_endpoint = [OP(management.SELECT_DESTINATION, 2)]
    (last,) = _manage(board, to_crossbar, to_endpoint, [info, RETURN], [NOP]).hops
    assert last[1].payload >> 16 & 15 == management.STREAM_ENDPOINT
    assert last[1].payload >> 20 & 0x3FF == 1
    assert board.host_of(1) == HOST


def test_a_stream_is_opened_and_its_window_is_kept(board: Board) -> None:
    def write(address: int, value: int) -> management.Operation:
        return OP(management.WRITE, value << 16 | address)

    start = [write(EPID_SELF, 20), write(OSTRM_DST_EPID, 1), write(OSTRM_CTRL_STATUS, 1), RETURN]
    path = [OP(management.ADVERTISE, 0)], [OP(management.SELECT_DESTINATION, 1)]
    payload = management.Transaction(0x100, 0, 1, [*path, start, [NOP]]).pack()
    board.handle(chdr.build_packet(chdr.MANAGEMENT, 0, 0, payload), HOST)
    init, _answer = _sent(board)
    assert (init.kind, init.payload[2] & 15) == (chdr.STREAM_COMMAND, chdr.STREAM_INIT)
    endpoint = board.endpoints[0]
    assert endpoint.room(1000) == 0

    def tell(n_bytes: int, n_packets: int) -> None:
        status = struct.pack("<4Q", 1 | 10_000 << 24, 8 | n_packets << 24, n_bytes, 0)
        board.handle(chdr.build_packet(chdr.STREAM_STATUS, 20, 0, status), HOST)

    tell(0, 0)
    assert endpoint.configured
    assert endpoint.read(OSTRM_CTRL_STATUS) >> 31 == 1
    assert endpoint.room(1000) == 8  # packets bind
    assert endpoint.room(3000) == 3  # bytes bind
    assert endpoint.take_seq(5, 5000) == 0
    assert endpoint.room(1000) == 3
    tell(3000, 3)
    assert endpoint.room(1000) == 6
    endpoint.resync_if_due(force=True)  # two packets were lost: the host is told, and takes them for gone
    (resync,) = _sent(board)
    first, n_bytes = struct.unpack("<2Q", resync.payload)
    assert (first >> 16 & 15, first >> 24, n_bytes) == (chdr.STREAM_RESYNC, 5, 5000)


def _control(board: Board, port: int, op: int, address: int, *data: int) -> chdr.Control:
    request = chdr.Control(port, 2, 5, 1, address, op, data or (0,))
    board.handle(chdr.build_packet(chdr.CONTROL, 20, 0, request.pack()), HOST)
    (packet,) = _sent(board)
    answer = chdr.parse_control(packet.payload)
    assert (answer.is_ack, answer.seq, answer.dst_port, answer.src_port) == (True, 5, 2, port)
    return answer


def test_the_core_tells_what_there_is(board: Board) -> None:
    assert _control(board, 0, chdr.OP_READ, 0).data == (0x12C60100,)
    (ports,) = _control(board, 0, chdr.OP_READ, 4).data
    assert (ports & 0x3FF, ports >> 10 & 0x3FF, ports >> 20 & 0x3FF) == (2, 1, 1)
    slot = 64 * board.core.radio_port
    assert _control(board, 0, chdr.OP_READ, slot + 4).data == (radio.NOC_ID,)
    n_edges, first = _control(board, 0, chdr.OP_BLOCK_READ, 0x10000, 0, 0).data
    assert (n_edges, first) == (4, 3 << 22 | 1 << 6)


def test_a_late_command_is_reported_where_the_host_asked(board: Board) -> None:
    channel = radio.CHANNEL_BASE + radio.CHANNEL_STRIDE
    for register, value in ((radio.RX_ERR_REM_EPID, 1), (radio.RX_ERR_REM_PORT, 2), (radio.RX_ERR_ADDR, 0x1040)):
        _control(board, board.core.radio_port, chdr.OP_WRITE, channel + register, value)
    payload = management.Transaction(0x100, 0, 1, [[OP(management.ADVERTISE, 0), RETURN], [NOP]]).pack()
    board.handle(chdr.build_packet(chdr.MANAGEMENT, 0, 0, payload), HOST)
    _sent(board)
    board.report(1, radio.ERROR_LATE, 1234)
    (packet,) = _sent(board)
    message = chdr.parse_control(packet.payload)
    assert (message.address, message.data, message.timestamp, message.dst_port) == (0x1040, (1,), 1234, 2)


def test_commands_of_a_channel_are_read_from_its_registers() -> None:
    channel = radio.RadioChannel()
    for address, value in ((radio.RX_TIME_LO, 5), (radio.RX_TIME_HI, 1), (radio.RX_NUM_WORDS_LO, 100)):
        assert not channel.write(address, value)
    assert channel.write(radio.RX_CMD, radio.CMD_FINITE | radio.CMD_TIMED)
    assert channel.take_command() == (True, radio.StreamCommand(100, 1 << 32 | 5))
    channel.write(radio.RX_CMD, radio.CMD_CONTINUOUS)
    channel.write(radio.RX_CMD, radio.CMD_STOP)
    assert channel.take_command() == (True, None)  # a stop empties the queue
    assert channel.take_command() == (False, None)


# -- time -------------------------------------------------------------------------------------------------------------


class _Clock:
    def __init__(self) -> None:
        self.tick = 2_300_000

    def now(self) -> int:
        return self.tick

    def time_ns(self, tick: int) -> int:
        return tick * 1000

    def tick_at(self, time_ns: int) -> int:
        return -(-time_ns // 1000)


def test_boards_get_one_time_at_a_common_pulse() -> None:
    clock = _Clock()
    keepers = [Timekeeper(clock, i) for i in range(3)]  # type: ignore[arg-type]
    for keeper in keepers:
        keeper.external = True
        keeper.set(0, at_next_pulse=True)
    assert [k.now() for k in keepers] == [2_300_000] * 3  # not yet
    clock.tick = 3_000_010
    assert [k.now() for k in keepers] == [10] * 3
    assert [k.at_last_pulse() for k in keepers] == [0] * 3
    assert keepers[0].offset(2_999_999) == 0  # what was sampled before the pulse keeps its time


def test_boards_with_pulses_of_their_own_are_apart() -> None:
    clock = _Clock()
    keepers = [Timekeeper(clock, i) for i in range(2)]  # type: ignore[arg-type]
    for keeper in keepers:
        keeper.set(0, at_next_pulse=True)
    clock.tick = 3_500_000
    assert keepers[0].now() - keepers[1].now() == 137_000


def test_a_jump_begins_at_its_tick() -> None:
    keeper = Timekeeper(_Clock(), 0)  # type: ignore[arg-type]
    keeper.jump(2_400_000, 500)
    assert (keeper.offset(2_399_999), keeper.offset(2_400_000)) == (0, 500)


# -- calls ------------------------------------------------------------------------------------------------------------


def _call(conversation: RpcConversation, method: str, *params: Any) -> tuple[Any, Any]:
    _, number, error, result = msgpack.unpackb(conversation(msgpack.packb([0, 7, method, list(params)])))
    assert number == 7
    return error, result


def test_only_the_one_who_claimed_a_board_may_set_it(board: Board, feed: SampleFeed) -> None:
    motherboard = _motherboard(board, feed)
    conversation = RpcConversation(motherboard.call)
    assert b"claimed=False" in (discovery_answer(b"MPM-DISC", motherboard) or b"")
    error, _ = _call(conversation, "set_clock_source", "external")
    assert "not claimed" in error
    _, token = _call(conversation, "claim", "me")
    assert _call(conversation, "claim", "another") == (None, "")
    assert _call(conversation, "set_clock_source", token, "external") == (None, None)
    assert _call(conversation, "get_clock_source", token) == (None, "external")
    error, _ = _call(conversation, "set_clock_source", token, "sundial")
    assert "expected internal, external, gpsdo" in error
    assert b"claimed=True" in (discovery_answer(b"MPM-DISC", motherboard) or b"")
    error, _ = _call(conversation, "make_coffee")
    assert "unknown method" in error
    assert _call(conversation, "unclaim", token) == (None, True)


def test_settings_act_on_the_array(board: Board, feed: SampleFeed) -> None:
    conversation = RpcConversation(_motherboard(board, feed).call)
    _, token = _call(conversation, "claim", "me")
    assert _call(conversation, "db_0_catalina_tune", token, "RX1", 2.5e9) == (None, 2.5e9)
    assert _call(conversation, "db_0_set_gain", token, "RX2", 6.0) == (None, 6.0)
    assert _call(conversation, "db_0_set_catalina_clock_rate", token, 1e9) == (None, 61.44e6)  # the nearest it can do
    assert (feed.frequency_hz, feed.gain_db, feed.sample_rate_hz) == (2.5e9, 6.0, 1e6)  # the rate waits
    _call(conversation, "get_timekeeper_time", token, 0, False)
    assert feed.sample_rate_hz == 61.44e6


def test_a_call_comes_in_pieces(board: Board, feed: SampleFeed) -> None:
    conversation = RpcConversation(_motherboard(board, feed).call)
    data = msgpack.packb([0, 1, "get_proto_ver", []])
    assert conversation(data[:3]) == b""
    assert msgpack.unpackb(conversation(data[3:])) == [1, 1, None, 0x100]


# -- what nobody should send ------------------------------------------------------------------------------------------


def _mutated(rng: random.Random, message: bytes) -> bytes:
    data = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        kind = rng.randrange(4)
        if kind == 0 and data:
            data[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == 1:
            data = data[: rng.randint(0, len(data))]
        elif kind == 2:
            data += rng.randbytes(rng.randint(1, 16))
        elif data:
            at = rng.randrange(len(data))
            data[at : at + 1] = bytes([data[at] ^ 1 << rng.randrange(8)])
    return bytes(data)


def test_ten_thousand_mutated_packets_do_no_harm(board: Board) -> None:
    rng = random.Random(1)
    info = [OP(management.INFO_REQUEST, 0), RETURN]
    seeds = [
        chdr.build_packet(
            chdr.MANAGEMENT,
            0,
            0,
            management.Transaction(0x100, 0, 1, [[OP(management.SELECT_DESTINATION, 1)], info, [NOP]]).pack(),
        ),
        chdr.build_packet(chdr.CONTROL, 20, 0, chdr.Control(3, 2, 0, 1, 0x1014, 1, (2,)).pack()),
        chdr.build_packet(chdr.CONTROL, 20, 0, chdr.Control(0, 2, 0, 1, 0x10000, 5, (0,) * 8, timestamp=4).pack()),
        chdr.build_packet(chdr.STREAM_STATUS, 0, 0, struct.pack("<4Q", 1 << 40, 8, 0, 0)),
    ]
    refused = 0
    for i in range(10_000):
        before = board.n_refused
        board.receive(_mutated(rng, seeds[i % len(seeds)]), HOST)
        refused += board.n_refused - before
        board.socket.sent.clear()  # type: ignore[attr-defined]
    assert 100 < refused < 10_000
    assert all(len(c.commands) <= 32 for c in board.radio.channels)
    assert _control(board, 0, chdr.OP_READ, 0).data == (0x12C60100,)


def test_ten_thousand_mutated_calls_do_no_harm(board: Board, feed: SampleFeed) -> None:
    rng = random.Random(2)
    motherboard = _motherboard(board, feed)
    seeds = [
        msgpack.packb([0, 1, "get_timekeeper_time", [0, False]]),
        msgpack.packb([0, 2, "claim", ["me"]]),
        msgpack.packb([2, "unclaim", ["token"]]),
        msgpack.packb([0, 3, "init", [{"clock_source": "internal", "mgmt_addr": "127.0.0.1"}]]),
        msgpack.packb([0, 4, "get_chdr_link_options", ["udp"]]),
    ]
    ended = 0
    for i in range(10_000):
        conversation = RpcConversation(motherboard.call)
        try:
            conversation(_mutated(rng, seeds[i % len(seeds)]))
        except WireError:
            ended += 1
    assert ended > 100
    assert _call(RpcConversation(motherboard.call), "get_proto_ver")[1] == 0x100


def test_an_endpoint_can_be_used_from_two_threads() -> None:
    endpoint = StreamEndpoint(lambda: 1, 0, lambda data, epid: None)
    threads = [threading.Thread(target=lambda: [endpoint.take_seq(1, 8) for _ in range(1000)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert endpoint.seq == 2000
