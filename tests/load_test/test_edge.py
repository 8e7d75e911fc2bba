"""The edges against a scripted api: retries, pages, lost jobs."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from itertools import count
from random import Random
from typing import Any

import pytest

from grid.errors import BrokerUnavailable
from load_test.client import Accepted, Api, TryAgain
from load_test.outcome import Follower, capacity, choosable
from load_test.plans.plan import Plan
from load_test.plans.schedule import Closed, Steady
from load_test.publisher import ApiPublisher, Clock, Sender
from load_test.records import Answer, Substation
from load_test.run import Runner
from load_test.summary import Run, Summary, summarise
from load_test.view.board import Board
from load_test.view.plain import PlainLines
from tests.load_test.fake_api import HOST, FakeApi
from tests.ports import free_ports


class FakeTime:
    """A clock that moves only by waiting."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once."""
        self.waits.append(seconds)
        self.now += seconds

    def clock(self) -> Clock:
        """Return the clock for the code under test."""
        return Clock(lambda: self.now, time.time, self.sleep)


def sender(api: Api, retry_timeout: float = 60) -> tuple[Sender, FakeTime]:
    """Make a sender through the api whose waits take no time."""
    fake = FakeTime()
    return Sender(ApiPublisher(api), lambda: "own", fake.clock(), retry_timeout), fake


async def test_client_retries_a_503_after_its_retry_after() -> None:
    """Retry-After is honoured, with some jitter added; the retry is counted."""
    async with FakeApi(503, 202).serve() as fake, Api(fake.url) as api:
        send, timer = sender(api)
        answer = await send.send({}, 0.0)
    assert (answer.job, answer.retries, len(fake.posts)) == ("job0", 1, 2)
    assert len(timer.waits) == 1
    assert 7 <= timer.waits[0] <= 8
    assert answer.seconds == pytest.approx(timer.now)


async def test_client_gives_up_when_the_api_stays_unavailable() -> None:
    """A request never answered 202 is refused, with the reason, and not accepted."""
    async with FakeApi(*[503] * 10).serve() as fake, Api(fake.url) as api:
        send, _ = sender(api, retry_timeout=6)  # shorter than one pause
        answer = await send.send({}, 0.0)
    assert answer.job is None
    assert answer.reason == "503 Service Unavailable"


async def test_client_does_not_retry_an_invalid_request() -> None:
    """Sending it again would change nothing; the problem's detail is reported."""
    async with FakeApi(422).serve() as fake, Api(fake.url) as api:
        send, _ = sender(api)
        answer = await send.send({}, 0.0)
    assert (answer.job, answer.reason, len(fake.posts)) == (None, "422 scripted", 1)


async def test_client_retries_a_broken_connection() -> None:
    """An api that restarts during a request costs only a retry."""
    async with FakeApi("drop", "drop", 202).serve() as fake, Api(fake.url) as api:
        send, _ = sender(api)
        answer = await send.send({}, 0.0)
    assert (answer.job, answer.retries) == ("job0", 2)


async def test_client_retries_a_refused_connection_until_its_timeout() -> None:
    """A refused connection is tried again until the time is up."""
    (port,) = free_ports(1)
    async with Api(f"http://{HOST}:{port}") as api:
        send, _ = sender(api, retry_timeout=0.05)
        answer = await send.send({}, 0.0)
    assert answer.job is None
    assert answer.reason.startswith(f"no answer from http://{HOST}:{port}: ")


async def test_client_keeps_the_id_over_retries() -> None:
    """Where the sender chooses the id, a repeated request is the same job."""
    ids: list[str] = []

    class Doubtful:
        async def once(self, job: str, body: Mapping[str, Any]) -> Accepted:  # noqa: ARG002
            ids.append(job)
            if len(ids) < 3:
                raise BrokerUnavailable("not confirmed")
            return Accepted(job, None, {}, "")

    numbers = count()
    send = Sender(Doubtful(), lambda: f"id{next(numbers)}", FakeTime().clock())
    answer = await send.send({}, 0.0)
    assert (answer.job, answer.retries, ids) == ("id0", 2, ["id0"] * 3)


def steady(requests: int, rate: float) -> Plan:
    """Plan even arrivals."""
    return Plan(schedule=Steady(requests=requests, rate=rate))


def closed(requests: int, senders: int) -> Plan:
    """Plan a closed loop."""
    return Plan(schedule=Closed(requests=requests, senders=senders))


async def carry_out(
    fake: FakeApi, plan: Plan, *, timeout: float = 1, quiet: bool = True
) -> tuple[Run, Summary, str]:
    """Carry out a plan on a clock of its own; return the run, its summary and the output."""
    out = io.StringIO()
    async with fake.serve(), Api(fake.url) as api:
        send, timer = sender(api)
        requests = list(plan.requests(Random(0), Random(0)))  # noqa: S311
        clock, view = timer.clock(), PlainLines(io.StringIO())
        board = Board(len(requests), view, clock.steady, quiet=quiet, out=out)
        run = await Runner(requests, plan.senders, send, api, clock, timeout).run(board)
        board.close()
    return run, summarise(run), out.getvalue()


