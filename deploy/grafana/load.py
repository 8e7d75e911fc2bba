"""The dashboard's panels of the substations: the present state, and each one's load."""

from __future__ import annotations

from deploy.grafana.panels import (
    LIMIT,
    NONE_IS_GOOD,
    SOME_IS_GOOD,
    Line,
    Panel,
    graph,
    number,
    quantiles,
    rate,
)
from grid.topology import PARKED, REQUESTS


def now() -> list[Panel]:
    """Return the panels of the present state; eight of them fill a row."""
    return [
        number(
            "Eligible substations",
            "Substations that may be given a charge request now.",
            Line("sum(max by (substation) (dispatcher_substation_eligible))"),
            steps=SOME_IS_GOOD,
        ),
        number("Charging", "Sessions in progress, all substations.", Line("sum(ev_charging_load)")),
        number(
            "Connectors in use",
            "Sessions in progress as a share of connectors. At 100 % requests wait.",
            Line(
                "sum(ev_charging_load and on (substation) ev_charging_connectors)"
                " / sum(ev_charging_connectors)"
            ),
            unit="percentunit",
            steps=((None, "green"), (0.8, "yellow"), (1, "orange")),
        ),
        number(
            "Decisions",
            "Charge requests assigned to a substation, per second.",
            Line(rate("dispatcher_decisions_total")),
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
            Line('count(ALERTS{alertstate="firing"}) or vector(0)'),
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
                Line("sum by (substation) (ev_charging_load)", "{{substation}}"),
                Line("sum by (substation) (ev_charging_connectors)", LIMIT + "{{substation}}"),
            ],
            width=8,
        ),
        graph(
            "Power per substation",
            "What its sessions, the jobs in flight to it and its other consumers draw together, "
            "as the dispatcher counts it; dashed, what its transformer is rated for.",
            [
                Line("max by (substation) (dispatcher_substation_power_kw)", "{{substation}}"),
                Line("sum by (substation) (ev_charging_rated_power_kw)", LIMIT + "{{substation}}"),
            ],
            width=8,
            unit="kwatt",
        ),
        graph(
            "Utilisation per substation",
            "The larger of two shares, as the dispatcher counts them: of the connectors taken, and "
            "of the rated power. The dispatcher keeps these equal.",
            [Line("max by (substation) (dispatcher_substation_utilisation)", "{{substation}}")],
            width=8,
            unit="percentunit",
            limit=1,
        ),
        graph(
            "Decisions per second",
            "Charge requests assigned to each substation.",
            [Line(rate("dispatcher_decisions_total", "substation"), "{{substation}}")],
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
                Line("max(ev_charging_load) - min(ev_charging_load)", "gauges"),
            ],
            width=8,
        ),
        graph(
            "In flight, not yet in the gauge",
            "Requests sent to each substation that its last gauge did not show yet.",
            [Line("max by (substation) (dispatcher_substation_outstanding)", "{{substation}}")],
            width=8,
        ),
    ]


def _messages(queue: str) -> str:
    return f'max(rabbitmq_detailed_queue_messages{{queue="{queue}"}})'
