"""Edges by themselves: the same meaning whatever carries the frames, restarts of either side, nothing left behind."""

import contextlib
import itertools
import os
import random
import socket
import threading
import time

import msgpack
import numpy as np
import psutil
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.errors import EdgeOverflow, RunError, WireError
from hil.frame import NO_LOSS, Frame, Header, Loss
from hil.runtime import frame_server
from hil.runtime.frame_client import FrameClient
from hil.runtime.frame_server import FrameServer
from hil.runtime.queue import Item, SendQueue
from hil.runtime.shm_edge import ShmReceiver, ShmSender, supported
from hil.runtime.shm_pool import SHM_DIRECTORY, ShmPool, SlotReader

KINDS = [pytest.param("shm", marks=pytest.mark.skipif(not supported(), reason="no shared memory here")), "tcp", "ipc"]
needs_shm = pytest.mark.skipif(not supported(), reason="no shared memory here")
TIMEOUT_S = 20.0


def frame(seq, value=None, n=8, **header):
    x = np.full((2, n), seq if value is None else value, np.complex64)
    return Frame.of(Header(stream="src.iq", seq=seq, **header), iq=(x, "sensor snapshot", "FS"))


class Link:
    """A sender and its receiver in this process."""

    def __init__(self, kind, directory, capacity=4, policy="block", name=None):
        self.kind, self.directory = kind, directory
        self.name = name or f"hil-test-{os.getpid()}-{random.getrandbits(32):x}"
        self.context = zmq.Context()
        self.pool = ShmPool(f"{self.name}.pool")
        if kind == "shm":
            self.sender = ShmSender(self.name, directory, self.pool, capacity=capacity, policy=policy, label="edge")
            self.receiver = ShmReceiver(self.name, directory, f"{self.name}.pool")
        else:
            endpoint = "tcp://127.0.0.1:*" if kind == "tcp" else f"ipc://{directory}/edge"
            self.sender = FrameServer(
                endpoint, capacity=capacity, policy=policy, exclusive=True, name="edge", context=self.context
            )
            self.receiver = self.client()
            self.connect(self.receiver)

    def client(self):
        return FrameClient(self.sender.endpoint, progress=self.directory / "counts", context=self.context)

    def connect(self, client):
        until(lambda: self.sender.poll(0.01) or client.receive(0.0) or client.connected)

    def restarted_receiver(self):
        """The consumer is gone in the middle of what it did; another takes its place."""
        if self.kind == "shm":
            self.receiver = ShmReceiver(self.name, self.directory, f"{self.name}.pool")
        else:
            self.receiver.socket.close(linger=0)
            self.receiver = self.client()

    def receive(self):
        """The next frame, waiting for it."""
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            self.sender.service()
            got = self.receiver.receive()
            if got is not None:
                return got
            time.sleep(0.001)
        raise AssertionError("no frame came")

    def all_of(self, n):
        """Number and loss of the next ``n`` frames, each looked at."""
        told = []
        for _ in range(n):
            got = self.receive()
            if got.header.kind == "data":
                assert (got["iq"] == got.header.seq).all()
            told.append((got.header.seq, got.header.lost.frames))
        self.receiver.release()
        return told

    def close(self):
        self.receiver.close()
        self.sender.close()
        self.pool.close()
        self.context.destroy(linger=0)
        for path in SHM_DIRECTORY.glob(f"{self.name}*"):
            path.unlink()


def until(done):
    end = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < end, f"not within {TIMEOUT_S} s"


@pytest.fixture
def link(tmp_path):
    links = []

    def make(kind, **options):
        links.append(Link(kind, tmp_path, **options))
        return links[-1]

    yield make
    for made in links:
        made.close()


# -- the same meaning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_block_waits_and_loses_nothing(kind, link):
    edge = link(kind, policy="block")
    taken = [edge.sender.offer(frame(k)) for k in range(6)]
    assert taken == [True] * 4 + [False] * 2
    assert edge.all_of(4) == [(0, 0), (1, 0), (2, 0), (3, 0)]


@pytest.mark.parametrize("kind", KINDS)
def test_drop_oldest_keeps_the_newest_and_tells_at_once(kind, link):
    edge = link(kind, policy="drop_oldest")
    assert all(edge.sender.offer(frame(k)) for k in range(10))
    # two are in flight, two wait
    assert edge.all_of(4) == [(0, 0), (1, 0), (8, 6), (9, 0)]


