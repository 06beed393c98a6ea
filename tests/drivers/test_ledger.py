import numpy as np

from drivers.ledger import Ledger
from hil.array import ArrayGeometry
from hil.descriptor import array_of
from hil.frame import NO_LOSS, Loss

IQ = np.zeros((2, 10, 2), np.int16)


def ledger(**extra):
    return Ledger("radio.iq", ArrayGeometry.ula(2, 0.1), extra)


def data(book, tick, **more):
    return book.data(
        tick=tick, n_samples=10, time_ns=5, timebase="host", iq=(IQ, "sensor snapshot component", "count"), **more
    )


def test_frames_that_follow_one_another_lose_nothing():
    book = ledger()
    frames = [f for k in range(5) for f in data(book, 10 * k)]
    assert [f.header.seq for f in frames] == [0, 1, 2, 3, 4]
    assert {f.header.lost for f in frames} == {NO_LOSS}
    assert {f.header.kind for f in frames} == {"data"}


def test_missing_ticks_are_told_by_an_event_and_counted_in_the_next_header():
    book = ledger()
    data(book, 0)
    event, frame = data(book, 37)
    assert event.header.meta == {"event": "gap", "samples": 27, "frames": 0}
    assert frame.header.lost == Loss(samples=27)
    assert book.stats()["samples_lost"] == 27
    assert data(book, 47)[0].header.lost == NO_LOSS


def test_frames_that_the_device_numbered_leave_their_numbers_free():
    book = ledger()
    data(book, None)
    _, frame = data(book, None, lost=Loss(frames=3, samples=30))
    assert frame.header.seq == 4
    assert frame.header.lost == Loss(frames=3, samples=30)


def test_what_the_device_counted_is_not_counted_again_from_the_ticks():
    book = ledger()
    data(book, 0)
    _, frame = data(book, 40, lost=Loss(samples=30))
    assert frame.header.lost == Loss(samples=30)


def test_a_loss_before_a_disconnect_is_told_by_the_next_frame():
    book = ledger()
    data(book, 0)
    book.lose(Loss(frames=1, samples=4))
    (frame,) = data(book, 10)
    assert (frame.header.seq, frame.header.lost) == (2, Loss(frames=1, samples=4))


def test_a_new_epoch_is_an_event_and_a_descriptor_and_forgets_the_ticks():
    book = ledger(raw={"full_scale": 2048.0})
    data(book, 100)
    event, descriptor = book.new_epoch("retune", frequency_hz=1e9)
    assert event.header.meta == {"event": "retune", "frequency_hz": 1e9}
    assert array_of(descriptor) == book.array
    assert descriptor.header.meta["raw"] == {"full_scale": 2048.0}
    (frame,) = data(book, 0)
    assert (frame.header.epoch, frame.header.lost) == (1, NO_LOSS)


def test_where_ticks_go_on_through_a_new_epoch_a_gap_is_seen():
    book = ledger()
    data(book, 0)
    book.new_epoch("gain", ticks_go_on=True)
    assert data(book, 15)[-1].header.lost == Loss(samples=5)


def test_goes_on_behind_what_a_killed_driver_delivered():
    book = ledger()
    book.resume(41)
    assert data(book, 0)[0].header.seq == 42


def test_a_late_subscriber_is_told_what_the_array_is_now_and_then(monkeypatch):
    book, now = ledger(), 100.0
    monkeypatch.setattr("drivers.ledger.time.monotonic", lambda: now)
    assert len(book.descriptor_due()) == 1
    assert book.descriptor_due() == []
    now = 102.5
    assert len(book.descriptor_due()) == 1
