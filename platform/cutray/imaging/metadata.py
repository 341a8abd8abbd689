"""What a photo says about itself: how it is to be shown, and what may be kept in a result."""

from __future__ import annotations

from dataclasses import dataclass

from cutray.imaging.exif import ExifFields, read_exif_view, select_fields
from cutray.imaging.iptc import find_iptc, select_iptc
from cutray.imaging.xmp import read_xmp_view, select_rights


@dataclass(frozen=True, slots=True)
class StoredMetadata:
    """Blocks of metadata as a file stores them.

    Attributes:
        exif: EXIF, with or without its prefix, or a whole TIFF file.
        xmp: XMP packet.
        iptc: IPTC records, bare or wrapped as Photoshop resources.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None

    def read_view(self) -> tuple[int, tuple[float, float] | None]:
        """Find out which way up the photo is, and how large: what EXIF does not say, XMP may.

        Returns:
            The orientation, 1 to 8; horizontal and vertical dots per inch or None.
        """
        orientation, dpi = read_exif_view(self.exif)
        if self.xmp and (orientation is None or dpi is None):
            from_xmp = read_xmp_view(self.xmp)
            orientation, dpi = orientation or from_xmp[0], dpi or from_xmp[1]
        return orientation or 1, dpi


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata that may be written to a result.

    Attributes:
        exif: Fields without position, orientation, thumbnail, maker notes, serial numbers and owner.
        xmp: A packet with author and copyright.
        iptc: Bare records without previews.
    """

    exif: ExifFields | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None


def select_metadata(stored: StoredMetadata) -> Metadata | None:
    """Select what may be published.

    Args:
        stored: The blocks of a file.

    Returns:
        What is left, or None when that is nothing.
    """
    exif, xmp = select_fields(stored.exif), select_rights(stored.xmp)
    iptc = select_iptc(find_iptc(stored.iptc))
    return Metadata(exif, xmp, iptc) if exif or xmp or iptc else None
