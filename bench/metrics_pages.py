"""Metrics pages of substations with unlimited room: ``PORTS=1,2,3 python -m bench.metrics_pages``.

Each says that it has a million connectors, none of them in use, and any power.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from bench.node import SUBSTATIONS
from deploy.local.ports import HOST

PAGE: Final = """\
ev_charging_info{{substation="{name}"}} 1.0
ev_charging_load 0.0
ev_charging_connectors 1e+06
ev_charging_power_kw 0.0
ev_charging_rated_power_kw 1e+09
ev_charging_background_power_kw 0.0
ev_charging_waiting 0.0
ev_charging_sessions_accepted_total 0.0
ev_charging_sessions_completed_total 0.0
ev_charging_expired_deliveries_total 0.0
ev_charging_duplicate_deliveries_total 0.0
process_start_time_seconds 1.79e+09
"""


class Page(asyncio.Protocol):
    """Answers whatever it is asked with one page."""

    def __init__(self, name: str) -> None:
        body = PAGE.format(name=name).encode()
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._answer = head.encode() + body
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that has come in full."""
        *asked, self._asked = (self._asked + data).split(b"\r\n\r\n")
        self._transport.write(self._answer * len(asked))


async def _serve(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda name=name: Page(name), HOST, port)  # type: ignore[misc]
        for name, port in zip(SUBSTATIONS, ports, strict=True)
    ]
    await asyncio.gather(*(each.serve_forever() for each in servers))


if __name__ == "__main__":
    asyncio.run(_serve(list(map(int, os.environ["PORTS"].split(",")))))