@pytest.mark.parametrize("plan", [steady(25, 10), closed(25, 4)], ids=str)
async def test_run_follows_every_request_to_its_end(plan: Plan) -> None:
    """Everything sent is followed to its end, page by page, and summed up."""
    _, summary, printed = await carry_out(FakeApi(page=4), plan)
    assert (summary.requests, summary.accepted, summary.completed) == (25, 25, 25)
    assert summary.kept
    assert printed == ""


async def test_run_keeps_its_rate_whatever_the_answers() -> None:
    """Twenty requests at ten a second take 1.9 seconds, however fast they are answered."""
    run, _, _ = await carry_out(FakeApi(), steady(20, 10))
    assert run.sending_seconds == pytest.approx(1.9)


async def test_run_counts_latency_from_when_a_request_was_due() -> None:
    """A sender that is late does not make answers look quick: no omission is coordinated."""
    async with FakeApi().serve() as fake, Api(fake.url) as api:
        send, timer = sender(api)
        timer.now = 7.0
        answer = await send.send({}, due=5.0)
    assert (answer.seconds, answer.late_seconds) == (2.0, 2.0)
    assert answer.due == pytest.approx(time.time() - 2.0, abs=1)
    summary = summarise(
        Run([answer], {}, {}, sending_seconds=1.0, total_seconds=1.0, interrupted=True)
    )
    assert summary.sent_late == (2.0, 2.0, 2.0)
    assert summary.request_to_answer == (2.0, 2.0, 2.0)


async def test_run_shows_what_became_of_jobs_while_it_sends() -> None:
    """A view that is drawn meanwhile has the states, and the loads of the substations."""
    fake, lines = FakeApi(), io.StringIO()
    fake.loads = dict.fromkeys(("substation1", "substation2", "substation3"), 2.0)
    plan = steady(40, 10)
    async with fake.serve(), Api(fake.url) as api:
        send, timer = sender(api)
        clock = timer.clock()
        board = Board(40, PlainLines(lines, 1.0), clock.steady, quiet=True, out=io.StringIO())
        requests = plan.requests(Random(0), Random(0))  # noqa: S311
        await Runner(requests, None, send, api, clock, 1, look_seconds=1.0).run(board)
        board.close()
    first, *_, last = lines.getvalue().splitlines()
    assert "sent 40/40, waiting 0, charging 0, ended 40/40" in last
    assert "sent 40/40" not in first


async def test_run_counts_a_job_without_end_as_lost() -> None:
    """What was answered 202 and has no end when the time is up counts as lost."""
    _, summary, _ = await carry_out(FakeApi(lose=(3, 5)), closed(10, 2))
    assert (summary.accepted, summary.completed, summary.lost) == (10, 8, 2)
    assert not summary.kept


async def test_run_counts_refused_requests_as_neither_accepted_nor_lost() -> None:
    """The api has no obligation for what it did not accept."""
    _, summary, _ = await carry_out(FakeApi(422, 503, 202), steady(3, 1))
    assert (summary.accepted, summary.refused, summary.retries, summary.lost) == (2, 1, 1, 0)


async def test_board_prints_requests_in_the_order_sent() -> None:
    """Each request's lines are printed once, in order, in the established form."""
    _, _, printed = await carry_out(FakeApi(), closed(3, 3), quiet=False)
    loads = "[i] Substation Loads → [S1: 0.0, S2: 0.0, S3: 0.0]"
    lines = printed.splitlines()
    assert lines[::2] == [loads] * 3
    assert {line.removeprefix("[i] Routed to: ") for line in lines[1::2]} == {
        "substation1",
        "substation2",
        "substation3",
    }


def test_board_holds_back_answers_behind_a_gap() -> None:
    """A later answer is held back until the earlier one is there."""
    out = io.StringIO()
    board = Board(2, PlainLines(io.StringIO()), lambda: 0.0, quiet=False, out=out)
    board.put(1, Answer("b", 0, routed_to="s2"))
    assert out.getvalue() == ""
    board.put(0, Answer("a", 0, routed_to="s1"))
    board.close()
    assert out.getvalue() == "[i] Routed to: s1\n[i] Routed to: s2\n"
    assert board.accepted == ["a", "b"]


