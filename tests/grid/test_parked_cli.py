"""How the list of parked messages is printed: for a terminal, and for another program."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from grid.messages import ChargeRequest
from grid.parked.cli import arguments, run
from grid.parked.queue import ParkedQueue
from grid.parked.text import FITTED_HEADING, HEADING
from grid.parking import read

REASON = "more power than any has: 3999 kW, the largest has 400 kW"


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


class OneMessage:
    """A parked queue with one message."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    async def messages(self) -> AsyncIterator[Any]:
        body = ChargeRequest("4" * 36, 1_700_000_000, vehicle_id="bus 12").encode()
        headers = {"x-parked-kind": "more power than any has", "x-parked-reason": REASON}
        yield SimpleNamespace(parked=read("4" * 36, body, headers))


async def listed(out: io.StringIO) -> list[str]:
    """Return the lines that `make parked` prints there."""
    queue = cast(ParkedQueue, OneMessage())
    assert await run(arguments(["list"]), queue, out, io.StringIO()) == 0
    return out.getvalue().splitlines()


@pytest.mark.parametrize("columns", [80, 120])
async def test_parked_list_fits_the_terminal_it_is_printed_on(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the vehicle, and with the whole reason below."""
    monkeypatch.setenv("COLUMNS", str(columns))
    heading, first, *others = await listed(Terminal())
    assert heading == FITTED_HEADING
    assert first == f"{'4' * 36}  -                     bus 12"
    assert all(len(line) <= columns for line in (heading, first, *others))
    assert REASON in " ".join(line.strip() for line in others)


async def test_parked_list_has_a_line_for_each_message_in_a_pipe() -> None:
    heading, line = await listed(io.StringIO())
    assert heading == HEADING
    assert line.endswith(REASON)
    assert "  bus 12  " in line
