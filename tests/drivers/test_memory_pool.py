from drivers.memory_pool import MemoryPool


def test_memory_is_given_out_again_only_when_nobody_has_it():
    pool = MemoryPool(16)
    first = pool.take()
    view = first[:4].reshape(2, 2)
    address = first.ctypes.data
    del first
    second = pool.take()
    assert second.ctypes.data != address
    del view
    assert pool.take().ctypes.data == address


def test_what_is_held_is_not_kept_for_later():
    pool = MemoryPool(200 << 20)
    held = [pool.take() for _ in range(3)]
    assert len({a.ctypes.data for a in held}) == 3
    beyond = held.pop()
    del beyond
    assert all(pool.take().ctypes.data not in {a.ctypes.data for a in held} for _ in range(3))
