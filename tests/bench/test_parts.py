from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench import counts, profile
from bench.low_water import LowWater
from bench.processes import NotMeasured
from bench.substation import LOAD_LINE, value

STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.600000           6       100           sendto
 30.00    0.300000           3        40        12 recvfrom
 10.00    0.100000           1        20           epoll_wait
------ ----------- ----------- --------- --------- ----------------
100.00    1.000000           6       160        12 total
"""


def test_low_water_is_the_last_tag_up_to_which_all_is_done() -> None:
    """An acknowledgement of several must not cover one that is not."""
    water = LowWater(parts=2)
    for tag in (1, 2, 3):
        water.begin(tag)
    marks = []
    for tag in (2, 1, 2, 3, 1, 3):
        water.part_done(tag)
        marks.append(water.done)
    assert marks == [0, 0, 0, 0, 2, 3]


def test_system_calls_are_counted_with_and_without_errors() -> None:
    """The line of the sum is not one more call."""
    assert counts.calls(STRACE) == Counter({counts.CALLS: 160, counts.WAKE_UPS: 20})


def test_messages_and_bytes_are_counted_by_user() -> None:
    """Whatever the number of its connections and channels; what RabbitMQ receives, they send."""
    connections: list[dict[str, Any]] = [
        {"user": "api", "recv_oct": 10, "send_oct": 1},
        {"user": "api", "recv_oct": 5},
        {"user": "dispatcher", "recv_oct": 7, "send_oct": 3},
    ]
    channels: list[dict[str, Any]] = [
        {"user": "api", "message_stats": {"publish": 3, "confirm": 3, "deliver": 1}},
        {"user": "api", "message_stats": {"deliver": 2, "deliver_get": 2, "ack": 2}},
        {"user": "dispatcher"},
    ]
    assert counts.amqp(connections, channels) == {
        "api": Counter({counts.OUT: 15, counts.IN: 1, counts.PUBLISHED: 3, counts.DELIVERED: 3}),
        "dispatcher": Counter({counts.OUT: 7, counts.IN: 3}),
    }


def test_profile_is_by_module_of_the_loops_thread() -> None:
    """A module counts once in a stack, however often it is in it; other threads wait for work."""
    loop = "run (/usr/lib/python3.11/asyncio/base_events.py:603)"
    read = "read (/x/lib/python3.11/site-packages/pika/connection.py:1)"
    again = "parse (/x/lib/python3.11/site-packages/pika/connection.py:2)"
    decide = "decide (/home/somebody/grid/scheduling/candidates.py:3)"
    alone, own = profile.tables(
        "dispatcher",
        [
            f"{loop};{read};{again} 3",
            f"{loop};{decide};{read} 1",
            "wait (/usr/lib/python3.11/concurrent/futures/thread.py:1) 90",
        ],
    )
    assert {row.name: row.median(profile.SHARE) for row in alone.rows} == {"`pika.connection`": 100}
    assert {row.name: row.median(profile.SHARE) for row in own.rows} == {
        "`scheduling.candidates`": 25
    }
    assert all(each.title.startswith("dispatcher, ") for each in (alone, own))


def test_profile_of_the_api_has_its_own_modules() -> None:
    """As a profile of the dispatcher has the dispatcher's."""
    loop = "run (/usr/lib/python3.11/asyncio/base_events.py:603)"
    _, own = profile.tables("api", [f"{loop};accept (/home/somebody/grid/api/intake.py:3) 1"])
    assert [row.name for row in own.rows] == ["`api.intake`"]


def test_missing_figure_on_a_page_is_not_zero() -> None:
    """The measurement would never end, or be of nothing."""
    assert value(b"# HELP\nev_charging_load 2.0\nother 3\n", LOAD_LINE) == 2
    with pytest.raises(NotMeasured, match="ev_charging_load"):
        value(b"# HELP\nother 3\n", LOAD_LINE)


def test_counts_bench_without_strace_skips_system_calls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The page then says so, and has the other counts."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not counts.can_trace()