@pytest.mark.parametrize("kind", KINDS)
def test_drop_newest_keeps_the_oldest_and_tells_with_the_next(kind, link):
    edge = link(kind, policy="drop_newest")
    assert all(edge.sender.offer(frame(k)) for k in range(10))
    assert edge.all_of(4) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    until(lambda: edge.sender.service() or edge.sender.drained)
    edge.sender.offer(frame(10))
    assert edge.all_of(1) == [(10, 6)]


@pytest.mark.parametrize("kind", KINDS)
def test_fail_names_edge_and_frame(kind, link):
    edge = link(kind, policy="fail")
    for k in range(4):
        assert edge.sender.offer(frame(k))
    with pytest.raises(EdgeOverflow, match=r"edge edge: 4 frames wait, capacity is 4.*frame #4 does not fit"):
        edge.sender.offer(frame(4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_what_is_lost_at_the_end_is_in_the_end(kind, policy, link):
    edge = link(kind, policy=policy)
    for k in range(10):
        edge.sender.offer(frame(k))
    edge.sender.offer(Frame(Header(stream="src.iq", seq=9, kind="eof")))
    told = edge.all_of(5)
    assert told[-1][0] == 9
    assert len(told) - 1 + sum(lost for _, lost in told) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_headers_arrive_as_they_are(kind, link):
    edge = link(kind, capacity=12)
    meta = {"gain": 1}
    sent = [
        frame(0, sample_start=0, time_ns=-5, timebase="host", host_time_ns=1),
        frame(1, sample_start=1 << 62, time_ns=5, timebase="host", host_time_ns=2),
        frame(2),
        frame(3, epoch=1, lost=Loss(1, 2, 3)),
        frame(4, epoch=1),
        frame(5, n=3),
        frame(6, meta=meta),
    ]
    headers = []
    for f in sent:
        assert edge.sender.offer(f)
        headers.append(f.header._replace(meta=dict(f.header.meta)))
    meta["gain"] = 2  # the same object with another value
    edge.sender.offer(frame(7, meta=meta))
    for expected in [*headers, frame(7, meta={"gain": 2}).header]:
        got = edge.receive()
        assert got.header == expected
        assert (got["iq"] == expected.seq).all() and not got["iq"].flags.writeable


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_that_is_not_as_its_header_says_is_refused(kind, link):
    edge = link(kind)
    wrong = Frame(frame(0).header, {"iq": np.zeros((2, 7), np.complex64)})
    with pytest.raises(WireError, match=r"header says iq: complex64 \[sensor=2, snapshot=8\].*\[2, 7\]"):
        edge.sender.offer(wrong)
    edge.sender.offer(frame(1))
    assert edge.all_of(1) == [(1, 0)]


# -- restarts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_dies_loses_the_frame_that_it_had_begun(kind, link):
    edge = link(kind, capacity=6)
    edge.sender.offer(Frame(Header(stream="src.iq", seq=0, kind="descriptor", meta={"array": {}})))
    for k in range(5):
        edge.sender.offer(frame(k))
    assert [edge.receive().header.kind for _ in range(3)] == ["descriptor", "data", "data"]  # it holds frame 1
    edge.restarted_receiver()
    assert edge.receive().header.kind == "descriptor"
    assert edge.all_of(3) == [(2, 1), (3, 0), (4, 0)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_dies_loses_no_event(kind, link):
    edge = link(kind, capacity=6)
    edge.sender.offer(frame(0))
    edge.sender.offer(Frame(Header(stream="src.iq", seq=0, kind="event", meta={"event": "gap"})))
    edge.sender.offer(frame(1))
    assert [edge.receive().header.kind for _ in range(2)] == ["data", "event"]
    edge.restarted_receiver()
    assert edge.receive().header.meta == {"event": "gap"}
    assert edge.all_of(1) == [(1, 0)]


@needs_shm
def test_what_a_producer_published_outlives_it(link, tmp_path, monkeypatch):
    edge = link("shm", capacity=8)
    for k in range(3):
        edge.sender.offer(frame(k))
    edge.sender.close()
    edge.pool.close()  # as one that fails does; one that is killed does not even that
    monkeypatch.setattr("hil.runtime.shm_pool.os.getpid", lambda: 77)
    edge.pool = ShmPool(f"{edge.name}.pool")
    edge.sender = ShmSender(edge.name, tmp_path, edge.pool, capacity=8, policy="block", label="edge")
    assert edge.sender.inherited
    edge.sender.offer(frame(3))
    assert edge.all_of(4) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert not edge.sender.inherited
    edge.pool.sweep()
    until(lambda: edge.sender.service() or edge.sender.drained)
    assert len(list(SHM_DIRECTORY.glob(f"{edge.name}.pool.*"))) == 1


@needs_shm
@pytest.mark.parametrize("policy", ["block", "drop_oldest", "drop_newest"])
def test_what_a_producer_took_with_it_is_told(policy, link, tmp_path, monkeypatch):
    edge = link("shm", capacity=20, policy=policy)
    for k in range(25):
        edge.sender.offer(frame(k))
    n = 20 if policy == "block" else 25
    edge.sender.close()  # nothing more is published
    monkeypatch.setattr("hil.runtime.shm_pool.os.getpid", lambda: 77)
    edge.pool = ShmPool(f"{edge.name}.pool")
    edge.sender = ShmSender(edge.name, tmp_path, edge.pool, capacity=20, policy=policy, label="edge")
    edge.sender.offer(frame(n))
    published = 4 if policy != "block" else 16
    told = edge.all_of(published + 1)
    assert told == [*((k, 0) for k in range(published)), (n, n - published)]


@needs_shm
def test_many_producers_that_die_do_not_stop_the_edge(link, tmp_path, monkeypatch):
    edge = link("shm", capacity=12)
    seq = itertools.count()
    for life in range(6):  # what they leave is more than the ring holds
        while edge.sender.offer(frame(next(seq))):
            pass
        if life < 5:
            edge.sender.close()
            edge.pool.close()
            monkeypatch.setattr("hil.runtime.shm_pool.os.getpid", lambda life=life: 100 + life)
            edge.pool = ShmPool(f"{edge.name}.pool")
            edge.sender = ShmSender(edge.name, tmp_path, edge.pool, capacity=12, policy="block", label="edge")
    until(lambda: edge.sender.service() or (edge.receiver.receive() is None and edge.sender.drained))


def bound_again(endpoint, context):
    """A server at an address that another may just be giving back."""
    end = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return FrameServer(endpoint, exclusive=True, context=context)
        except RunError:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_a_server_that_is_restarted_is_found_again(kind, tmp_path):
    context = zmq.Context()
    endpoint = "tcp://127.0.0.1:*" if kind == "tcp" else f"ipc://{tmp_path}/edge"
    server = FrameServer(endpoint, exclusive=True, context=context)
    client = FrameClient(server.endpoint, context=context)
    came = []
    try:
        for life in range(3):
            for k in range(3):
                server.send(frame(10 * life + k))
            end = time.monotonic() + TIMEOUT_S
            while not server.drained:
                server.poll(0.01)
                got = client.receive(0.01)
                if got is not None:
                    came.append(got.header.seq)
                assert time.monotonic() < end
            address = server.endpoint
            server.close()
            server = bound_again(address, context)
        assert came == [0, 1, 2, 10, 11, 12, 20, 21, 22]
        assert client.n_reconnects == 2
    finally:
        client.close()
        server.close()
        context.destroy(linger=0)


class Proxy:
    """Forwards TCP connections to ``port``; can stop carrying what goes to the client, and break all connections."""

    def __init__(self, port):
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = []
        self.holding = threading.Event()
        self._threads = []
        self._run(self._accept)

    def cut(self):
        for s in self._open:
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.holding.clear()
        for thread in self._threads:
            thread.join(5)

    def _run(self, target, *arguments):
        self._threads.append(threading.Thread(target=target, args=arguments))
        self._threads[-1].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                self._open += [client, server]
                self._run(self._carry, client, server, False)
                self._run(self._carry, server, client, True)

    def _carry(self, source, sink, to_client):
        with source, contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not (to_client and self.holding.is_set()):  # what is held never comes
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)


def test_frames_that_a_broken_connection_swallowed_are_sent_again():
    context = zmq.Context()
    server = FrameServer(exclusive=True, capacity=8, context=context)
    proxy = Proxy(int(server.endpoint.rpartition(":")[2]))
    client = FrameClient(f"tcp://127.0.0.1:{proxy.port}", context=context)
    came = []

    def work():
        server.poll(0.01)
        got = client.receive(0.01)
        if got is not None:
            came.append((got.header.seq, got.header.lost.frames))
        return len(came)

    try:
        server.send(frame(0))
        until(lambda: work() == 1)
        client.release()
        proxy.holding.set()
        for k in range(1, 6):
            server.send(frame(k))
        time.sleep(0.2)
        proxy.cut()
        proxy.holding.clear()
        until(lambda: work() == 6)
        assert came == [(k, 0) for k in range(6)]
        client.release()
        until(lambda: server.poll(0.01) or server.drained)
    finally:
        client.close()
        server.close()
        context.destroy(linger=0)
        proxy.close()


# -- many consumers -----------------------------------------------------------------------------------------------


def test_a_busy_producer_hears_a_new_consumer(link):
    context = zmq.Context()
    server = FrameServer(exclusive=True, capacity=4, policy="drop_newest", context=context)
    client = FrameClient(server.endpoint, context=context)
    try:
        seq = itertools.count()
        until(lambda: server.offer(frame(next(seq))) and server.n_clients)  # nobody calls poll()
    finally:
        client.close()
        server.close()
        context.destroy(linger=0)


def test_a_descriptor_offered_while_a_consumer_comes_is_sent_once(monkeypatch):
    monkeypatch.setattr(frame_server, "POLL_INTERVAL_S", 0.0)
    context = zmq.Context()
    server = FrameServer(exclusive=True, context=context)
    client = FrameClient(server.endpoint, context=context)
    try:
        until(lambda: server.socket.poll(10))  # its hello waits
        server.offer(Frame(Header(stream="src.iq", seq=0, kind="descriptor", meta={"array": {}})))
        server.offer(frame(0))
        came = []
        until(lambda: server.poll(0.01) or came.append(client.receive(0.01)) or server.drained)
        assert [got.header.kind for got in came if got is not None] == ["descriptor", "data"]
    finally:
        client.close()
        server.close()
        context.destroy(linger=0)


def test_consumers_that_went_without_a_word_are_forgotten(monkeypatch):
    monkeypatch.setattr(frame_server, "PROBE_INTERVAL_S", 0.05)
    context = zmq.Context()
    server = FrameServer(capacity=2, policy="drop_oldest", context=context)
    stays = FrameClient(server.endpoint, context=context)
    try:
        for _ in range(10):
            gone = FrameClient(server.endpoint, context=context)
            until(lambda gone=gone: server.poll(0.01) or gone.receive(0.0) or gone.connected)
            gone.socket.close(linger=0)
        seq = itertools.count()
        until(lambda: server.offer(frame(next(seq))) and (stays.receive(0.01) or True) and server.n_clients == 1)
    finally:
        stays.close()
        server.close()
        context.destroy(linger=0)


@needs_shm
def test_one_copy_for_many_edges_and_no_slot_is_kept(tmp_path):
    name = f"hil-test-{os.getpid()}-{random.getrandbits(32):x}"
    pool = ShmPool(f"{name}.pool")
    senders = [ShmSender(f"{name}.e{i}", tmp_path, pool, capacity=4, policy="block", label=f"e{i}") for i in range(3)]
    receivers = [ShmReceiver(f"{name}.e{i}", tmp_path, f"{name}.pool") for i in range(3)]
    try:
        for k in range(50):
            f = frame(k)
            assert all(s.offer(f) for s in senders)
            for r in receivers:
                assert r.receive()["iq"][0, 0] == k
                r.release()
        assert len(list(SHM_DIRECTORY.glob(f"{name}.pool.*"))) <= 2
    finally:
        for end in (*senders, *receivers):
            end.close()
        pool.close()
        for path in SHM_DIRECTORY.glob(f"{name}*"):
            path.unlink()


@needs_shm
def test_a_socket_does_not_keep_views_of_shared_memory(link):
    first, second = link("shm"), link("tcp", capacity=8)
    first.sender.offer(frame(0))
    view = first.receive()
    second.sender.offer(view)  # as a block that hands its input on does
    first.receiver.release()
    for k in range(1, 5):  # the slot is used again
        first.sender.offer(frame(k))
        first.receive()
        first.receiver.release()
    assert second.all_of(1) == [(0, 0)]


@pytest.mark.parametrize("kind", KINDS)
def test_edges_leave_nothing_behind(kind, tmp_path):
    def once(i):
        directory = tmp_path / str(i)
        directory.mkdir()
        edge = Link(kind, directory)
        edge.sender.offer(frame(0))
        edge.all_of(1)
        edge.close()
        assert not list(SHM_DIRECTORY.glob(f"{edge.name}*"))

    once(0)
    before = psutil.Process().num_fds()
    for i in range(1, 6):
        once(i)
    until(lambda: psutil.Process().num_fds() <= before)  # ZeroMQ closes in its own time


@needs_shm
def test_slots_of_a_producer_that_is_gone_are_not_kept_mapped(tmp_path):
    prefix = f"hil-test-{os.getpid()}-{random.getrandbits(32):x}"
    spec = frame(0).header.arrays
    reader = SlotReader(prefix)
    for pid in (1, 2, 3):
        for k in range(4):
            number = (pid << 32) + k
            (SHM_DIRECTORY / f"{prefix}.{number:x}").write_bytes(bytes(4096))
            reader.arrays(number, spec)
            (SHM_DIRECTORY / f"{prefix}.{number:x}").unlink()
    assert len(reader._maps) == 4
    reader.close()


# -- what does not belong -----------------------------------------------------------------------------------------


def test_ten_thousand_wrong_messages_do_no_harm(caplog):
    caplog.set_level("ERROR")
    rng = random.Random(1)
    context = zmq.Context()
    server = FrameServer(capacity=4, policy="drop_newest", context=context)
    hello = {"v": 1, "generation": 0, "streams": [], "instance": b"12345678", "met": [1, 0]}
    seeds = [
        [b"hello", msgpack.packb(hello)],
        [b"hello", msgpack.packb({**hello, "generation": -1})],
        [b"hello", msgpack.packb({**hello, "generation": 1 << 63, "met": [-1, 1 << 40]})],
        [b"hello", msgpack.packb({**hello, "streams": [[[]]] * 5})],
        [b"hello", b"\x91" * 60000],
        [b"ack", (1 << 63).to_bytes(8, "little")],
        [b"ack", bytes(8)],
        [b"bye"],
    ]
    evil = context.socket(zmq.DEALER)
    evil.setsockopt(zmq.LINGER, 0)
    evil.setsockopt(zmq.ROUTING_ID, b"evil")
    evil.connect(server.endpoint)
    memory = psutil.Process().memory_info().rss
    try:
        for k in range(10_000):
            message = [bytearray(part) for part in rng.choice(seeds)]
            for _ in range(rng.randrange(4)):
                part = rng.choice(message)
                if part:
                    part[rng.randrange(len(part))] = rng.randrange(256)
            if rng.random() < 0.1:
                message.insert(rng.randrange(len(message) + 1), bytearray(rng.randbytes(rng.randrange(20))))
            if rng.random() < 0.1:
                message.pop()
            if message:
                evil.send_multipart(message)
            if k % 100 == 0:
                server.offer(frame(k))
                server.poll(0.001)
                while evil.poll(0):
                    evil.recv_multipart()
        for _ in range(20):
            server.poll(0.01)
        assert server.n_clients <= 1
        assert psutil.Process().memory_info().rss - memory < 50e6
        client = FrameClient(server.endpoint, context=context)
        until(lambda: server.poll(0.01) or client.receive(0.0) or client.connected)
        server.offer(frame(12345))
        assert client.receive(TIMEOUT_S).header.seq == 12345
        client.close()
    finally:
        evil.close()
        server.close()
        context.destroy(linger=0)


# -- accounts of the queue ----------------------------------------------------------------------------------------

OPERATIONS = st.lists(
    st.sampled_from(["offer", "offer", "offer", "event", "send", "send", "ack", "die", "die_idle"]), max_size=80
)


@settings(max_examples=300, deadline=None)
@given(OPERATIONS, st.sampled_from(["block", "drop_oldest", "drop_newest"]), st.integers(1, 6))
def test_each_frame_is_delivered_or_told_once_or_waits(operations, policy, capacity):
    queue = SendQueue(capacity, policy, "q")
    offered = 0
    flight = []  # what the consumer was given, in order
    delivered = []
    lost_in_flight = 0

    def settle(item):
        delivered.append((item.header.seq, item.header.lost.frames))

    for what in operations:
        if what == "offer":
            if queue.offer(Item(frame(offered).header, offered)) is None:
                assert policy == "block" and queue.depth == capacity
                continue
            offered += 1
        elif what == "event":
            assert queue.offer(Item(Header(stream="src.iq", seq=offered, kind="event"), None)) == []
        elif what == "send":
            item = queue.next_sendable()
            if item is not None:
                flight.append(item)
        elif what == "ack" and flight:
            assert queue.acknowledge(1) == [flight[0]]
            item = flight.pop(0)
            if item.is_data:
                settle(item)
        elif what in ("die", "die_idle"):
            lost = queue.consumer_died(begun=what == "die")
            lost_in_flight += lost is not None
            flight.clear()
        assert queue.depth <= capacity and queue.n_lost_in_flight == lost_in_flight
    queue.offer(Item(Header(stream="src.iq", seq=offered, kind="eof"), None))
    at_end = 0
    while not queue.empty:
        while (item := queue.next_sendable()) is not None:
            flight.append(item)
        item = flight.pop(0)
        queue.acknowledge(1)
        if item.is_data:
            settle(item)
        elif item.header.kind == "eof":
            at_end = item.header.lost.frames
        else:
            assert item.header.lost == NO_LOSS
    expected = 0
    for seq, lost in delivered:
        assert seq - expected == lost
        expected = seq + 1
    assert offered - expected == at_end
    assert queue.n_dropped + lost_in_flight == offered - len(delivered)
