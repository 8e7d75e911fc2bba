"""What happens to processes: killed, held, terminated."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from time import monotonic
from typing import Final

from grid import topology
from tests.faults.backlog import write_past, write_waiting
from tests.faults.stage import Stage
from tests.system import DISPATCHERS, THIRD

ENDED_SECONDS: Final = 10.0  # sessions have half of it to finish
ACCEPTED_AGAIN_SECONDS: Final = 10.0  # after a start of everything

# three dispatchers, of which the active one is killed again and again
QUICK_SECONDS: Final = 3.0  # between two kills
LONG_KILLS, SHORT_KILLS = 27, 3
LONG_LOG, SHORT_LOG = 50_000, 2_000  # jobs that have ended
LONG_BACKLOG, SHORT_BACKLOG = 15_000, 500  # requests that wait
BACKLOG_SECONDS: Final = 300.0  # to write them


def kill_often(names: Sequence[str], stage: Stage) -> None:
    """Kill a process at a random moment and start it again, the named ones in turn.

    No substation is killed so often in a row that the dispatcher would send it few jobs.
    """
    for name in islice(cycle(names), stage.length.kills):
        stage.at_random()
        _kill(stage, name)


def kill_active_dispatcher(stage: Stage) -> None:
    """Kill the active dispatcher at random moments, each time once another has read the log."""
    for _ in range(stage.length.kills):
        name = active(stage)
        stage.at_random()
        _kill(stage, name)
        stage.system.wait_ready(name, eligible=())


def kill_dispatchers_quickly(stage: Stage) -> None:
    """Kill the active dispatcher every few seconds, whether or not the next one has started.

    There are three, a long log and many waiting requests: a dispatcher that takes over before
    it knows what was sent would send it again.
    """
    names = (*DISPATCHERS, THIRD)
    if stage.length.kills > 1:
        kills, ended, waiting = LONG_KILLS, LONG_LOG, LONG_BACKLOG
    else:
        kills, ended, waiting = SHORT_KILLS, SHORT_LOG, SHORT_BACKLOG
    urls = [stage.vhost.url()]
    stage.aside.do(write_past(urls, ended), BACKLOG_SECONDS)
    stage.system.start(THIRD)
    stage.system.wait_ready(THIRD, eligible=())
    stage.aside.do(write_waiting(urls, waiting), BACKLOG_SECONDS)
    for _ in range(kills):
        name = active(stage, names)
        stage.system.kill(name)
        stage.system.start(name)
        stage.wait(QUICK_SECONDS)
    stage.system.until(lambda: not _waiting(stage), "what has waited is charged", BACKLOG_SECONDS)
    stage.ended()
    stage.system.end(THIRD)
    stage.system.wait_ready(*DISPATCHERS, eligible=())
    stage.note(f"{kills} kills, {ended:,} jobs in the log, {waiting:,} waiting")


def _waiting(stage: Stage) -> int:
    """Return how many requests wait, as RabbitMQ last counted them."""
    return int(stage.vhost.queue(topology.REQUESTS).get("messages", 0))


def active(stage: Stage, names: Sequence[str] = DISPATCHERS) -> str:
    """Return the name of the active dispatcher: the one that decides."""
    before = _decisions(stage, names)
    stage.system.until(lambda: _decides(stage, names, before), "a dispatcher decides")
    now = _decisions(stage, names)
    return max(names, key=lambda name: now[name] - before[name])


def _decides(stage: Stage, names: Sequence[str], before: dict[str, float]) -> bool:
    now = _decisions(stage, names)
    return any(now[name] > before[name] for name in names)


def _decisions(stage: Stage, names: Sequence[str]) -> dict[str, float]:
    return {name: sum(stage.values(name, "dispatcher_decisions_total").values()) for name in names}


def _kill(stage: Stage, name: str) -> None:
    stage.system.kill(name)
    stage.system.start(name)
    stage.ended()


@contextmanager
def hold(stage: Stage, *names: str) -> Iterator[None]:
    """Stop processes while the context lasts; they continue with all they knew."""
    for name in names:
        stage.system.tell(name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            stage.system.tell(name, signal.SIGCONT)


def terminate_all(stage: Stage) -> None:
    """Terminate everything, in random order, and start it again."""
    names = list(stage.system.processes)
    stage.random.shuffle(names)
    told = {}
    for name in names:
        stage.system.tell(name, signal.SIGTERM)
        told[name] = monotonic()
        stage.wait(stage.random.uniform(0, 0.2))
    took = _all_ended(stage, told)
    assert took <= ENDED_SECONDS, f"the last one ended after {took:.1f} s"
    started = monotonic()
    for name in names:
        stage.system.start(name)
    stage.ended()
    again = stage.check_accepted(started, ACCEPTED_AGAIN_SECONDS)
    stage.note(f"ended within {took:.1f} s, all answered 202 again {again:.1f} s after the start")


def _all_ended(stage: Stage, told: Mapping[str, float]) -> float:
    """Check that all that were terminated end well; return the seconds of the slowest."""
    statuses, took = {}, 0.0
    for name, at in told.items():
        statuses[name] = stage.system.ended(name)
        took = max(took, monotonic() - at)
    assert set(statuses.values()) == {0}, f"not all ended well: {statuses}"
    return took
