"""What exactly a request needs: system calls, wake-ups, AMQP messages, bytes, at 50 a second."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from bench.chain import CHAINS, OURS, PLAIN
from bench.chains import Chain
from bench.load import CHARGE, closed_loop, open_loop
from bench.node import RabbitMQ, VirtualHost
from bench.processes import NotMeasured
from bench.report import Part, Ratio, Row, Table
from bench.sizes import Sizes
from grid import topology

RATE: Final = 50  # requests a second
STATISTICS_SECONDS: Final = 6.0  # RabbitMQ's own are up to 5 s old
ATTACH_SECONDS: Final = 1.0
EPOLL: Final = ("epoll_wait", "epoll_pwait")
CALLS, WAKE_UPS = "system calls", "wake-ups"
PUBLISHED, DELIVERED = "messages published", "messages delivered"
OUT, IN = "bytes to RabbitMQ", "bytes from RabbitMQ"
AMQP: Final = (PUBLISHED, DELIVERED, OUT, IN)
MESSAGES: Final[Mapping[str, str]] = {
    "publish": PUBLISHED,
    "deliver": DELIVERED,
    "deliver_no_ack": DELIVERED,
    "get": DELIVERED,
}
TEXT: Final = (
    "Everything that each service does at {rate} requests/s for {seconds:g} s, divided by the "
    "requests. That includes its timers: scrapes, heartbeats, checks of queues. AMQP messages and "
    "bytes by RabbitMQ's management API; then, in a second run, system calls and wake-ups "
    "(`epoll_wait`) by `strace -c -f`, which slows everything down. {missing}"
)
MISSING: Final = (
    "**strace is missing, or may not trace here: no system calls** (Debian's package `strace`)."
)


async def measure(broker: RabbitMQ, folder: Path, sizes: Sizes) -> Part:
    """Count what both chains do."""
    traces = can_trace()
    columns = [*AMQP, CALLS, WAKE_UPS] if traces else list(AMQP)
    tables, sums = [], []
    for name in (OURS, PLAIN):
        with broker.vhost() as vhost:
            async with CHAINS[name](vhost, folder) as chain:
                found = await _counted(vhost, chain, folder, sizes.counted_seconds, traces=traces)
        rows = [Row(each, [figures]) for each, figures in found.items()]
        tables.append(Table(f"{name}, a request", columns, rows))
        sums.append(Row(name, [_sum(found)]))
    ratios = [Ratio(column, OURS, PLAIN) for column in columns]
    tables.append(Table("All services together", columns, sums, ratios))
    text = TEXT.format(
        rate=RATE,
        seconds=sizes.counted_seconds,
        missing="" if traces else MISSING,
    )
    return Part("counts", "Exact counts", text, tables)


async def _counted(
    vhost: VirtualHost, chain: Chain, folder: Path, seconds: float, *, traces: bool
) -> dict[str, dict[str, float]]:
    """Return what each service did for a request."""
    await closed_loop(chain.port, CHARGE, 2, 1.0)
    await asyncio.sleep(STATISTICS_SECONDS)
    before = _amqp(vhost)
    number = await _send(chain, seconds)
    await asyncio.sleep(STATISTICS_SECONDS)
    after = _amqp(vhost)
    files = {name: folder / f"strace-{name}" for name in chain.programs}
    traced = 0
    if traces:
        with ExitStack() as stack:
            for name, each in chain.programs.items():
                stack.enter_context(_strace(each.pid, files[name]))
            await asyncio.sleep(ATTACH_SECONDS)
            traced = await _send(chain, seconds)
    found: dict[str, dict[str, float]] = {}
    for shown, programs in chain.shown().items():
        names = [name for name, each in chain.programs.items() if each in programs]
        messages: Counter[str] = Counter()
        system: Counter[str] = Counter()
        for name in names:
            user = name if name in after else topology.substation_queue(name).name
            messages.update(after.get(user, Counter()))
            messages.subtract(before.get(user, Counter()))
            if traced:
                system.update(calls(files[name].read_text()))
        found[shown] = {
            **{column: count / traced for column, count in system.items()},
            **{column: count / number for column, count in messages.items()},
        }
    return found


def _sum(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for figures in found.values():
        for column, figure in figures.items():
            total[column] = total.get(column, 0.0) + figure
    return total


def can_trace() -> bool:
    """Return whether ``strace`` is installed, and allowed to look at another process."""
    if (strace := shutil.which("strace")) is None:
        return False
    # it looks at this process from the outside, as it will at the services
    command = [strace, "-c", "-p", str(os.getpid()), "-o", os.devnull]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        return process.wait(ATTACH_SECONDS) == 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()
        return True


async def _send(chain: Chain, seconds: float) -> int:
    """Send requests at the rate; return how many were accepted."""
    answers = await open_loop(chain.port, CHARGE, RATE, seconds)
    number = sum(each.accepted for each in answers)
    if not number:
        raise NotMeasured(f"no request was accepted: {answers[0].body[:300]!r}")
    return number


@contextmanager
def _strace(pid: int, file: Path) -> Iterator[None]:
    """Count a process's system calls while the context lasts."""
    file.unlink(missing_ok=True)
    command = ["strace", "-c", "-f", "-p", str(pid), "-o", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    if not file.exists() or not file.stat().st_size:
        raise NotMeasured(f"strace has counted nothing: {said.decode(errors='replace')[-300:]}")


def calls(text: str) -> Counter[str]:
    """Return system calls and wake-ups by name, from the summary of ``strace -c``."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 5 or not fields[3].isdecimal() or fields[-1] == "total":  # noqa: PLR2004
            continue
        found[CALLS] += int(fields[3])
        if fields[-1] in EPOLL:
            found[WAKE_UPS] += int(fields[3])
    return found


def _amqp(vhost: VirtualHost) -> dict[str, Counter[str]]:
    """Return messages and bytes so far, by user."""
    path = quote(vhost.name, safe="")
    connections = vhost.broker.request("GET", f"/api/vhosts/{path}/connections")
    channels = vhost.broker.request("GET", f"/api/vhosts/{path}/channels")
    return amqp(connections, channels)


def amqp(
    connections: list[dict[str, Any]], channels: list[dict[str, Any]]
) -> dict[str, Counter[str]]:
    """Return messages and bytes by user, from the management API's lists."""
    found: dict[str, Counter[str]] = {}
    for each in connections:
        total = found.setdefault(each["user"], Counter())
        total[OUT] += each.get("recv_oct", 0)  # as RabbitMQ sees it
        total[IN] += each.get("send_oct", 0)
    for each in channels:
        total = found.setdefault(each["user"], Counter())
        for name, count in each.get("message_stats", {}).items():
            if name in MESSAGES:
                total[MESSAGES[name]] += count
    return found
