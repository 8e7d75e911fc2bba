"""Panels of requests: latencies, rates and queues."""

from __future__ import annotations

from typing import Final

from deploy.grafana.panels import Line, Panel, graph, of_substations, quantiles, rate

_QUEUES: Final = 'queue=~"charge[.](requests|parked|dead)|substation[.].+"'  # not the event log


def requests() -> list[Panel]:
    """Return the panels of requests: how fast, how many, and how many did not go as planned."""
    return [
        graph(
            "From request to charging",
            "From the api's acceptance until the session starts.",
            quantiles("api_request_to_charging_seconds"),
            width=8,
            unit="s",
        ),
        graph(
            "From request to assignment",
            "From the api's acceptance until the dispatcher has chosen the substation.",
            quantiles("dispatcher_request_to_assignment_seconds"),
            width=8,
            unit="s",
        ),
        graph(
            "Jobs by status",
            "Jobs that the api knows from the event log, by their present status.",
            [Line("max by (status) (api_jobs)", "{{status}}")],
            width=8,
        ),
        graph(
            "Sessions completed per second",
            "By substation.",
            [
                Line(
                    rate(of_substations("ev_charging_sessions_completed_total"), "substation"),
                    "{{substation}}",
                )
            ],
            width=8,
            unit="ops",
            stacked=True,
        ),
        graph(
            "Duplicates, parked, missing events",
            "Counted since each process started. A second copy of a job is recognised by its id "
            "and not charged.",
            [
                Line("max(api_duplicate_completions_total)", "completed twice"),
                Line("sum(ev_charging_duplicate_deliveries_total)", "delivered twice"),
                Line("sum(dispatcher_redelivered_total)", "redelivered to the dispatcher"),
                Line("sum(dispatcher_parked_total) or vector(0)", "parked"),
                Line("sum(dispatcher_events_lost_total)", "missing from the event log"),
            ],
            width=8,
        ),
        graph(
            "Expired",
            "Requests whose departure time passed before they were charged: in the dispatcher's "
            "wait queue, and at a substation. Counted since each process started.",
            [
                Line("sum(dispatcher_expired_total)", "dispatcher"),
                Line(
                    "sum by (substation) "
                    f"({of_substations('ev_charging_expired_deliveries_total')})",
                    "{{substation}}",
                ),
            ],
            width=8,
        ),
    ]


def api() -> list[Panel]:
    """Return the panels of the api."""
    return [
        graph(
            "Requests to the api",
            "By HTTP status; errors are answers of 500 and above.",
            [
                Line(rate("api_requests_total", "status"), "{{status}}"),
                Line(rate('api_requests_total{status=~"5.."}') + " or vector(0)", "errors"),
            ],
            width=8,
            unit="reqps",
        ),
        graph(
            "The api's answer time",
            "95th percentile by route. POST /charge waits up to a second for the decision.",
            [quantiles("api_request_seconds", "route")[1]._replace(exemplar=True)],
            width=8,
            unit="s",
        ),
        graph(
            "Accepted and ended",
            "Requests of the last hour that were accepted, and those that ended, by the services' "
            "counters. What is accepted and has not ended is in a queue of RabbitMQ.",
            [
                Line("grid:accepted_requests:increase1h", "accepted"),
                Line("grid:ended_jobs:increase1h", "ended"),
                Line("grid:queued_jobs:sum", "in a queue now"),
            ],
            width=8,
        ),
    ]


def queues() -> list[Panel]:
    """Return the panels of queues."""
    return [
        graph(
            "Queue depth",
            "Messages ready to be delivered. Requests wait in charge.requests; a substation's own "
            "queue and charge.dead stay nearly empty.",
            [
                Line(
                    f"max by (queue) (rabbitmq_detailed_queue_messages_ready{{{_QUEUES}}})",
                    "{{queue}}",
                )
            ],
            width=8,
        ),
        graph(
            "Delivered, not acknowledged",
            "Messages delivered to a consumer: those the dispatcher holds, and those charging.",
            [
                Line(
                    f"max by (queue) (rabbitmq_detailed_queue_messages_unacked{{{_QUEUES}}})",
                    "{{queue}}",
                )
            ],
            width=8,
        ),
        graph(
            "Waiting in the dispatcher",
            "Requests that the dispatcher holds because every eligible substation is full.",
            [Line("sum by (instance) (dispatcher_waiting_requests)", "{{instance}}")],
            width=8,
        ),
    ]
