"""What the dispatcher and the api do under load, by samples of their stacks."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench import relay
from bench.chain import CLIENTS, WARM_UP_SECONDS
from bench.chains import ours
from bench.load import CHARGE, closed_loop
from bench.node import RabbitMQ
from bench.profile import RATE, profiled
from bench.report import Part, Table
from bench.sizes import Sizes

TEXT = (
    "What the dispatcher does while it relays, and the api while {clients} clients ask the whole "
    "chain again as soon as they are answered: by samples of the main thread (`py-spy`, {rate} a "
    "second), the share of each module itself, and of the project's own modules with all that they "
    "call. These runs are not those timed above."
)


async def measure(broker: RabbitMQ, folder: Path, sizes: Sizes) -> Part:
    """Profile both."""
    tables = [
        *await relay.profile(broker, folder, sizes),
        *await _profile_of_api(broker, folder, sizes),
    ]
    return Part("profile", "Profiles", TEXT.format(clients=CLIENTS, rate=RATE), tables)


async def _profile_of_api(broker: RabbitMQ, folder: Path, sizes: Sizes) -> list[Table]:
    with broker.vhost() as vhost:
        async with ours(vhost, folder) as chain:
            await closed_loop(chain.port, CHARGE, CLIENTS, WARM_UP_SECONDS)
            # longer than the sampling, which takes a moment to begin
            seconds = 2 * sizes.profile_seconds
            load = asyncio.create_task(closed_loop(chain.port, CHARGE, CLIENTS, seconds))
            try:
                return await profiled("api", chain.programs["api"], sizes.profile_seconds, folder)
            finally:
                load.cancel()
