"""The dashboard's panels of the system's own health."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Line, Panel, graph, quantiles, rate, states

STALE_AFTER: Final = 2  # seconds: the dispatcher's default for STALE_AFTER_SECONDS


def health() -> list[Panel]:
    """Return the panels that show what is reachable, connected, up to date, and near a limit."""
    return [
        states(
            "Scrape targets",
            "Whether Prometheus reaches each metrics page.",
            [Line("min by (job, instance) (up)", "{{job}} {{instance}}")],
            width=8,
            words=("down", "up"),
        ),
        states(
            "Connections and event log",
            "Each service's connections to RabbitMQ, and whether the api has read the event log.",
            [
                Line(
                    "min by (job, instance, link) (grid_broker_connected)",
                    "{{job}} {{instance}} {{link}}",
                ),
                Line("min by (instance) (api_event_log_caught_up)", "event log at {{instance}}"),
            ],
            width=8,
            words=("away", "connected"),
        ),
        states(
            "Gauges as a whole",
            "Whether any substation's gauges are current. With none, the dispatcher decides by its "
            "load tracker alone: by what it sent and what the event log contains.",
            [Line("1 - min(dispatcher_gauges_all_stale)", "gauges")],
            width=8,
            words=("all stale", "current"),
        ),
        states(
            "Eligibility",
            "Whether the dispatcher may choose the substation. Not where a gauge is missing, stale "
            "or no number, or its queue has no consumer, nor while it is ejected or drained; "
            "GET /substations on the api gives the reason.",
            [Line("max by (substation) (dispatcher_substation_eligible)", "{{substation}}")],
            width=8,
            words=("ineligible", "eligible"),
        ),
        states(
            "Ejection",
            "Whether the substation is ejected after repeated failures, each time for longer. "
            "The ejection ends by itself.",
            [Line("1 - max by (substation) (dispatcher_substation_ejected)", "{{substation}}")],
            width=8,
            words=("ejected", "in use"),
        ),
        graph(
            "Age of the gauges",
            "Time since each substation's load was read; dashed, the age from which it is stale.",
            [
                Line(
                    "max by (substation) (dispatcher_substation_gauge_age_seconds)",
                    "{{substation}}",
                )
            ],
            width=8,
            unit="s",
            limit=STALE_AFTER,
        ),
        graph(
            "The dispatcher's scrapes",
            "Reads of the substations' metrics pages, by outcome.",
            [Line(rate("dispatcher_scrapes_total", "outcome"), "{{outcome}}")],
            width=8,
            unit="ops",
            stacked=True,
        ),
        graph(
            "Time per decision",
            "Computing time of one decision, without waiting.",
            quantiles("dispatcher_decision_seconds"),
            width=8,
            unit="s",
        ),
        graph(
            "RabbitMQ's limits",
            "Memory used as a share of its limit, and the least free disk as a share of what is "
            "free. At 100 % RabbitMQ takes no more messages.",
            [
                Line(
                    "max(rabbitmq_process_resident_memory_bytes"
                    " / rabbitmq_resident_memory_limit_bytes)",
                    "memory",
                ),
                Line(
                    "max(rabbitmq_disk_space_available_limit_bytes"
                    " / rabbitmq_disk_space_available_bytes)",
                    "disk",
                ),
            ],
            width=8,
            unit="percentunit",
            limit=1,
        ),
    ]
