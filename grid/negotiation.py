"""Which of two media types a client prefers, by its Accept header (RFC 9110, 12.5.1). Pure."""

from __future__ import annotations


def prefers(accept: str, kind: str, other: str) -> bool:
    """Return whether an Accept header asks for ``kind`` rather than for ``other``.

    A header that names neither leaves the choice to the server, which answers with ``other``.
    """
    qualities = {kind: 0.0, other: 0.0}
    for part in accept.split(","):
        named, *parameters = (each.strip().lower() for each in part.split(";"))
        if named in qualities:
            quality = next((_quality(each) for each in parameters if each[:2] == "q="), 1.0)
            qualities[named] = max(qualities[named], quality)  # of several versions of one type
    return qualities[kind] > qualities[other]


def _quality(parameter: str) -> float:
    try:
        return float(parameter[2:])
    except ValueError:
        return 0.0
