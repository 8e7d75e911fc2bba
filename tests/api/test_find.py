"""Finding jobs: by vehicle, several states and time, in either order, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.jobs.job import Job
from api.jobs.projection import Projection
from api.jobs.rows import START, JobQuery
from api.routes.jobs import prefers_csv
from grid.events import Event, State
from grid.kinds import queued
from grid.messages import ChargeRequest
from tests.api.harness import AT, Bench, assigned, problem
from tests.examples import examples

HOUR = 3600.0


async def fill(bench: Bench) -> None:
    """Accept six jobs of two vehicles, an hour apart; 1 and 2 are completed, 3 is assigned."""
    for number in range(6):
        bench.at = AT + number * HOUR
        tenant = {"tenant": "night"} if number > 3 else {}
        await bench.post({"vehicle_id": "bus 7" if number % 2 else "bus 12", **tenant})
    bench.hear(*(assigned(f"job{number}", "s1", s1=0) for number in (1, 2, 3)))
    bench.hear(*(Event(State.COMPLETED, AT + 9, f"job{number}", "s1") for number in (1, 2)))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("vehicle_id=bus%2012", [1, 3, 5]),
        ("vehicle_id=bus%207&order=desc", [6, 4, 2]),
        ("vehicle_id=nobody", []),
        ("tenant=night", [5, 6]),
        ("tenant=night&vehicle_id=bus%207", [6]),
        ("tenant=nigh", []),
        ("vehicle_id=bus%207&status=queued", [4, 6]),
        ("status=completed,assigned", [1, 2, 3]),
        ("status=completed,assigned&order=desc", [3, 2, 1]),
        ("status=queued,queued", [4, 5, 6]),
        ("search=BUS%201", [1, 3, 5]),
        ("search=us", [1, 2, 3, 4, 5, 6]),
        ("search=Job2&vehicle_id=bus%207", [2]),
        ("search=7&order=desc&status=queued", [6, 4]),
        ("search=nothing", []),
        ("search=%25", []),
        ("since=2026-01-01T04:00:00Z", [5, 6]),
        ("until=2026-01-01T01:00:00Z", [1]),
        ("since=2026-01-01T02:00:00%2B01:00&until=2026-01-01T03:00:00Z", [2, 3]),
        ("since=2026-01-01T01:00:00Z&until=2026-01-01T01:00:00Z", []),
        ("order=desc", [6, 5, 4, 3, 2, 1]),
        ("order=desc&after=job3", [2, 1]),
        ("order=desc&after=job1", []),
        ("order=asc&after=job5", [6]),
        ("substation=s1&status=assigned,queued", [3]),
    ],
)
async def test_list_finds_jobs_by_vehicle_states_time_and_order(
    query: str, expected: list[int]
) -> None:
    """``since`` is included and ``until`` is not; each of several states will do."""
    async with Bench().serve() as bench:
        await fill(bench)
        answer = await bench.get(f"/charges?{query}")
        assert answer.status == 200, answer.body
        assert [each["id"] for each in answer.body["charges"]] == [f"job{n}" for n in expected]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=queued,done", "status"),
        ("status=", "status"),
        ("status=queued%20,assigned", "status"),
        ("vehicle=bus", "vehicle"),
        ("vehicle_id=", "vehicle_id"),
        ("vehicle_id=a%00", "vehicle_id"),
        ("since=2026-01-01", "since"),
        ("until=1767225600", "until"),
        ("since=2026-01-01T00:00:00+01:00", "since"),
        ("order=newest", "order"),
        ("search=", "search"),
        ("search=" + "a" * 65, "search"),
    ],
)
@pytest.mark.parametrize("path", ["/charges", "/charges.csv"])
async def test_list_names_the_parameter_that_is_unknown_or_invalid(
    path: str, query: str, field: str
) -> None:
    """422: a parameter that is ignored would leave too many jobs."""
    async with Bench().serve() as bench:
        found = problem(await bench.get(f"{path}?{query}"), 422)
        assert [each["field"] for each in found["errors"]] == [field]


async def test_other_answers_name_an_unknown_parameter_too() -> None:
    """422 for a job and for the statistics, as for a list."""
    async with Bench().serve() as bench:
        await bench.post()
        for path in ("/charge/job1?wait_s=1", "/stats?hour=1"):
            found = problem(await bench.get(path), 422)
            assert found["errors"][0]["problem"] == "there is no such parameter"


async def test_list_in_descending_order_shows_every_job_once() -> None:
    """Following ``next`` works in both orders."""
    async with Bench().serve() as bench:
        await fill(bench)
        found, after = [], ""
        while True:
            page = (await bench.get(f"/charges?order=desc&limit=4{after}")).body
            found += [each["id"] for each in page["charges"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert found == [f"job{number}" for number in range(6, 0, -1)]


async def test_listed_job_has_the_shape_of_every_other_answer() -> None:
    """The same fields as the answer to the request, but for what only the decision tells."""
    async with Bench().serve() as bench:
        accepted = (await bench.post({"vehicle_id": "v"})).body
        (several,) = (await bench.post([{}], "/charges")).body["jobs"]
        listed = (await bench.get("/charges?vehicle_id=v")).body["charges"][0]
        shown = (await bench.get("/charge/job1")).body
        assert accepted.keys() == several.keys() == listed.keys() == shown.keys() - {"decision"}
        assert accepted["details"] == shown["details"]
        assert accepted["details"] == {"routed_to": None, "loads": {}, "reason": None}
        del accepted["details"]["loads"]
        assert listed == accepted


def projection_of(jobs: Sequence[tuple[str, float]], most: int) -> Projection:
    """Return a projection of waiting jobs: vehicle and time of each."""
    projection = Projection(most)
    for number, (vehicle, at) in enumerate(jobs):
        projection.apply(queued(ChargeRequest(f"j{number}", at, vehicle_id=vehicle)))
    return projection


def found_by(projection: Projection, query: JobQuery, limit: int, rows: int) -> list[Job]:
    """Return what a caller finds who looks at few rows, and at few jobs, at once."""
    found: list[Job] = []
    last: int | None = START
    while last is not None:
        page = projection.page(query, last, limit, rows)
        found += page.jobs
        last = page.last
    return found


@examples()
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9).map(float)), max_size=30),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([None, "a", "b", "nobody"]),
    st.sampled_from([None, 3.0, 4.5]),
)
def test_pages_of_any_size_find_what_a_search_of_all_finds(  # noqa: PLR0917
    jobs: list[tuple[str, float]],
    most: int,
    limit: int,
    rows: int,
    newest_first: bool,  # noqa: FBT001
    vehicle: str | None,
    since: float | None,
) -> None:
    """Whether jobs are kept in full or packed, and however few are looked at in one go."""
    query = JobQuery(vehicle=vehicle, since=since, newest_first=newest_first)
    expected = [
        f"j{number}"
        for number, (name, at) in enumerate(jobs)
        if vehicle in (None, name) and (since is None or at >= since)
    ]
    if newest_first:
        expected.reverse()
    projection = projection_of(jobs, most)
    assert [each.id for each in found_by(projection, query, limit, rows)] == expected
    # again, with rows that are described already, and one more
    projection.apply(queued(ChargeRequest("last", 9.0, vehicle_id="a")))
    more = ["last"] if vehicle in (None, "a") else []
    again = [each.id for each in found_by(projection, query, limit, rows)]
    assert again == ([*more, *expected] if newest_first else [*expected, *more])


def test_vehicle_is_found_whose_request_arrives_after_its_events() -> None:
    """Events of different writers come in any order, also after somebody has looked for it."""
    projection = Projection(10)
    query = JobQuery(vehicle="late")
    projection.apply(assigned("j"))
    assert found_by(projection, query, 10, 10) == []
    projection.apply(queued(ChargeRequest("j", AT, vehicle_id="late")))
    assert [each.id for each in found_by(projection, query, 10, 10)] == ["j"]


def test_vehicle_is_found_after_jobs_were_forgotten() -> None:
    """The order is rebuilt now and then."""
    projection = Projection(100)
    query = JobQuery(vehicle="v7")
    for number in range(5_000):
        at = 1.0 + number
        projection.apply(queued(ChargeRequest(f"j{number}", at, vehicle_id=f"v{number % 50}")))
        projection.apply(Event(State.COMPLETED, at, f"j{number}", "s1"))
        if number == 2_000:
            assert len(found_by(projection, query, 10, 1_000)) == 2
    found = found_by(projection, query, 10, 1_000)
    assert [each.id for each in found] == ["j4907", "j4957"]


# --- CSV


async def rows_of(bench: Bench, path: str, accept: str = "*/*") -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    answer = await bench.ask("GET", path, None, [("Accept", accept)])
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.body)))


@pytest.mark.parametrize("query", ["", "?status=completed", "?vehicle_id=bus%207&order=desc"])
async def test_csv_has_the_rows_that_the_list_has(query: str) -> None:
    """By its path, or by the header Accept; times and fields as in JSON."""
    async with Bench().serve() as bench:
        await fill(bench)
        listed = (await bench.get(f"/charges{query}")).body["charges"]
        found = await rows_of(bench, f"/charges.csv{query}")
        assert found == await rows_of(bench, f"/charges{query}", "text/csv")
        assert [each["id"] for each in found] == [each["id"] for each in listed]
        for row, job in zip(found, listed, strict=True):
            assert row["status"] == job["status"]
            assert row["vehicle_id"] == job["request"]["vehicle_id"]
            assert row["queued"] == job["times"]["queued"]
            assert row["completed"] == job["times"].get("completed", "")


async def test_csv_has_all_jobs_unless_a_limit_is_given() -> None:
    """An export is not cut at a page; with ``limit`` and ``after`` it is one."""
    async with Bench(max_jobs=300).serve() as bench:
        await bench.post([{}] * 1_000, "/charges")
        await bench.post([{}] * 50, "/charges")
        assert len(await rows_of(bench, "/charges.csv")) == 1_050
        page = await rows_of(bench, "/charges.csv?limit=3&after=job2")
        assert [each["id"] for each in page] == ["job3", "job4", "job5"]
        problem(await bench.get("/charges.csv?after=nobody"), 404)


async def test_csv_starts_no_formula_of_a_client() -> None:
    """A spreadsheet would run what a vehicle calls itself."""
    async with Bench().serve() as bench:
        for vehicle in ("=1+1", "@SUM(A1)", "-2", "+3", 'a,"b"'):
            await bench.post({"vehicle_id": vehicle})
        found = [each["vehicle_id"] for each in await rows_of(bench, "/charges.csv")]
        assert found == ["'=1+1", "'@SUM(A1)", "'-2", "'+3", 'a,"b"']


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/csv", True),
        ("Text/CSV; q=0.9, application/json;q=0.5", True),
        ("text/csv;q=0.5, application/json", False),
        ("text/csv; header=present", True),
        ("text/csv;q=0", False),
        ("text/csv;q=x", False),
        ("text/html, application/xhtml+xml, */*;q=0.8", False),
    ],
)
def test_accept_header_asks_for_csv(accept: str, expected: bool) -> None:  # noqa: FBT001
    """Only what names it, and does not prefer JSON."""
    assert prefers_csv(accept) is expected
