"""Panels of the services' own health, and of the objectives."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import (
    Line,
    Panel,
    graph,
    of_jobs,
    of_substations,
    quantiles,
    rate,
    states,
)

CLOCK: Final = of_jobs("grid_clock_seconds")


def health() -> list[Panel]:
    """Return the panels that show what is reachable, connected, up to date, and near a limit."""
    return [
        states(
            "Scrape targets",
            "Whether Prometheus reaches each metrics page.",
            [Line(f"min by (job, instance) ({of_jobs('up')})", "{{job}} {{instance}}")],
            width=8,
            words=("down", "up"),
        ),
        states(
            "Connections and event log",
            "Each service's connections to RabbitMQ, and whether the api has read the event log.",
            [
                Line(
                    f"min by (job, instance, link) ({of_jobs('grid_broker_connected')})",
                    "{{job}} {{instance}} {{link}}",
                ),
                Line("min by (instance) (api_event_log_caught_up)", "event log at {{instance}}"),
            ],
            width=8,
            words=("away", "connected"),
        ),
        graph(
            "The dispatcher's scrapes",
            "Reads of the substations' metrics pages, by outcome.",
            [Line(rate(of_substations("dispatcher_scrapes_total"), "outcome"), "{{outcome}}")],
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
        graph(
            "The event log",
            "Messages that each api reads a second: at least one, from the dispatcher; and the age "
            "of the dispatcher's last snapshot, of which one is due every 10 s.",
            [
                Line("sum by (instance) (rate(api_event_log_offset[1m]))", "read at {{instance}}"),
                Line("min(api_snapshot_age_seconds) < Inf", "age of the snapshot, s"),
            ],
            width=8,
        ),
        graph(
            "Takeovers",
            "How often each dispatcher became the active one: a step is a start, or a failover.",
            [Line("sum by (instance) (dispatcher_takeovers_total)", "{{instance}}")],
            width=8,
        ),
        graph(
            "Clocks",
            "How far each service's clock is from the middle one; dashed, where an alert fires.",
            [
                Line(
                    f"abs({CLOCK} - timestamp({CLOCK})"
                    f" - scalar(quantile(0.5, {CLOCK} - timestamp({CLOCK}))))",
                    "{{job}} {{instance}}",
                )
            ],
            width=8,
            unit="s",
            limit=5,
        ),
        graph(
            "Unforeseen errors",
            "Errors over a single page, file, event or queue, which was skipped. Counted since "
            "each process started; its log has them.",
            [
                Line(
                    f"sum by (job, instance) ({of_jobs('grid_unforeseen_errors_total')})",
                    "{{job}} {{instance}}",
                )
            ],
            width=8,
        ),
        graph(
            "Processor time",
            "Of each process, as a share of one core.",
            [
                Line(
                    f"sum by (job, instance) "
                    f"(rate({of_jobs('process_cpu_seconds_total')}[$__rate_interval]))",
                    "{{job}} {{instance}}",
                )
            ],
            width=8,
            unit="percentunit",
        ),
        graph(
            "Memory",
            "Resident memory of each process.",
            [
                Line(
                    f"max by (job, instance) ({of_jobs('process_resident_memory_bytes')})",
                    "{{job}} {{instance}}",
                )
            ],
            width=8,
            unit="bytes",
        ),
        graph(
            "Open files",
            "File descriptors of each process as a share of its limit.",
            [
                Line(
                    f"max by (job, instance) ({of_jobs('process_open_fds')}"
                    f" / {of_jobs('process_max_fds')})",
                    "{{job}} {{instance}}",
                )
            ],
            width=8,
            unit="percentunit",
            limit=1,
        ),
    ]


def objectives() -> list[Panel]:
    """Return the panels of the objectives: what is missed, and what is left of the budgets."""
    return [
        graph(
            "Objectives met",
            "Share of the last 5 minutes' requests that met each objective; there is none while "
            "nothing is requested. docs/runbook.md defines them.",
            [Line("1 - slo:error_ratio:5m", "{{slo}}")],
            width=8,
            unit="percentunit",
        ),
        graph(
            "Burn rate",
            "How many times too fast each error budget was used in the last hour; dashed, the rate "
            "at which it is gone in two days.",
            [Line("slo:burn_rate:1h", "{{slo}}")],
            width=8,
            limit=14.4,
        ),
        graph(
            "Error budget left",
            "Share of each budget of 30 days that is not used up, as far back as there are data.",
            [Line("clamp_min(slo:error_budget_remaining:ratio, 0)", "{{slo}}")],
            width=8,
            unit="percentunit",
        ),
    ]
