"""The faults: what each does to the system, for how long, and what it may cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from time import monotonic, time
from typing import Final

from grid import topology
from tests.broker import Broker
from tests.faults import brokerside
from tests.faults.accounts import ACCEPTED, UNAVAILABLE
from tests.faults.clock import SEEN_WITHIN_SECONDS
from tests.faults.pages import hostile_pages
from tests.faults.processes import (
    active,
    hold,
    kill_active_dispatcher,
    kill_dispatchers_quickly,
    kill_often,
    terminate_all,
)
from tests.faults.stage import CALM_SECONDS, Kind, Stage
from tests.faults.target_files import hostile_target_files
from tests.operators import put
from tests.system import DISPATCHERS

HOUR: Final = 3600
LIMIT: Final = 50  # requests that may wait, where that is the fault
ACCEPTED_AGAIN_SECONDS: Final = 5.0
TAKEN_OVER_SECONDS: Final = 60.0  # by then RabbitMQ has given up a dispatcher that hangs
DECLARED_AFTER_SECONDS: Final = 4.0
RECONCILED_SECONDS: Final = 30.0  # after a start: once the log is read
LOG_READ_SECONDS: Final = 60.0  # with thousands of jobs in it, on a busy machine
LOG_READ: Final = "the older part of the event log is read"  # as the dispatcher logs it
CUT_BYTES: Final = 100_000
PLAIN_GROUPS: Final = 3
# caused by a test of its own: all its jobs are cancelled, and more come than can be charged
CANCELLATION_FAULT: Final = (
    "jobs cancelled at any moment, substation and dispatcher killed in turns"
)
SUBSTATIONS: Final = ("substation1", "substation2", "substation3")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``strike`` causes it, once or several times, and reports the end of each.

    Service must be normal again ``within`` so many seconds; None if no time is promised, since a
    backlog is worked off first. ``twice`` says whether vehicles may be charged twice because of it:
    where a substation was killed while they charged.
    """

    name: str
    within: float | None
    strike: Callable[[Stage], None]
    twice: bool = False
    kind: Kind = Kind.PLAIN


def _broker_killed(stage: Stage) -> None:
    stage.vhost.broker.kill()
    stage.vhost.broker.start()
    stage.ended()


def _broker_away(stage: Stage) -> None:
    stage.vhost.broker.stop()
    stage.wait(stage.length.away)
    stage.vhost.broker.start()
    stage.ended()


def _connections_cut(stage: Stage) -> None:
    for _ in range(stage.length.kills):
        stage.at_random()
        stage.aside.do(stage.gate.reopen())
        stage.ended()


def _broker_mute(stage: Stage) -> None:
    stage.gate.freeze()
    stage.wait(stage.length.broken)
    stage.gate.thaw()
    stage.ended()


def _connections_dropped(stage: Stage) -> None:
    stage.gate.max_bytes = CUT_BYTES
    before = stage.gate.accepted
    stage.aside.do(stage.gate.reopen())
    stage.wait(stage.length.broken)
    stage.gate.max_bytes = inf
    stage.ended()
    stage.note(f"{stage.gate.accepted - before} connections")


def _alarm(raised: Callable[[Broker], AbstractContextManager[None]], stage: Stage) -> None:
    """Check that the api refuses while the alarm lasts, and does not grow in memory."""
    with raised(stage.vhost.broker):
        stage.until_refused(10)
        began, before = monotonic(), _memory(stage)
        stage.wait(stage.length.blocked)
        statuses = {each.status for each in stage.answers(began)}
        unnamed = [each for each in stage.answers(began) if each.pause is None]
        grown = _memory(stage) - before
    stage.ended()
    assert statuses == {UNAVAILABLE}, f"during the alarm the api answered {statuses}"
    assert not unnamed, f"503 without Retry-After: {unnamed[:3]}"
    stage.note(f"only 503, the api's memory {grown / 1e6:+.0f} MB")


def _memory(stage: Stage) -> float:
    [sample] = stage.samples("api", "process_resident_memory_bytes")
    return sample.value


