"""Panels of the substations: the present state, each one's load, and what operators set."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import (
    LIMIT,
    NONE_IS_GOOD,
    SOME_IS_GOOD,
    Line,
    Panel,
    graph,
    number,
    of_substations,
    quantiles,
    rate,
    states,
)
from grid.topology import PARKED, REQUESTS

STALE_AFTER: Final = 2  # seconds: the dispatcher's default for STALE_AFTER_SECONDS
LOAD: Final = of_substations("ev_charging_load")
CONNECTORS: Final = of_substations("ev_charging_connectors")
POWER_LIMIT: Final = "dispatcher_substation_power_limit_kw"


def now() -> list[Panel]:
    """Return the panels of the present state; eight of them fill a row."""
    return [
        number(
            "Eligible substations",
            "Substations that may be given a charge request now.",
            Line(f"sum(max by (substation) ({of_substations('dispatcher_substation_eligible')}))"),
            steps=SOME_IS_GOOD,
        ),
        number(
            "Charging",
            "Sessions in progress, all substations.",
            Line(f"sum({of_substations('ev_charging_load')})"),
        ),
        number(
            "Connectors in use",
            "Sessions in progress as a share of connectors. At 100 % requests wait.",
            Line(f"sum({LOAD} and on (substation) {CONNECTORS}) / sum({CONNECTORS})"),
            unit="percentunit",
            steps=((None, "green"), (0.8, "yellow"), (1, "orange")),
        ),
        number(
            "Decisions",
            "Charge requests assigned to a substation, per second.",
            Line(rate(of_substations("dispatcher_decisions_total"))),
            unit="reqps",
        ),
        number(
            "Waiting",
            f"Requests in {REQUESTS}, including those delivered to the dispatcher.",
            Line(_messages(REQUESTS)),
            steps=((None, "green"), (1000, "yellow"), (100_000, "red")),
        ),
        number(
            "To charging, p95",
            "95 of 100 requests of the last minute were charging within this time.",
            quantiles("api_request_to_charging_seconds")[1],
            unit="s",
        ),
        number(
            "Parked",
            f"Requests in {PARKED}: they could not be processed, and wait for an operator. "
            "`make parked ARGS=list` shows why.",
            Line(_messages(PARKED)),
            steps=NONE_IS_GOOD,
        ),
        number(
            "Alerts",
            "Alerts that fire now. Prometheus lists them under /alerts.",
            Line('count(ALERTS{alertstate="firing", severity!="none"}) or vector(0)'),
            steps=NONE_IS_GOOD,
        ),
    ]


def substations() -> list[Panel]:
    """Return the panels of the substations' loads over time, and how even they are."""
    return [
        graph(
            "Load per substation",
            "Sessions in progress, as each substation reports them; dashed, its connectors.",
            [
                Line(f"sum by (substation) ({LOAD})", "{{substation}}"),
                Line(f"sum by (substation) ({CONNECTORS})", LIMIT + "{{substation}}"),
            ],
            width=8,
        ),
        graph(
            "Power per substation",
            "What its sessions, the jobs in flight to it and its other consumers draw together, "
            "as the dispatcher counts it; dashed, what its transformer is rated for, and what an "
            "operator allows now.",
            [
                _each("dispatcher_substation_power_kw"),
                _each("ev_charging_rated_power_kw", LIMIT),
                _each(POWER_LIMIT, LIMIT + "an operator, ", "{} >= 0"),  # NaN where there is none
            ],
            width=8,
            unit="kwatt",
        ),
        graph(
            "Utilisation per substation",
            "The larger of two shares, as the dispatcher counts them: of the connectors taken, and "
            "of the rated power. The dispatcher keeps these equal.",
            [_each("dispatcher_substation_utilisation")],
            width=8,
            unit="percentunit",
            limit=1,
        ),
        graph(
            "Decisions per second",
            "Charge requests assigned to each substation.",
            [
                Line(
                    rate(of_substations("dispatcher_decisions_total"), "substation"),
                    "{{substation}}",
                )
            ],
            width=8,
            unit="reqps",
            stacked=True,
        ),
        graph(
            "Spread of load",
            "Sessions between the fullest and the emptiest substation: as the dispatcher counts "
            "them, and as the substations' gauges show them.",
            [
                Line("max(dispatcher_load_spread)", "dispatcher's count"),
                Line(f"max({LOAD}) - min({LOAD})", "gauges"),
            ],
            width=8,
        ),
        graph(
            "In flight, not yet in the gauge",
            "Requests sent to each substation that its last gauge did not show yet.",
            [_each("dispatcher_substation_outstanding")],
            width=8,
        ),
    ]


