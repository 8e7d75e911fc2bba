"""Each part once, as short as it can be, against a RabbitMQ node of its own."""

from __future__ import annotations

import math
import platform
from pathlib import Path

import pytest

from bench import broker_settings, counts, machine, relay
from bench.__main__ import ON_REQUEST, PARTS, main, measure
from bench.node import ARGUMENTS, Change, RabbitMQ, environment
from bench.processes import NotMeasured
from bench.report import Part, render
from bench.sizes import Sizes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]
TINY = Sizes(
    quick=True,
    rounds=1,
    relayed=1_500,
    closed_seconds=0.5,
    open_seconds=0.5,
    rates=(20,),
    counted_seconds=0.5,
    list_posts=1,
    events=400,
    sessions=20,
    session_seconds=1.0,
    repeats=1,
    profile_seconds=1.0,
    pattern_seconds=0.5,
    pattern_jobs=200,
    idle_seconds=0.5,
    asks=50,
)
# parts of RabbitMQ have no process of their own, and not every service publishes or receives
WITHOUT = {("relay", relay.SHOVEL)}


@pytest.mark.parametrize("name", [*PARTS, "messages"])
async def test_every_bench_part_fills_its_table(
    name: str, node: RabbitMQ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each program runs to its end, and each contender has a figure in each column."""
    monkeypatch.setattr(counts, "STATISTICS_SECONDS", 0.1)  # some of RabbitMQ's own are missing
    part = await {**PARTS, **ON_REQUEST}[name](node, tmp_path, TINY)
    assert part.name == name
    for table in part.tables:
        for row in table.rows:
            figures = [row.median(column) for column in table.columns]
            if (name, row.name) in WITHOUT or name == "counts":
                assert any(figure > 0 for figure in figures), (row.name, figures)
            else:
                assert not any(map(math.isnan, figures)), (row.name, figures)
        assert f"**{table.title}**" in render(part)


async def test_broker_settings_bench_uses_a_node_for_each_setting(
    node: RabbitMQ, tmp_path: Path
) -> None:
    """Beside nodes that are as every one of ours, in one table."""
    change = Change(
        "collect_statistics_interval = 30000",
        "[{rabbit, [{quorum_commands_soft_limit, 256}]}].",
    )
    part = await broker_settings.measure(node, tmp_path, TINY, {"changed": change})
    (table,) = part.tables
    assert [row.name for row in table.rows] == [
        broker_settings.DEFAULT,
        broker_settings.AGAIN,
        "changed",
    ]
    for row in table.rows:
        assert not any(math.isnan(row.median(column)) for column in table.columns)
    folder = tmp_path / "nodes" / "2"
    assert "collect_statistics_interval" in (folder / "conf.d" / "90-change.conf").read_text()
    assert "quorum_commands_soft_limit" in (folder / "advanced.config").read_text()


def test_broker_settings_bench_appends_erlang_arguments(node: RabbitMQ) -> None:
    """Of two for the same thing Erlang takes the last."""
    before = environment(node.node, Change())[ARGUMENTS].rstrip()
    assert "inet_dist_use_interface" in before
    assert environment(node.node, Change(arguments="+S 1:1"))[ARGUMENTS] == f"{before} +S 1:1"


async def test_bench_on_request_only_prints(
    node: RabbitMQ,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A page that `make bench` writes as a whole would keep it for ever."""

    async def stub(*_: object) -> Part:
        return Part("messages", "Messages", "Measured.", [])

    monkeypatch.setitem(ON_REQUEST, "messages", stub)
    document = tmp_path / "performance.md"
    assert await measure(node, tmp_path, ["messages"], TINY, document) == []
    assert "## Messages\n\nMeasured." in capsys.readouterr().out
    assert not document.exists()


def test_bench_names_an_unknown_part(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started for it."""
    with pytest.raises(SystemExit):
        main(["relai"])
    assert "there is no part relai: there are relay, chain" in capsys.readouterr().err


async def test_bench_prints_and_writes_its_figures(
    node: RabbitMQ,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was written by hand stays; a part that fails does not end the others."""
    document = tmp_path / "performance.md"
    document.write_text("# By hand\n")

    async def fails(*_: object) -> Part:
        raise NotMeasured("its program ended")

    monkeypatch.setitem(PARTS, "relay", fails)
    assert await measure(node, tmp_path, ["relay", "codecs"], TINY, document) == ["relay"]
    text = document.read_text()
    assert text.startswith("# By hand\n")
    assert "<!-- measured: codecs -->" in text
    assert "## Codecs" in text
    said = capsys.readouterr().out
    assert "relay was not measured: its program ended" in said
    assert "## Codecs" in said


def test_bench_page_names_machine_and_command(node: RabbitMQ) -> None:
    """Figures without them say nothing."""
    text = machine.described(node.version(), "QUICK=1 make bench")
    assert "Command: `QUICK=1 make bench`" in text
    assert "processors" in text
    assert f"Python {platform.python_version()}, RabbitMQ 3." in text or "RabbitMQ 4." in text
