"""Messages with damage: what cables, other versions and enemies do to them."""

from __future__ import annotations

import numpy as np

#: Numbers at which lengths and counts go wrong.
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate(message: bytes, rng: np.random.Generator) -> bytes:
    """Return ``message`` with one to four kinds of damage: bits, bytes, words, pieces cut out, doubled or put in."""
    out = bytearray(message)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(out) + 1))
        length = int(rng.integers(1, 17))
        match int(rng.integers(0, 7)):
            case 0 if out:
                out[at % len(out)] ^= 1 << int(rng.integers(0, 8))
            case 1:
                out[at : at + length] = rng.bytes(length)
            case 2:
                word = int(rng.choice(_EDGES)).to_bytes(4, "little" if rng.integers(0, 2) else "big")
                out[at : at + 4] = word
            case 3:
                del out[at : at + length]
            case 4:
                out[at:at] = rng.bytes(length)
            case 5:
                out[at:at] = out[at : at + length]
            case _:
                del out[at:]
    return bytes(out)