def _requests_at_limit(stage: Stage) -> None:
    """Let requests pile up to a limit while the dispatchers are held.

    Once it is lifted, all are accepted again; those that piled up before are charged first.
    """
    with brokerside.requests_limited(stage.vhost, LIMIT), hold(stage, *DISPATCHERS):
        stage.until_refused(30)
        began = monotonic()
        stage.wait(stage.length.blocked)
        statuses = {each.status for each in stage.answers(began)}
    lifted = monotonic()
    stage.ended()
    again = stage.check_accepted(lifted, ACCEPTED_AGAIN_SECONDS)
    stage.note(f"all answered 202 again after {again:.1f} s")
    assert statuses <= {UNAVAILABLE, ACCEPTED}, f"at the limit the api answered {statuses}"
    assert UNAVAILABLE in statuses


def _requests_deleted(stage: Stage) -> None:
    """Delete the queue while a dispatcher has unacknowledged requests of it, and declare it again.

    Until then the substations are drained: otherwise the dispatcher would send its requests, though
    their queue is gone, and none would be missing.
    """
    before = _reconciled(stage)
    with _drained(stage):
        stage.wait(stage.length.blocked)
        stage.system.until(lambda: _in_hand(stage) > 0, "a dispatcher has requests in hand")
        brokerside.delete_queue(stage.vhost, topology.REQUESTS)
        stage.system.until(lambda: not _in_hand(stage), "they went with their queue")
        stage.wait(DECLARED_AFTER_SECONDS)
        brokerside.declare_topology(stage.vhost)
    stage.ended()
    _wait_reconciled(stage, before)


@contextmanager
def _drained(stage: Stage) -> Iterator[None]:
    """Drain all substations while the context lasts."""
    for name in SUBSTATIONS:
        put(stage.system, name, state="draining")
    try:
        yield
    finally:
        for name in SUBSTATIONS:
            put(stage.system, name, state="available")


def _in_hand(stage: Stage) -> float:
    """Return how many requests wait at the dispatchers."""
    return _sum(stage, "dispatcher_waiting_requests")


def _requests_purged(stage: Stage) -> None:
    """Purge the requests in the queue; dispatchers that start then know them only from the log."""
    for name in DISPATCHERS:
        stage.system.kill(name)
    stage.wait(stage.length.blocked)
    brokerside.purge_queue(stage.vhost, topology.REQUESTS)
    read_before = _logs_read(stage)
    for name in DISPATCHERS:
        stage.system.start(name)
    stage.ended()
    stage.system.until(
        lambda: _logs_read(stage) > read_before,
        "the active dispatcher has read the older part of the event log",
        LOG_READ_SECONDS + stage.length.past,
    )
    _wait_reconciled(stage, 0.0)


def _logs_read(stage: Stage) -> int:
    """Return how often a dispatcher has read all of the event log; a standby does so later."""
    return sum(stage.system.log(name).count(LOG_READ) for name in DISPATCHERS)


def _wait_reconciled(stage: Stage, before: float) -> None:
    """Wait until the lost requests are published again, and note how long that took."""
    began = monotonic()
    stage.system.until(
        lambda: _reconciled(stage) > before,
        "requests are published again",
        RECONCILED_SECONDS,
    )
    took = monotonic() - began
    stage.note(f"{_reconciled(stage) - before:.0f} published again {took:.1f} s after that")


def _reconciled(stage: Stage) -> float:
    return _sum(stage, "dispatcher_reconciled_jobs_total")


def _sum(stage: Stage, metric: str) -> float:
    return sum(each.value for name in DISPATCHERS for each in stage.samples(name, metric))


def _substation_queue_deleted(stage: Stage) -> None:
    for _ in range(stage.length.kills):
        stage.at_random()
        brokerside.delete_queue(stage.vhost, "substation.substation2")
        stage.ended()


def _events_deleted(stage: Stage) -> None:
    """Delete the event log; the substations' logs replace it in the account until then."""
    stage.load.recorded = True
    stage.wait(CALM_SECONDS)
    brokerside.delete_queue(stage.vhost, "charge.events")
    stage.record_lost_at = time()  # events confirmed until then may be unread
    stage.load.recorded = False  # what is sent now is charged later
    away = stage.length.broken / 2  # what is requested meanwhile waits, in the publishers' memory
    stage.wait(away)
    brokerside.declare_topology(stage.vhost)
    stage.ended()
    stage.note(f"made anew after {away:g} s")


