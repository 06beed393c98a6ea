"""Channel estimates from a file that OpenAirInterface's ``record`` tool wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from drivers.ledger import Ledger
from drivers.paced import Paced, PacedParams
from drivers.tracer_frames import EVENTS, TracerFrames, TracerSrs
from hil.array import ArrayGeometry
from hil.array_params import build_array
from hil.errors import WireError
from hil.formats.t_tracer import (
    TEXT,
    TEXT_END,
    EventFormat,
    Record,
    decode_event,
    parse_messages,
    split_records,
    text_chunk,
    wanted_bytes,
)
from hil.frame import Frame, Header
from hil.streams import RAW_CFR, port_of

_READ = 1 << 20
#: Records that are looked at to learn how many antennas there are.
_LOOK = 4096


class OaiTracerFileParams(PacedParams, frozen=True, kw_only=True):
    path: Annotated[str, Meta(min_length=1, description="of the record file")]
    srs: Annotated[TracerSrs, Meta(description="carrier and sounded band, which the feed does not tell")] = TracerSrs()


class OaiTracerFile(Paced):
    """Channel frequency responses from a record file, as :class:`~drivers.oai_tracer.OaiTracer` gives them live."""

    params: OaiTracerFileParams
    outputs = {"cfr": port_of(RAW_CFR)}
    finite: ClassVar[bool] = True

    def __init__(self, name: str | None = None, /, **params: Any) -> None:
        super().__init__(name, **params)
        self._problems: list[str] = []

    def open_frames(self) -> Iterator[Frame]:
        path = Path(self.params.path)
        if not path.is_file():
            raise self.failure(f"{path} cannot be read", "there is no such file", "correct `path`")
        try:
            formats, n_antennas = self._look(path)
        except (OSError, WireError) as error:
            raise self.failure(
                f"{path} is no file of the T tracer's record tool", str(error), "correct `path`"
            ) from error
        return self._all(path, formats, n_antennas)

    def port_of(self, header: Header) -> str | None:
        return "cfr"

    def problems(self) -> list[str]:
        return self._problems

    # -- inside ----------------------------------------------------------------------------------------------------

    def _all(self, path: Path, formats: dict[str, EventFormat], n_antennas: int) -> Iterator[Frame]:
        ledger = Ledger(f"{self.name}.cfr", self._geometry(n_antennas), {"cfr": {"scale": "arbitrary"}})
        ledger.frequency_hz = self.params.srs.frequency_hz
        frames = TracerFrames(self.params.srs, formats, ledger, n_antennas, live=False)
        yield ledger.descriptor()
        try:
            for record in _records(path):
                yield from frames.take(record)
        except WireError as error:
            self._problems.append(f"{path}: {error}; what follows cannot be read")
        yield from frames.finish()

    def _geometry(self, n_antennas: int) -> ArrayGeometry:
        if self._array is None:
            return build_array(None, n_antennas, self.params.srs.frequency_hz)
        if len(self._array.channel_map) != n_antennas:
            raise self.failure(
                "the array does not fit the file",
                f"{len(self._array.channel_map)} channels are declared, an occasion has {n_antennas} antennas",
                "correct `array`, or give srs.n_antennas",
            )
        return self._array

    def _look(self, path: Path) -> tuple[dict[str, EventFormat], int]:
        """Events of the file, and antennas of an occasion."""
        text, antennas = b"", -1
        formats: dict[str, EventFormat] | None = None
        wanted = EVENTS[self.params.srs.estimate]
        try:
            for number, record in enumerate(_records(path)):
                if record.type == TEXT:
                    text += text_chunk(record.payload)
                elif record.type == TEXT_END:
                    formats = parse_messages(text.decode(errors="replace"))
                    if wanted not in formats:
                        raise WireError(f"its T_messages has no event {wanted}, only {len(formats)} others")
                elif formats is None:
                    raise WireError("it does not begin with the text of T_messages")
                elif record.type == formats[wanted].number:
                    antennas = max(antennas, int(decode_event(formats[wanted], record.payload)["antenna"]))
                if antennas >= 0 and (self.params.srs.n_antennas is not None or number > _LOOK):
                    break
        except WireError:
            if antennas < 0:
                raise  # else what is readable is given, and the rest told then
        if formats is None:
            raise WireError("it has no text of T_messages, or that does not end")
        if antennas < 0:
            raise WireError(f"it has no event {wanted}: turn it on when recording")
        return formats, self.params.srs.n_antennas or antennas + 1


def _records(path: Path) -> Iterator[Record]:
    """All records of a file; their memory is valid until the next one is asked for."""
    with path.open("rb") as file:
        data = b""
        while more := file.read(max(_READ, wanted_bytes(memoryview(data)) - len(data))):
            data += more
            records, taken = split_records(memoryview(data))
            yield from records
            data = data[taken:]
        if data:
            raise WireError(f"it ends in the middle of a record ({len(data)} bytes)")
