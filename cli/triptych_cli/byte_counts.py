"""Counts of bytes in words."""

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def format_bytes(count: float) -> str:
    """Bytes with a binary unit: `1.5 KiB`."""
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.1f} {UNITS[unit]}" if unit else f"{count:.0f} bytes"