def _broker_held(stage: Stage) -> None:
    with brokerside.held(stage.vhost.broker):
        stage.wait(stage.length.held)
    stage.ended()


def _held(name: str, stage: Stage) -> None:
    with hold(stage, name):
        stage.wait(stage.length.held)
    stage.ended()


def _active_dispatcher_held(stage: Stage) -> None:
    """Hold the active dispatcher; the short form does not wait until RabbitMQ gives it up."""
    with hold(stage, active(stage)):
        began = monotonic()
        taken_over = stage.until_normal(stage.length.held)
        stage.wait(max(0.0, began + stage.length.held - monotonic()))
    stage.ended()
    assert taken_over is not None or stage.length.held < TAKEN_OVER_SECONDS
    if taken_over is not None:
        stage.note(f"the other took over within {taken_over:.1f} s")


def _standby_held(stage: Stage) -> None:
    at_work = active(stage)
    [other] = [name for name in DISPATCHERS if name != at_work]
    _held(other, stage)


def _clocks_stepped(stage: Stage) -> None:
    """Step each clock an hour ahead, then an hour behind; no departure in two hours may expire."""
    for clock in stage.clocks.values():
        for step in (HOUR, -HOUR):
            clock.step(step)
            stage.wait(SEEN_WITHIN_SECONDS)
            stage.ask(departure_time=_in_hours(2))
            stage.wait(stage.length.broken / 2)
        clock.step(0)
    stage.ended()


def _in_hours(hours: int) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


FAULTS: Final = (
    Fault("api: kill -9", 5, partial(kill_often, ("api",))),
    Fault("active dispatcher: kill -9", 5, kill_active_dispatcher),
    Fault("substation: kill -9", 5, partial(kill_often, SUBSTATIONS), twice=True),
    Fault("RabbitMQ: kill -9", 10, _broker_killed),
    Fault("RabbitMQ: stopped for a while", 10, _broker_away),
    Fault("memory alarm", 5, partial(_alarm, brokerside.memory_alarm)),
    Fault("disk alarm", 5, partial(_alarm, brokerside.disk_alarm)),
    Fault("charge.requests at its limit", None, _requests_at_limit),
    Fault("three dispatchers, the active one killed every 3 s", None, kill_dispatchers_quickly),
    Fault("charge.requests deleted", 10, _requests_deleted),
    Fault("charge.requests purged while no dispatcher runs", None, _requests_purged),
    Fault("a substation's queue deleted", 10, _substation_queue_deleted),
    Fault("charge.events deleted", 10, _events_deleted),
    Fault("api: SIGSTOP, SIGCONT", 10, partial(_held, "api")),
    Fault("active dispatcher: SIGSTOP, SIGCONT", 10, _active_dispatcher_held),
    Fault("standby: SIGSTOP, SIGCONT", 10, _standby_held),
    Fault("substation: SIGSTOP, SIGCONT", 10, partial(_held, "substation2"), twice=True),
    Fault("RabbitMQ: SIGSTOP, SIGCONT", 10, _broker_held),
    Fault("metrics pages: hostile", 5, hostile_pages),
    Fault("target file: hostile", 5, hostile_target_files),
    Fault("SIGTERM to all, in any order", None, terminate_all),
    Fault("every connection cut at once", 10, _connections_cut, kind=Kind.GATED),
    Fault("the broker accepts TCP and answers nothing", 10, _broker_mute, kind=Kind.GATED),
    Fault("each connection breaks after 100 KB", 10, _connections_dropped, kind=Kind.GATED),
    Fault("clocks stepped by an hour, each way", 5, _clocks_stepped, kind=Kind.CLOCKED),
)


def _groups() -> dict[str, tuple[str, ...]]:
    """Return names by group: each has a system of its own where workers share the faults."""
    plain = [fault.name for fault in FAULTS if fault.kind is Kind.PLAIN]
    found = {f"faults {turn + 1}": tuple(plain[turn::PLAIN_GROUPS]) for turn in range(PLAIN_GROUPS)}
    return {**found, "other faults": tuple(each.name for each in FAULTS if each.name not in plain)}


GROUPS: Final = _groups()
