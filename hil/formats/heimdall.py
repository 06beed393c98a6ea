"""What KrakenSDR's data acquisition, heimdall, sends: frames of version 1, packets of version 2, and its commands.

Version 1 is a C struct of 1024 bytes, little-endian with natural alignment, before ``[channel, sample]`` complex64.
Version 2 is eight big-endian words, little-endian floats for each channel, then bytes in-phase, quadrature. Neither has
a checksum: a header is taken for one where its mark and its counts are plausible.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from hil.errors import WireError

#: Channels that one unit of either version can have.
MAX_CHANNELS = 32

# -- version 1 ---------------------------------------------------------------------------------------------------------

SYNC_WORD = 0x2BF7B95A
#: Types of frames. Only data are for estimation.
DATA, DUMMY, RAMP, CALIBRATION, TRIGGER, EMPTY = range(6)
FRAME_TYPES = ("data", "dummy", "ramp", "calibration", "trigger", "empty")
#: States of the synchronization; from TRACK_LOCK on delays and phases are corrected.
SYNC_INIT, SYNC_SAMPLE, SYNC_FRACTION, SYNC_IQ, SYNC_TRACK_LOCK, SYNC_TRACK = range(1, 7)
#: Longest coherent processing interval that is taken for one, samples a channel.
MAX_CPI_SAMPLES = 1 << 24

_V1 = struct.Struct("<II16s3I4x3QI4xQIIQIII32I4I768xI")
V1_BYTES = 1024
assert _V1.size == V1_BYTES

START, NEXT, QUIT = b"streaming", b"IQDownload", b"q"
CONTROL_BYTES = 128
DONE = b"FNSD"


class HeaderV1(NamedTuple):
    """Header of a frame of version 1.

    Attributes:
        frame_type: DATA ... EMPTY.
        unit_id: Of the receiver.
        n_channels: Active channels.
        frequency_hz: Centre frequency.
        adc_rate_hz: Rate of the converters.
        sample_rate_hz: Rate of the samples.
        n_samples: Samples a channel, 0 for none.
        time_ms: UNIX time of the frame, milliseconds.
        block: Index of the block of the converters.
        cpi: Index of the frame.
        bits: Of one real number in the payload.
        overdrive: One bit a channel.
        gain_tenth_db: Of each channel.
        delay_sync: The channels' delays are corrected.
        iq_sync: ... and their phases.
        sync_state: SYNC_INIT ... SYNC_TRACK.
        noise_source: The receiver hears its own noise source, not the antennas.
    """

    frame_type: int = DATA
    hardware_id: bytes = b""
    unit_id: int = 0
    n_channels: int = 5
    input_type: int = 1
    frequency_hz: int = 0
    adc_rate_hz: int = 0
    sample_rate_hz: int = 0
    n_samples: int = 0
    time_ms: int = 0
    block: int = 0
    cpi: int = 0
    integration: int = 0
    data_type: int = 3
    bits: int = 32
    overdrive: int = 0
    gain_tenth_db: tuple[int, ...] = (0,) * MAX_CHANNELS
    delay_sync: int = 0
    iq_sync: int = 0
    sync_state: int = SYNC_INIT
    noise_source: int = 0
    version: int = 7

    @property
    def payload_bytes(self) -> int:
        return self.n_channels * self.n_samples * 2 * self.bits // 8


def encode_v1(header: HeaderV1) -> bytes:
    """Return the 1024 bytes of a header."""
    h = header
    gains = (*h.gain_tenth_db, *(0,) * MAX_CHANNELS)[:MAX_CHANNELS]
    return _V1.pack(SYNC_WORD, *h[:16], *gains, *h[17:])


def decode_v1(data: bytes | bytearray | memoryview) -> HeaderV1:
    """Read a header.

    Raises:
        WireError: These are not the 1024 bytes of one, or its counts cannot be.
    """
    if len(data) != V1_BYTES:
        raise WireError(f"heimdall 1: a header has {V1_BYTES} bytes, got {len(data)}")
    sync, *fields = _V1.unpack(data)
    if sync != SYNC_WORD:
        hint = " (a packet of version 2)" if bytes(data[:4]) == MAGIC else ""
        raise WireError(f"heimdall 1: a header begins with 0x{SYNC_WORD:08X}, got 0x{sync:08X}{hint}")
    gains = tuple(fields[16 : 16 + MAX_CHANNELS])
    header = HeaderV1._make([*fields[:16], gains, *fields[16 + MAX_CHANNELS :]])
    if not (0 < header.n_channels <= MAX_CHANNELS and header.n_samples <= MAX_CPI_SAMPLES):
        raise WireError(f"heimdall 1: {header.n_channels} channels of {header.n_samples} samples cannot be")
    if header.frame_type >= len(FRAME_TYPES) or header.bits not in (0, 32):
        raise WireError(f"heimdall 1: frame type {header.frame_type}, {header.bits} bits: expected 0 to 5, 32 bits")
    if header.n_samples and not (header.sample_rate_hz and header.bits):
        raise WireError("heimdall 1: samples without a sample rate or without bits")
    return header


def encode_control_v1(command: str, *values: int) -> bytes:
    """A command of 128 bytes: ``INIT``; ``FREQ`` with Hz; ``GAIN`` with tenths of dB, a value a channel."""
    body = struct.pack("<Q", *values) if command == "FREQ" else struct.pack(f"<{len(values)}I", *values)
    return (command.encode() + body).ljust(CONTROL_BYTES, b"\0")


def decode_control_v1(message: bytes, n_channels: int) -> tuple[str, tuple[int, ...]]:
    """Return command and values of a message that :func:`encode_control_v1` made.

    Raises:
        WireError: It is none.
    """
    if len(message) != CONTROL_BYTES:
        raise WireError(f"heimdall 1: a command has {CONTROL_BYTES} bytes, got {len(message)}")
    match message[:4]:
        case b"INIT":
            return "INIT", ()
        case b"FREQ":
            return "FREQ", struct.unpack_from("<Q", message, 4)
        case b"GAIN":
            return "GAIN", struct.unpack_from(f"<{n_channels}I", message, 4)
    raise WireError(f"heimdall 1: unknown command {message[:4]!r}: there are INIT, FREQ, GAIN")


# -- version 2 ---------------------------------------------------------------------------------------------------------

MAGIC = b"MCHQ"
#: States of the phase compensation. Others have been seen; all but CONVERGED mean that phases are not compensated.
WAITING, MEASURING, APPLYING, VERIFYING, CONVERGED = range(5)
PHASE_STATES = ("waiting", "measuring", "applying", "verifying", "converged")
MAX_V2_CHANNELS, MAX_V2_SAMPLES = 5, 65536
_MAX_PHASE_STATE = 15
#: What is subtracted from a byte, and what is full scale then.
OFFSET, FULL_SCALE = 127.5, 127.5

_V2 = struct.Struct(">4s7I")
V2_FIXED_BYTES = _V2.size


class HeaderV2(NamedTuple):
    """Header of a packet of version 2.

    Attributes:
        n_channels: 1 .. 5.
        n_samples: A channel, 1 .. 65536.
        phase_state: WAITING ... CONVERGED.
        noise_source: The receiver hears its own noise source, not the antennas.
        frequency_changes: How often it was retuned.
        group: Index of the group of frequencies.
        retuning: It is being retuned.
        frequency_hz: Of each channel, as float32.
        gain_db: Of each channel, as float32.
    """

    n_channels: int
    n_samples: int
    phase_state: int = CONVERGED
    noise_source: int = 0
    frequency_changes: int = 0
    group: int = 0
    retuning: int = 0
    frequency_hz: tuple[float, ...] = ()
    gain_db: tuple[float, ...] = ()

    @property
    def header_bytes(self) -> int:
        return V2_FIXED_BYTES + 8 * self.n_channels

    @property
    def payload_bytes(self) -> int:
        return self.n_channels * self.n_samples * 2


def encode_v2(header: HeaderV2) -> bytes:
    """Return the bytes of a header."""
    pairs = [x for pair in zip(header.frequency_hz, header.gain_db, strict=True) for x in pair]
    return _V2.pack(MAGIC, *header[:7]) + struct.pack(f"<{2 * header.n_channels}f", *pairs)


def decode_v2(data: bytes | bytearray | memoryview, start: int = 0) -> HeaderV2 | None:
    """Read the header that begins at ``start``; ``None``: it has not come whole.

    Raises:
        WireError: No header begins there.
    """
    if len(data) - start < V2_FIXED_BYTES:
        return None
    magic, *words = _V2.unpack_from(data, start)
    if magic != MAGIC:
        raise WireError(f"heimdall 2: a packet begins with {MAGIC!r}, got {magic!r}")
    n_channels, n_samples, phase_state, noise, _, _, retuning = words
    if not (0 < n_channels <= MAX_V2_CHANNELS and 0 < n_samples <= MAX_V2_SAMPLES):
        raise WireError(f"heimdall 2: {n_channels} channels of {n_samples} samples cannot be")
    if phase_state > _MAX_PHASE_STATE or noise > 1 or retuning > 1:
        raise WireError(f"heimdall 2: phase state {phase_state}, noise source {noise}, retuning {retuning} cannot be")
    if len(data) - start < V2_FIXED_BYTES + 8 * n_channels:
        return None
    floats = struct.unpack_from(f"<{2 * n_channels}f", data, start + V2_FIXED_BYTES)
    return HeaderV2._make([*words, floats[::2], floats[1::2]])


def find_v2(data: bytes | bytearray | memoryview, start: int = 0) -> tuple[int, HeaderV2 | None]:
    """The next plausible header at or after ``start``.

    Returns:
        Where it begins, and the header; ``None`` in its place where more bytes are needed to tell: what is before that
        place is of no packet.
    """
    whole = bytes(data)
    while True:
        place = whole.find(MAGIC, start)
        if place < 0:
            # the first bytes of a mark may be at the end
            tail = next((n for n in (3, 2, 1) if whole[start:].endswith(MAGIC[:n])), 0)
            return len(whole) - tail, None
        try:
            return place, decode_v2(whole, place)
        except WireError:
            start = place + 1


def encode_control_v2(command: str, **values: Any) -> bytes:
    """A line: ``{"set_frequency": {"frequency": 433920000}}``, ``{"set_gain": {"gain": 20.0, "channel": 0}}``."""
    return json.dumps({command: values}).encode() + b"\n"


def decode_control_v2(line: bytes) -> tuple[str, dict[str, Any]]:
    """Return command and values of a line.

    Raises:
        WireError: It is none.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"heimdall 2: a command is one JSON object a line: {error}") from error
    if isinstance(message, dict) and isinstance(message.get("command"), str):  # the flat form, which it takes too
        return message["command"], {k: v for k, v in message.items() if k != "command"}
    if isinstance(message, dict) and len(message) == 1:
        command, values = next(iter(message.items()))
        if isinstance(values, dict):
            return command, values
    raise WireError(f"heimdall 2: expected one command with its values, got {str(message)[:80]}")


#: Gains that its tuners (R820T) have, tenths of dB.
TUNER_GAINS_TENTH_DB = (
    0, 9, 14, 27, 37, 77, 87, 125, 144, 157, 166, 197, 207, 229, 254, 280, 297, 328, 338, 364, 372, 386, 402, 421, 434,
    439, 445, 480, 496,
)  # fmt: skip
#: Lowest and highest centre frequency of these tuners.
TUNER_HZ = (24e6, 1.766e9)


def nearest_gain_tenth_db(gain_db: float, gains: Sequence[int] = TUNER_GAINS_TENTH_DB) -> int:
    """The gain that the tuners have which is nearest to ``gain_db``."""
    return min(gains, key=lambda g: abs(g - 10 * gain_db))


def status_v2(line: bytes) -> str | None:
    """What a line of the control port says of the last command: nothing where it was done, why where it was not;
    ``None``: it is about something else."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    status = message.get("status") if isinstance(message, dict) else None
    if not isinstance(status, str):
        return None
    return "" if status in ("ok", "success") else str(message.get("message") or message.get("error") or status)
