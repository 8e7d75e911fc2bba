from __future__ import annotations

import pytest

from dispatcher.settings import DispatcherSettings
from grid.errors import ConfigurationError
from grid.settings import parse
from scheduling.order import ORDERS
from scheduling.policies import POLICIES
from scheduling.reserve import Reserve

FILE = {"SUBSTATIONS_FILE": "/etc/substations.json"}


def test_settings_require_only_the_target_file() -> None:
    """Everything else has the documented default."""
    found = parse(DispatcherSettings, FILE)
    assert (found.port, found.prefetch, found.default_connectors) == (6000, 1000, 50)
    assert found.policy == "least-loaded"
    assert (found.scrape_period, found.scrape_timeout, found.stale_after) == (0.5, 0.4, 2)
    assert (found.slow_start, found.rescue_after) == (1, 10)


def test_settings_order_waiting_jobs_by_departure() -> None:
    """The default; when a job without a departure is due, by priority or for all of them."""
    assert parse(DispatcherSettings, FILE).order == "deadline"
    assert parse(DispatcherSettings, FILE).due_after is None
    found = parse(DispatcherSettings, FILE | {"DUE_AFTER_SECONDS": "0=3600, 5=600"})
    assert found.due_after == {0: 3600, 5: 600}
    found = parse(DispatcherSettings, FILE | {"ORDER": "fifo", "DUE_AFTER_SECONDS": "60"})
    assert found.due_after == dict.fromkeys(range(10), 60)


def test_settings_set_the_shares_of_tenants_and_of_high_priorities() -> None:
    """By default all tenants are alike, and nothing is kept free."""
    assert parse(DispatcherSettings, FILE).tenant_weights is None
    assert parse(DispatcherSettings, FILE).reserve is None
    found = parse(
        DispatcherSettings,
        FILE | {"TENANT_WEIGHTS": "fleet=3, public=0.5", "RESERVED_SHARE": "0.1"},
    )
    assert found.tenant_weights == {"fleet": 3, "public": 0.5}
    assert found.reserve == Reserve(0.1, 7)


def test_settings_set_slow_start_and_reclaim_delay() -> None:
    """A slow start of 0 s is allowed; a reclaim delay of 0 s is not."""
    found = parse(DispatcherSettings, FILE | {"SLOW_START_SECONDS": "0"})
    assert found.slow_start == 0
    found = parse(DispatcherSettings, FILE | {"RESCUE_AFTER_SECONDS": "2.5"})
    assert found.rescue_after == 2.5


@pytest.mark.parametrize(("stale", "period"), [("2", "1"), ("1", "0.5"), ("60", "5")])
def test_settings_allow_staleness_of_two_periods_or_more(stale: str, period: str) -> None:
    """Exactly two periods is the minimum."""
    values = {"STALE_AFTER_SECONDS": stale, "SCRAPE_PERIOD_SECONDS": period}
    assert parse(DispatcherSettings, FILE | values).stale_after == float(stale)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ["SUBSTATIONS_FILE is not set"]),
        (
            {"STALE_AFTER_SECONDS": "0.9"},
            ["STALE_AFTER_SECONDS=0.9", "below twice", "SCRAPE_PERIOD_SECONDS=0.5"],
        ),
        (
            {"SCRAPE_PERIOD_SECONDS": "1.5"},
            ["STALE_AFTER_SECONDS=2", "below twice", "SCRAPE_PERIOD_SECONDS=1.5"],
        ),
        (
            {"SCRAPE_TIMEOUT_SECONDS": "0.6"},
            ["SCRAPE_TIMEOUT_SECONDS=0.6", "above", "SCRAPE_PERIOD_SECONDS=0.5"],
        ),
        ({"SCRAPE_PERIOD_SECONDS": "0"}, ["SCRAPE_PERIOD_SECONDS='0'"]),
        ({"SCRAPE_PERIOD_SECONDS": "nan"}, ["SCRAPE_PERIOD_SECONDS='nan'"]),
        ({"STALE_AFTER_SECONDS": "inf"}, ["STALE_AFTER_SECONDS='inf'"]),
        ({"STALE_AFTER_SECONDS": "soon"}, ["STALE_AFTER_SECONDS='soon'"]),
        ({"ORDER": "oldest"}, ["ORDER='oldest'", f"choose of {', '.join(ORDERS)}"]),
        (
            {"DUE_AFTER_SECONDS": "0=1,12=5"},
            ["DUE_AFTER_SECONDS=", "'0=1,12=5'", "priority=seconds"],
        ),
        ({"DUE_AFTER_SECONDS": "-1"}, ["DUE_AFTER_SECONDS=", "'-1'"]),
        ({"TENANT_WEIGHTS": "fleet"}, ["TENANT_WEIGHTS='fleet'", "tenant=weight"]),
        ({"TENANT_WEIGHTS": "fleet=0"}, ["TENANT_WEIGHTS='fleet=0'", "above 0"]),
        ({"TENANT_WEIGHTS": "a b=1"}, ["TENANT_WEIGHTS='a b=1'"]),
        ({"TENANT_WEIGHTS": "a=inf"}, ["TENANT_WEIGHTS='a=inf'"]),
        ({"RESERVED_SHARE": "1"}, ["RESERVED_SHARE='1'"]),
        ({"RESERVED_SHARE": "-0.1"}, ["RESERVED_SHARE='-0.1'"]),
        ({"RESERVED_PRIORITY": "10"}, ["RESERVED_PRIORITY='10'"]),
        (
            {"POLICY": "heaviest"},
            ["POLICY='heaviest'", f"choose of {', '.join(POLICIES)}"],
        ),
        ({"SLOW_START_SECONDS": "-1"}, ["SLOW_START_SECONDS='-1'"]),
        ({"SLOW_START_SECONDS": "nan"}, ["SLOW_START_SECONDS='nan'"]),
        ({"SLOW_START_SECONDS": "inf"}, ["SLOW_START_SECONDS='inf'"]),
        ({"RESCUE_AFTER_SECONDS": "0"}, ["RESCUE_AFTER_SECONDS='0'"]),
        ({"RESCUE_AFTER_SECONDS": "-1"}, ["RESCUE_AFTER_SECONDS='-1'"]),
        ({"RESCUE_AFTER_SECONDS": "never"}, ["RESCUE_AFTER_SECONDS='never'"]),
        ({"PREFETCH": "0"}, ["PREFETCH='0'"]),
        ({"PREFETCH": "2001"}, ["PREFETCH='2001'"]),
        ({"DEFAULT_CONNECTORS": "0"}, ["DEFAULT_CONNECTORS='0'"]),
        ({"DISPATCHER_METRICS_PORT": "70000"}, ["DISPATCHER_METRICS_PORT='70000'"]),
    ],
)
def test_settings_refuse_wrong_value_with_name_and_value(
    values: dict[str, str], words: list[str]
) -> None:
    """The service does not start, and says which variable is wrong, with its value, and why."""
    with pytest.raises(ConfigurationError) as error:
        parse(DispatcherSettings, (FILE if values else {}) | values)
    assert all(each in str(error.value) for each in words), error.value