async def test_outcome_reads_only_new_and_open_jobs() -> None:
    """Reading begins after the jobs that have ended, not at the first job."""
    fake = FakeApi()
    for number in range(10):
        fake.take(f"old{number}")
    ids = [fake.take(f"own{number}")["id"] for number in range(5)]
    fake.jobs["own3"]["status"] = "charging"
    async with fake.serve(), Api(fake.url) as api:
        follower = Follower(api, FakeTime().clock())
        await follower.look(ids)
        await follower.look(ids)
    assert [asked.get("after") for asked in fake.pages_asked] == ["own0", "own2"]
    assert follower.open(ids) == ["own3"]
    assert list(follower.jobs) == ids


async def test_outcome_asks_singly_for_jobs_missing_from_the_list() -> None:
    """A job older than the first of the run, as with several senders, is found."""
    fake = FakeApi()
    ids = [fake.take(name)["id"] for name in ("early", "first", "later")]
    async with fake.serve(), Api(fake.url) as api:
        follower = Follower(api, FakeTime().clock())
        await follower.look(["first", "early", "later"])
    assert sorted(follower.jobs) == sorted(ids)


async def test_outcome_keeps_the_first_forecast_of_each_job() -> None:
    """A later one is easier to make; a job that does not wait has none."""
    fake = FakeApi()
    fake.take("other", status="queued", expected_start=None)
    async with fake.serve(), Api(fake.url) as api:
        follower = Follower(api, FakeTime().clock())
        for seconds in (10, 20):
            start = f"2026-01-01T00:00:{seconds}+00:00"
            fake.take("own", status="queued", expected_start=start)
            await follower.look(["other", "own"])
    assert list(follower.forecasts) == ["own"]
    assert follower.forecasts["own"].start == 1_767_225_610


async def test_outcome_follows_jobs_from_before_the_run() -> None:
    """Sessions in progress at the start make load until they end."""
    fake = FakeApi()
    fake.take("before", status="charging")
    fake.take("own")
    async with fake.serve(), Api(fake.url) as api:
        follower = Follower(api, FakeTime().clock())
        await follower.look_back()
        assert list(follower.jobs) == ["before"]
        fake.jobs["before"]["status"] = "completed"
        await follower.look(["own"])
    assert follower.jobs["before"].has_ended


async def test_outcome_survives_an_unavailable_api() -> None:
    """The look fails without an error, and says why it has nothing new."""
    (port,) = free_ports(1)
    async with Api(f"http://{HOST}:{port}") as api:
        follower = Follower(api, FakeTime().clock())
        await follower.look(["a"])
        assert follower.trouble.startswith("no answer from")
        with pytest.raises(TryAgain):
            await api.substations()


async def test_outcome_excludes_jobs_that_no_substation_has_from_the_load() -> None:
    """Jobs of a purged queue never end, but the substations themselves do not have them."""
    fake = FakeApi()
    for number in range(643):
        state = {"status": "assigned", "substation": "substation1"}
        job = fake.take(f"lost{number}", **state)
        job["times"] |= {"charging": None, "completed": None}
    fake.loads = dict.fromkeys(("substation1", "substation2", "substation3"), 0.0)
    run, summary, _ = await carry_out(fake, closed(9, 1))
    assert (summary.accepted, summary.completed, summary.lost) == (9, 9, 0)
    assert summary.spread_largest is not None
    assert summary.spread_largest <= 1
    assert summary.share_least_loaded == 1
    assert len(fake.singles_asked) < 100  # they are not asked for at each look
    assert run.samples


async def test_outcome_samples_substations_at_most_once_a_second() -> None:
    """However many requests are sent, and whether or not the api answers."""
    fake = FakeApi()
    fake.loads = dict.fromkeys(("substation1", "substation2", "substation3"), 0.0)
    async with fake.serve(), Api(fake.url) as api:
        timer = FakeTime()
        follower = Follower(api, timer.clock())
        for _ in range(50):
            await follower.sample()
            timer.now += 0.1
        assert 4 <= len(follower.samples) <= 6
    timer.now += 10
    async with Api(fake.url) as api:
        await Follower(api, timer.clock()).sample()  # no answer, so nothing new


def test_choosable_substations_were_eligible_before_or_after_the_run() -> None:
    """One that was eligible before or after counts; without connectors, all have equal weight."""
    up, down = Substation("a", 50, eligible=True), Substation("b", 4, eligible=False)
    plain = Substation("c", None, eligible=True)
    assert choosable([up, down], [up]) == {"a": 50}
    assert choosable([up, down], [down._replace(eligible=True)]) == {"a": 50, "b": 4}
    assert choosable([up], [plain]) == {"a": 1, "c": 1}


def test_choosable_connectors_are_summed_if_all_are_known() -> None:
    """Each substation counts once; one without connectors makes the sum unknown."""
    up, down = Substation("a", 50, eligible=True), Substation("b", 4, eligible=False)
    assert capacity([up, down], [up]) == 50
    assert capacity([up, down], [up, down._replace(eligible=True)]) == 54
    assert capacity([up], [Substation("c", None, eligible=True)]) is None
    assert capacity([down], [down]) is None
