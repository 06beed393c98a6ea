"""What waits for one consumer, and what happens when it falls behind. The same code for every kind of edge.

A queue holds up to ``capacity`` data frames, those in flight included: a frame is in flight from when it is handed
to the transport until the consumer has finished with it. Where a policy may drop what waits, few are in flight and the
others wait here, where it can still choose among them. Descriptors, events and end-of-stream are never dropped
and never counted; what was lost at the very end is in the header of the end-of-stream.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Literal, TypeVar

from hil.errors import EdgeOverflow
from hil.frame import NO_LOSS, Header, Loss

Policy = Literal["block", "drop_oldest", "drop_newest", "fail"]
POLICIES: tuple[Policy, ...] = ("block", "drop_oldest", "drop_newest", "fail")

#: The most frames that are handed to the transport before the consumer has finished with the first of them.
MAX_WINDOW = 16
#: ... where the policy is ``drop_oldest`` or ``drop_newest``; and at most half of the capacity.
DROP_WINDOW = 4

T = TypeVar("T")


def loss_of(header: Header) -> Loss:
    """What is lost with the frame that ``header`` belongs to: itself, and what its own header reported."""
    return loss_itself(header).plus(header.lost)


def loss_itself(header: Header) -> Loss:
    samples = 0
    for spec in header.arrays:
        for axis, size in zip(spec.axes, spec.shape, strict=True):
            if axis in ("snapshot", "sample"):
                samples = size
    return Loss(frames=1, samples=samples)


class Item(Generic[T]):
    """A frame in the queue: its header, and what the transport sends of it."""

    __slots__ = ("header", "is_data", "payload", "tells_loss")

    def __init__(self, header: Header, payload: T) -> None:
        self.header = header
        self.payload = payload
        self.is_data = header.kind == "data"
        self.tells_loss = self.is_data or header.kind == "eof"


class SendQueue(Generic[T]):
    """Frames for one consumer, oldest first.

    Attributes:
        n_dropped: Data frames dropped by the policy so far.
        n_lost_in_flight: Data frames that a consumer had begun and did not finish, because it died.
    """

    def __init__(self, capacity: int, policy: Policy, name: str) -> None:
        self.capacity = capacity
        self.policy = policy
        self.name = name
        drops = policy in ("drop_oldest", "drop_newest")
        self.window = min(DROP_WINDOW, max(1, capacity // 2)) if drops else min(MAX_WINDOW, capacity)
        self.waiting: deque[Item[T]] = deque()
        self.in_flight: deque[Item[T]] = deque()
        self.n_dropped = 0
        self.n_lost_in_flight = 0
        #: Items that have left the flight so far: the number of the one in front.
        self.first_in_flight = 0
        self._n_data_waiting = 0
        self._n_data_in_flight = 0
        # Losses travel in the header of the frame that follows the lost one: in the queue, or the next to be offered.
        self._lost_before_next = NO_LOSS

    @property
    def depth(self) -> int:
        """Data frames that wait or are in flight."""
        return self._n_data_waiting + self._n_data_in_flight

    @property
    def empty(self) -> bool:
        return not self.waiting and not self.in_flight

    @property
    def untold(self) -> int:
        """Frames that nobody could tell of if this process died now: those that wait, and losses that they tell."""
        return self._lost_before_next.frames + sum(loss_of(i.header).frames for i in self.waiting if i.is_data)

    def inherit(self, n_frames: int) -> None:
        """So many frames of a producer before this one were lost with it."""
        self._lost_before_next = self._lost_before_next.plus(Loss(frames=n_frames))

    def has_room(self) -> bool:
        return self._n_data_waiting + self._n_data_in_flight < self.capacity

    def offer(self, item: Item[T]) -> list[Item[T]] | None:
        """Queue ``item``; return the items that the policy dropped for it, or ``None`` where it must wait.

        Raises:
            EdgeOverflow: Full, and the policy is ``fail``.
        """
        dropped: list[Item[T]] = []
        if item.is_data and self._n_data_waiting + self._n_data_in_flight >= self.capacity:
            if self.policy == "block":
                return None
            if self.policy == "fail":
                raise EdgeOverflow(
                    f"edge {self.name}: {self.depth} frames wait, capacity is {self.capacity} and the policy 'fail'; "
                    f"frame #{item.header.seq} does not fit"
                )
            if self.policy == "drop_newest" or not self._n_data_waiting:
                self.n_dropped += 1
                self._lost_before_next = self._lost_before_next.plus(loss_of(item.header))
                return [item]
            oldest = next(i for i in self.waiting if i.is_data)
            self.waiting.remove(oldest)
            self._n_data_waiting -= 1
            self.n_dropped += 1
            self._tell(next((i for i in self.waiting if i.tells_loss), item), loss_of(oldest.header))
            dropped.append(oldest)
        if self._lost_before_next is not NO_LOSS and item.tells_loss:
            self._tell(item, self._lost_before_next)
            self._lost_before_next = NO_LOSS
        if item.is_data:
            self._n_data_waiting += 1
        self.waiting.append(item)
        return dropped

    def next_sendable(self) -> Item[T] | None:
        """Return what may be handed to the transport now, or ``None``; it is in flight from then on."""
        if not self.waiting or len(self.in_flight) >= self.window:
            return None
        item = self.waiting.popleft()
        if item.is_data:
            self._n_data_waiting -= 1
            self._n_data_in_flight += 1
        self.in_flight.append(item)
        return item

    def acknowledge(self, n: int) -> list[Item[T]]:
        """The consumer has finished with the ``n`` oldest frames in flight; return them."""
        done: list[Item[T]] = []
        while len(done) < n and self.in_flight:
            item = self.in_flight.popleft()
            self._n_data_in_flight -= item.is_data
            done.append(item)
        self.first_in_flight += len(done)
        return done

    def consumer_died(self, begun: bool = True) -> Item[T] | None:
        """Put what was in flight back in front, except the frame that the consumer had begun: that one is lost.

        Returns:
            The lost item. A control frame is never lost: it is sent again.
        """
        lost: Item[T] | None = None
        if begun and self.in_flight and self.in_flight[0].is_data:
            lost = self.in_flight.popleft()
            self.first_in_flight += 1
            self.n_lost_in_flight += 1
            loss = loss_of(lost.header)
            follower = next((i for i in (*self.in_flight, *self.waiting) if i.tells_loss), None)
            if follower is not None:
                self._tell(follower, loss)
            else:
                self._lost_before_next = loss.plus(self._lost_before_next)
        self.waiting.extendleft(reversed(self.in_flight))
        self._n_data_waiting += sum(i.is_data for i in self.in_flight)
        self.in_flight.clear()
        self._n_data_in_flight = 0
        return lost

    @staticmethod
    def _tell(item: Item[T], loss: Loss) -> None:
        """Let the header of ``item`` tell ``loss``."""
        item.header = item.header._replace(lost=item.header.lost.plus(loss))
