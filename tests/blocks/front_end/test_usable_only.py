import numpy as np

from blocks.front_end.usable_only import UsableOnly
from hil.frame import Frame, Header, Loss
from tests.jig import check_block

X = np.arange(6, dtype=np.complex64).reshape(2, 3)


def frame(seq, **meta):
    return Frame.of(Header("radio.iq", seq, meta=meta), iq=(X, "sensor snapshot", "FS"))


def test_what_is_not_usable_stays_behind_and_is_counted():
    block = UsableOnly("usable")
    metas = [{}, {"usable": False, "why": "noise"}, {"usable": False, "why": "noise"}, {"usable": True, "noise": 1}]
    out = [f for i, meta in enumerate(metas) for _, f in block.feed("iq", frame(i, **meta))]
    assert [(f.header.seq, f.header.lost, f.header.meta) for f in out] == [
        (0, Loss(), {}),
        (3, Loss(frames=2, samples=6), {"usable": True, "noise": 1}),
    ]
    np.testing.assert_array_equal(out[1]["iq"], X)
    assert block.stats() == {"frames_not_usable": {"noise": 2}}
    block.feed("iq", frame(4, usable=False))
    assert block.stats()["frames_not_usable"] == {"noise": 2, "not told": 1}


def test_it_is_a_block_like_any():
    check_block(lambda: UsableOnly("usable"), X, X, rtol=0, atol=0)
