"""A substation's power limits over HTTP: set, shown, replaced and removed."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from grid import controls, kinds, topology
from grid.controls import MAX_BLOCKS, MAX_LIMIT_KW, Control, PowerBlock, PowerLimits
from grid.events import SUBSTATIONS, Event
from tests.api.harness import AT, JSON, Answer, Bench, problem
from tests.api.test_substations import CLIENT, SECRET, bench, put
from tests.api.test_wait import LIMITED, LIMITED_NOW, row

PATH = "/substations/s1/limits"
HOUR = 3600.0


def block(start: float, end: float, kw: object = 20) -> dict[str, object]:
    """Return a block as a client writes it, in seconds from ``AT``."""
    return {"start": text(start), "end": text(end), "limit_kw": kw}


def text(seconds: float) -> str:
    """Return a time so many seconds after ``AT``."""
    return datetime.fromtimestamp(AT + seconds, UTC).isoformat()


def shown(seconds: float) -> str:
    """Return that time as the api writes it."""
    return text(seconds).replace("+00:00", "Z")


def written(api: Bench) -> tuple[Control, ...]:
    """Return what the newest message of the stream says."""
    return controls.decode(api.controls.to(topology.CONTROLS)[-1].body).controls


def body(*blocks: dict[str, object], **more: object) -> dict[str, object]:
    """Return limits as a client writes them."""
    return {"source": "dso", "blocks": list(blocks) or [block(-60, HOUR)], **more}


async def send(
    api: Bench, value: object, *, key: str | None = SECRET, method: str = "PUT"
) -> Answer:
    """Set the limits of a substation."""
    named = [] if key is None else [("Authorization", f"Bearer {key}")]
    data = json.dumps(value) if method == "PUT" else None
    return await api.ask(method, PATH, data, [JSON, *named])


async def test_limits_are_written_to_the_stream_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    """With what holds now, and until when. The log says who set them."""
    caplog.set_level(logging.INFO)
    async with bench().serve() as api:
        await put(api, {"state": "draining", "limit": 9})
        wanted = body(block(-60, HOUR, 20), block(HOUR, 2 * HOUR, 0.5), fallback_kw=60)
        answer = await send(api, wanted)
        assert answer.status == 200
        assert answer.body == {
            "id": "s1",
            "source": "dso",
            "set_at": shown(0),
            "blocks": [
                {"start": shown(-60), "end": shown(HOUR), "limit_kw": 20},
                {"start": shown(HOUR), "end": shown(2 * HOUR), "limit_kw": 0.5},
            ],
            "fallback_kw": 60,
            "limit_kw": 20,
            "until": shown(HOUR),
        }
        assert (await api.get(PATH)).body == answer.body
        blocks = (PowerBlock(AT - 60, AT + HOUR, 20.0), PowerBlock(AT + HOUR, AT + 2 * HOUR, 0.5))
        (held,) = written(api)
        assert held.power_limits == PowerLimits(blocks, "dso", AT, 60.0)
        assert (held.state, held.limit, held.version) == ("draining", 9, 2)
    said = [each.getMessage() for each in caplog.records if each.name.endswith("power_limits")]
    assert said == [
        f'operator "depot" set the power limits of s1: 2 blocks by dso until {text(2 * HOUR)}, '
        "then 60 kW"
    ]


async def test_limits_sent_again_change_nothing() -> None:
    """They are the same, since the same time; others replace them."""
    async with bench().serve() as api:
        first = await send(api, body())
        api.at += 10
        assert (await send(api, body())).body == first.body
        later = await send(api, body(source="depot"))
        assert (later.body["source"], later.body["set_at"]) == ("depot", shown(10))


async def test_limits_and_other_controls_leave_each_other_unchanged() -> None:
    """Draining does not remove limits, and to remove limits does not end draining."""
    async with bench().serve() as api:
        await send(api, body())
        for method in ("PUT", "PATCH"):
            await put(api, {"state": "draining"}, method=method)
            assert (await api.get(PATH)).body["limit_kw"] == 20
        assert (await send(api, None, method="DELETE")).status == 200
        (held,) = written(api)
        assert (held.state, held.power_limits) == ("draining", None)


async def test_limits_are_removed_however_often() -> None:
    """Where there are none, that is no error."""
    none: dict[str, object] = {
        "id": "s1", "source": None, "set_at": None, "blocks": [], "fallback_kw": None,
        "limit_kw": None, "until": None,
    }  # fmt: skip
    async with bench().serve() as api:
        assert (await api.get(PATH)).body == none
        await send(api, body())
        for _ in range(2):
            answer = await send(api, None, method="DELETE")
            assert (answer.status, answer.body) == (200, none)


@pytest.mark.parametrize(
    ("seconds", "kw", "until"),
    [(0, 60.0, 10.0), (10, 20.0, 20.0), (20, 60.0, 30.0), (30, 5.0, 40.0), (40, 60.0, None)],
)
async def test_fallback_holds_wherever_no_block_does(
    seconds: float, kw: float, until: float | None
) -> None:
    """Before, between and after the blocks."""
    async with bench().serve() as api:
        await send(api, body(block(10, 20, 20), block(30, 40, 5), fallback_kw=60))
        api.at += seconds
        found = (await api.get(PATH)).body
        assert found["limit_kw"] == kw
        assert found["until"] == (None if until is None else shown(until))


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({}, "source", "missing"),
        (body(source="a\nb"), "source", "match"),
        (body(source=""), "source", "match"),
        (body(blocks=[]), "blocks", "at least 1"),
        (body(blocks=[block(0, 1)] * (MAX_BLOCKS + 1)), "blocks", f"at most {MAX_BLOCKS}"),
        (body(block(0, 1, -1)), "blocks.0.limit_kw", "got -1"),
        (body(block(0, 1, "20")), "blocks.0.limit_kw", 'got "20"'),
        (body(block(0, 1, MAX_LIMIT_KW * 2)), "blocks.0.limit_kw", "1000000"),
        (body(block(0, 1, None)), "blocks.0.limit_kw", "got null"),
        (body(block(0, 1), block(5, 5)), "blocks.1.end", "must be after start"),
        (body(block(0, 5), block(4, 6)), "blocks.1.start", "do not overlap"),
        (body(block(4, 6), block(0, 1)), "blocks.1.start", "do not overlap"),
        (body(fallback_kw=-1), "fallback_kw", "got -1"),
        (body({**block(0, 1), "start": "2030-01-01"}), "blocks.0.start", "offset"),
        (body({**block(0, 1), "start": "1969-12-31T23:00:00Z"}), "blocks.0.start", "1970"),
        (body({**block(0, 1), "end": "9999-12-31T23:00:00-05:00"}), "blocks.0.end", "9999"),
        (body({**block(0, 1), "kw": 1}), "blocks.0.kw", "no such field"),
        (body(expires="never"), "expires", "no such field"),
    ],
)
async def test_api_names_what_is_wrong_with_limits(
    wrong: dict[str, Any], field: str, words: str
) -> None:
    """With its value, and nothing is set."""
    async with bench().serve() as api:
        answer = await send(api, wrong)
        assert words in problem(answer, 422)["detail"]
        assert field in [each["field"] for each in answer.body["errors"]]
        assert api.controls.sent == []


async def test_limits_need_an_operators_key() -> None:
    """To see them needs none where requests need none."""
    async with bench().serve() as api:
        for method in ("PUT", "DELETE"):
            problem(await send(api, body(), key=None, method=method), 401)
            problem(await send(api, body(), key=CLIENT, method=method), 403)
        assert api.controls.sent == []


async def test_limits_of_an_unknown_substation_are_not_found() -> None:
    """Once the dispatcher has told which there are."""
    async with bench().serve() as api:
        api.hear(Event(SUBSTATIONS, AT, detail={"substations": [{"substation": "s2"}]}))
        for answer in (await send(api, body()), await api.get(PATH)):
            assert problem(answer, 404)["detail"] == "there is no substation s1"


async def test_substations_show_the_limit_that_holds() -> None:
    """As the dispatcher sees it, with its time and source; a limited one is full, and eligible."""
    limited = row("s1", LIMITED) | LIMITED_NOW
    async with bench().serve() as api:
        api.hear(Event(SUBSTATIONS, AT, detail={"substations": [limited, row("s2")]}))
        one, other = (await api.get("/substations")).body["substations"]
        names = ("status", "eligible", "power_limit_kw", "power_limit_until", "power_limit_source")
        assert [one[name] for name in names] == ["full", True, 20, shown(60), "dso"]
        assert one["rated_power_kw"] == 100
        assert (one["power_limit"], other["power_limit"]) == (LIMITED, None)


async def test_decision_shows_the_limit_that_it_saw() -> None:
    """A candidate that was limited counts as eligible: jobs go there once it has capacity."""
    async with bench().serve() as api:
        await api.post()
        decision = {"policy": "p", "reason": "r", "candidates": [row("s1", LIMITED) | LIMITED_NOW]}
        api.hear(kinds.assigned("job1", AT, "s2", 1, requested_at=AT, replays=0, decision=decision))
        (seen,) = (await api.get("/charge/job1")).body["decision"]["candidates"]
        names = ("eligible", "reason", "power_limit_until", "power_limit")
        assert [seen[name] for name in names] == [True, LIMITED, shown(60), LIMITED]


async def test_limits_too_long_for_a_message_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set already stays, and everything else can be set."""
    monkeypatch.setattr(controls, "MAX_BYTES", 400)
    async with bench().serve() as api:
        assert (await send(api, body())).status == 200
        blocks = [block(number, number + 1) for number in range(20)]
        answer = await send(api, body(*blocks))
        assert "send fewer blocks" in problem(answer, 422)["detail"]
        assert (await api.get(PATH)).body["limit_kw"] == 20
        monkeypatch.setattr(controls, "MAX_BYTES", 10)
        assert (await put(api, {"state": "draining"})).status == 200
        assert (await send(api, body())).status == 200
        assert (await put(api, {"limit": 3})).status == 200
        assert (await send(api, None, method="DELETE")).status == 200
