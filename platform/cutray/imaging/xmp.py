"""Read XMP packets, and rebuild them from the statements about copyright."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape  # that of xml.sax would load urllib, ssl and email with it
from xml.etree import ElementTree

_MAX_BYTES = 1 << 20
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "cc": "http://creativecommons.org/ns#",
}
# Who made the photo and who may use it, with the RDF container that each property has.
_KEPT: Mapping[str, str] = {
    "dc:rights": "Alt",
    "dc:creator": "Seq",
    "dc:title": "Alt",
    "xmpRights:Marked": "",
    "xmpRights:Owner": "Bag",
    "xmpRights:UsageTerms": "Alt",
    "xmpRights:WebStatement": "",
    "photoshop:Credit": "",
    "photoshop:Source": "",
    "photoshop:AuthorsPosition": "",
    "cc:license": "",
    "cc:attributionName": "",
    "cc:attributionURL": "",
}


def read_xmp_view(xmp: bytes | None) -> tuple[int | None, tuple[float, float] | None]:
    """Find out how a photo is to be shown: which way up, and how large.

    Source: XMP specification part 2, section 3.4 (TIFF schema).

    Args:
        xmp: The packet, or None.

    Returns:
        The orientation, 1 to 8, or None; horizontal and vertical dots per inch or None.
    """
    if not xmp:
        return None, None
    text = bytes(xmp[:_MAX_BYTES])
    turn, across, down = (_find(text, name) for name in (b"Orientation", b"XResolution", b"YResolution"))
    orientation = int(turn) if turn is not None and re.fullmatch(rb"[1-8]", turn) else None
    per_inch = {None: 1.0, b"2": 1.0, b"3": 2.54}.get(_find(text, b"ResolutionUnit"))
    x, y = _divide(across), _divide(down)
    return orientation, ((x * per_inch, y * per_inch) if x and y and per_inch else None)


def select_rights(xmp: bytes | None) -> bytes | None:
    """Build a new packet of the statements about author and copyright.

    Args:
        xmp: The photo's packet, or None.

    Returns:
        The packet, or None when it states nothing of the kind or cannot be read.
    """
    # Entities are the one way in which a packet could cost more than its bytes; XMP has no use for them.
    if not xmp or len(xmp) > _MAX_BYTES or b"<!" in xmp or b"\x00" in xmp.rstrip(b"\x00"):
        return None
    try:
        root = ElementTree.fromstring(xmp.rstrip(b"\x00").strip())  # noqa: S314 (see above)
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    kept: dict[str, str] = {}
    for description in root.iter(f"{{{_RDF}}}Description"):
        for name, container in _KEPT.items():
            prefix, _, local = name.partition(":")
            key = f"{{{_NAMESPACES[prefix]}}}{local}"
            values = _read_values(description, key)
            if values:
                kept.setdefault(name, _write_property(name, container, values))
    return _write_packet("".join(kept.values())) if kept else None


def _find(text: bytes, name: bytes) -> bytes | None:
    """Return a property of the TIFF schema, which is written as an attribute or as an element."""
    found = re.search(rb"tiff:" + name + rb"\s*(?:=\s*[\"']|>)\s*([0-9/.]+)", text)
    return found[1] if found else None


def _divide(number: bytes | None) -> float | None:
    """Read a number or a fraction such as 300/1."""
    try:
        above, _, below = (number or b"").partition(b"/")
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        return None


def _read_values(description: ElementTree.Element, key: str) -> list[tuple[str, str]]:
    """Return language and text of each value of a property, an attribute or an element with or without a list."""
    if key in description.attrib:
        return [("", description.attrib[key])]
    element = description.find(key)
    if element is None:
        return []
    items = element.findall(f".//{{{_RDF}}}li")
    link = element.get(f"{{{_RDF}}}resource")
    if link:
        return [("", link)]
    values = [(item.get(_LANG, ""), item.text or "") for item in items] or [("", element.text or "")]
    return [(language, text.strip()) for language, text in values if text.strip()]


def _write_property(name: str, container: str, values: list[tuple[str, str]]) -> str:
    """Write one property in RDF."""
    if not container:
        return f"<{name}>{escape(values[0][1], quote=False)}</{name}>"
    items = []
    for language, text in values:
        mark = (
            f' xml:lang="{escape((language or "x-default").replace(chr(34), ""), quote=False)}"'
            if container == "Alt"
            else ""
        )
        items.append(f"<rdf:li{mark}>{escape(text, quote=False)}</rdf:li>")
    return f"<{name}><rdf:{container}>{''.join(items)}</rdf:{container}></{name}>"


def _write_packet(properties: str) -> bytes:
    """Put properties into a packet."""
    spaces = " ".join(f'xmlns:{prefix}="{address}"' for prefix, address in _NAMESPACES.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"><rdf:Description rdf:about="" {spaces}>'
        f'{properties}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()
