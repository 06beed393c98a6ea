"""One BLAS thread, as in a worker: small matrices on several threads are a hundred times slower on a busy machine."""

import tracemalloc
from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread() -> Iterator[None]:
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(autouse=True)
def memory_is_not_traced_on() -> Iterator[None]:
    """A test that leaves tracing on makes all that follow twice as slow, and the next that measures memory wrong."""
    yield
    if tracemalloc.is_tracing():
        tracemalloc.stop()
        pytest.fail("memory is still traced: call tracemalloc.stop()")
