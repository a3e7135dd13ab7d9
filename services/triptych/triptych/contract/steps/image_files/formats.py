"""Formats of image files by their first bytes, and the header that is read before decoding."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Format = Literal["png", "jpeg"]

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE: Final = b"\xff\xd8\xff"

# Formats that are refused by name: (offset, bytes, name). The decoder never sees such a file.
_OTHERS: Final = (
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "BigTIFF"),
    (0, b"MM\0+", "BigTIFF"),
    (8, b"WEBP", "WebP"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftypheic", "HEIC"),
    (4, b"ftypheix", "HEIC"),
    (4, b"ftypheim", "HEIC"),
    (4, b"ftypheis", "HEIC"),
    (4, b"ftyphevc", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
    (4, b"ftyp", "MP4 or QuickTime"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\x8aMNG\r\n\x1a\n", "MNG"),
    (0, b"\x8bJNG\r\n\x1a\n", "JNG"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"\x59\xa6\x6a\x95", "Sun raster"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\x01\0", "ICO"),
    (0, b"%PDF-", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML"),
    (0, b"data:image/", "data URL"),
    (0, b"iVBORw0KGgo", "PNG in base64"),
    (0, b"/9j/", "JPEG in base64"),
    # What an encoding of text makes of the first byte: a caller took the file for a string.
    (0, b"\xef\xbf\xbdPNG", "PNG converted as text"),
    (0, b"\xc2\x89PNG", "PNG converted as text"),
    (0, b"\x89PNG\n", "PNG with converted line ends"),
    (0, b"\x89PNG\r\r\n", "PNG with converted line ends"),
    (0, b"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "JPEG converted as text"),
    (0, b"\xc3\xbf\xc3\x98\xc3\xbf", "JPEG converted as text"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x93NUMPY", "NumPy"),
    *((0, b"P%d%c" % (kind, space), "PNM") for kind in range(1, 8) for space in b" \t\r\n#"),
)


class ImageHeader(NamedTuple):
    """Header of an image file: stored size in pixels, before any EXIF rotation."""

    width: int
    height: int
    channels: int = 3

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def unpacked_bytes(self) -> int:
        """Bytes of the decoded picture: RGB, and the CMYK pixels of a JPEG of four colours."""
        return self.pixels * (7 if self.channels == 4 else 3)


class BrokenImage(ValueError):
    """The file is cut off, inconsistent, or of a variant that is not served; the text says which."""


def format_of(data: bytes) -> Format | None:
    """Format by the first bytes, or None."""
    if data.startswith(PNG_SIGNATURE):
        return "png"
    return "jpeg" if data.startswith(JPEG_SIGNATURE) else None


def other_format(data: bytes) -> str | None:
    """Name of a known format that is not served, or None."""
    for offset, signature, name in _OTHERS:
        if data.startswith(signature, offset):
            return name
    return None


def cut_off(data: bytes) -> BrokenImage:
    """Error for a file that ends before its picture."""
    return BrokenImage(f"cut off after {len(data)} bytes")