def operated() -> list[Panel]:
    """Return the panels of what can be used, and of what operators and failures take away."""
    return [
        states(
            "Eligibility",
            "Whether the dispatcher may choose the substation. Not where a gauge is missing, stale "
            "or no number, or its queue has no consumer, nor while it is ejected or drained; "
            "GET /substations on the api gives the reason.",
            [_each("dispatcher_substation_eligible")],
            width=8,
            words=("ineligible", "eligible"),
        ),
        states(
            "Drained",
            "Whether an operator drains the substation: it finishes what it has.",
            [
                Line(
                    f"1 - max by (substation) ({of_substations('dispatcher_substation_drained')})",
                    "{{substation}}",
                )
            ],
            width=8,
            words=("drained", "in use"),
        ),
        states(
            "Ejection",
            "Whether the substation is ejected after repeated failures, each time for longer. "
            "The ejection ends by itself.",
            [
                Line(
                    f"1 - max by (substation) ({of_substations('dispatcher_substation_ejected')})",
                    "{{substation}}",
                )
            ],
            width=8,
            words=("ejected", "in use"),
        ),
        graph(
            "Oldest request that waits",
            "Age of the request that waits longest for its substation; dashed, the age from which "
            "an alert fires.",
            [Line("max(api_oldest_waiting_request_seconds)", "oldest")],
            width=8,
            unit="s",
            limit=60,
        ),
        graph(
            "Connectors that may be used",
            "Connectors of the substations that are eligible, and the sessions that operators' "
            "limits leave; dashed, all connectors.",
            [
                Line(
                    f"sum({CONNECTORS} and on (substation) "
                    f"{of_substations('dispatcher_substation_eligible')} == 1) or vector(0)",
                    "eligible",
                ),
                Line(
                    f"sum({of_substations('dispatcher_substation_limit')} >= 0) or vector(0)",
                    "limited to",
                ),
                Line(f"sum({CONNECTORS})", LIMIT + "all"),
            ],
            width=8,
        ),
        graph(
            "Energy delivered",
            "Energy of all sessions, in kWh, since each substation started.",
            [_each("ev_charging_energy_kwh_total")],
            width=8,
            unit="kwatth",
            stacked=True,
        ),
        graph(
            "Reclaimed jobs",
            "Jobs reclaimed from a substation that could not charge them, and sent to others. "
            "Counted since each process started: a step is a substation that failed.",
            [
                Line(
                    f"sum by (substation) ({of_substations('dispatcher_rescued_jobs_total')})",
                    "{{substation}}",
                )
            ],
            width=8,
        ),
        states(
            "Gauges as a whole",
            "Whether any substation's gauges are current. With none, the dispatcher decides by its "
            "load tracker alone: by what it sent and what the event log contains.",
            [Line("1 - min(dispatcher_gauges_all_stale)", "gauges")],
            width=8,
            words=("all stale", "current"),
        ),
        graph(
            "Age of the gauges",
            "Time since each substation's load was read; dashed, the age from which it is stale.",
            [
                Line(
                    "max by (substation) "
                    f"({of_substations('dispatcher_substation_gauge_age_seconds')}) >= 0",
                    "{{substation}}",
                )
            ],
            width=8,
            unit="s",
            limit=STALE_AFTER,
        ),
    ]


def _each(metric: str, prefix: str = "", chosen: str = "{}") -> Line:
    """Return a line for each substation that is chosen, of those values that ``chosen`` selects."""
    values = chosen.format(of_substations(metric))
    return Line(f"max by (substation) ({values})", prefix + "{{substation}}")


def _messages(queue: str) -> str:
    return f'max(rabbitmq_detailed_queue_messages{{queue="{queue}"}})'
