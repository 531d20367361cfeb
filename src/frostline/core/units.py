"""Bytes and seconds for people: one wording in the whole library."""

from __future__ import annotations


def size_text(count: float) -> str:
    """Bytes with the unit that fits.

    Example:
        >>> size_text(16), size_text(16_640), size_text(2_500_000_000)
        ('16 bytes', '16.6 KB', '2.5 GB')
    """
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if count >= limit:
            return f"{count / limit:.1f} {unit}"
    return f"{count:.0f} bytes"


def seconds_text(value: float) -> str:
    """Seconds with the unit that fits.

    Example:
        >>> seconds_text(0.012), seconds_text(1.5), seconds_text(720), seconds_text(36_000)
        ('12 ms', '1.5 s', '12.0 min', '10.0 h')
    """
    if value < 0.95:
        return f"{1e3 * value:.0f} ms" if value >= 9.5e-3 else f"{1e3 * value:.2g} ms"
    for unit, length in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if value >= 2 * length or unit == "s":
            return f"{value / length:.1f} {unit}" if value < 100 * length else f"{value / length:.0f} {unit}"
    raise AssertionError(value)
