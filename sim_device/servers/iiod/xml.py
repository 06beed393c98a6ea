"""A context as the XML that iiod prints, in libiio 0.24's own spelling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from xml.sax.saxutils import quoteattr

from sim_device.servers.iiod.context import Attribute, Channel, Context, IioDevice

VERSION_MAJOR, VERSION_MINOR = 0, 24
#: Seven characters, as of a git revision.
VERSION_GIT = "v0.24  "

# The inline document type of libiio 0.24: clients validate against it.
_DOCTYPE = (
    "<!DOCTYPE context ["
    "<!ELEMENT context (device | context-attribute)*>"
    "<!ELEMENT context-attribute EMPTY>"
    "<!ELEMENT device (channel | attribute | debug-attribute | buffer-attribute)*>"
    "<!ELEMENT channel (scan-element?, attribute*)>"
    "<!ELEMENT attribute EMPTY>"
    "<!ELEMENT scan-element EMPTY>"
    "<!ELEMENT debug-attribute EMPTY>"
    "<!ELEMENT buffer-attribute EMPTY>"
    "<!ATTLIST context name CDATA #REQUIRED version-major CDATA #REQUIRED version-minor CDATA #REQUIRED "
    "version-git CDATA #REQUIRED description CDATA #IMPLIED>"
    "<!ATTLIST context-attribute name CDATA #REQUIRED value CDATA #REQUIRED>"
    "<!ATTLIST device id CDATA #REQUIRED name CDATA #IMPLIED label CDATA #IMPLIED>"
    "<!ATTLIST channel id CDATA #REQUIRED type (input|output) #REQUIRED name CDATA #IMPLIED>"
    "<!ATTLIST scan-element index CDATA #REQUIRED format CDATA #REQUIRED scale CDATA #IMPLIED>"
    "<!ATTLIST attribute name CDATA #REQUIRED filename CDATA #IMPLIED>"
    "<!ATTLIST debug-attribute name CDATA #REQUIRED>"
    "<!ATTLIST buffer-attribute name CDATA #REQUIRED>"
    "]>"
)


def to_xml(context: Context) -> str:
    """Return the document that PRINT gives."""
    return "".join(_document(context))


def _document(context: Context) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="utf-8"?>' + _DOCTYPE
    yield (
        f'<context name="xml" version-major="{VERSION_MAJOR}" version-minor="{VERSION_MINOR}" '
        f'version-git="{VERSION_GIT}" description={quoteattr(context.description)} >'
    )
    for name, value in context.attributes.items():
        yield f"<context-attribute name={quoteattr(name)} value={quoteattr(value)} />"
    for device in context.devices:
        yield from _device(device)
    yield "</context>"


def _device(device: IioDevice) -> Iterator[str]:
    yield f"<device id={quoteattr(device.id)} name={quoteattr(device.name)}"
    if device.label is not None:
        yield f" label={quoteattr(device.label)}"
    yield " >"
    for channel in device.ordered:
        yield from _channel(channel)
    yield from _named("attribute", device.attributes)
    yield from _named("buffer-attribute", device.buffer)
    yield from _named("debug-attribute", device.debug)
    yield "</device>"


def _channel(channel: Channel) -> Iterator[str]:
    yield f"<channel id={quoteattr(channel.id)}"
    if channel.name is not None:
        yield f" name={quoteattr(channel.name)}"
    yield f' type="{channel.direction}" >'
    if channel.scan is not None:
        yield f'<scan-element index="{channel.scan.index}" format={quoteattr(channel.scan.format)} />'
    for a in channel.attributes:
        yield f"<attribute name={quoteattr(a.name)} filename={quoteattr(a.filename or a.name)} />"
    yield "</channel>"


def _named(element: str, attributes: Iterable[Attribute]) -> Iterator[str]:
    for a in attributes:
        yield f"<{element} name={quoteattr(a.name)} />"
