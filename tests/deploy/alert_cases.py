"""What each alert fires on, and what it does not fire on.

Every case begins from all the series of a system that works (``HEALTHY``), changes some of them,
and says which alerts fire then: exactly these, and no other.
"""

from __future__ import annotations

from typing import Final

from tests.deploy.alert_series import (
    ANSWERED,
    API_LINK,
    API_UP,
    CLOCKS,
    CONSUMERS,
    DESCRIPTORS,
    DISK,
    DISPATCHER_LINK,
    DISPATCHER_UP,
    FREE,
    LIMIT,
    LONG,
    MEMORY,
    NONE,
    OLDEST,
    QUEUES_UP,
    RABBITMQ_UP,
    RECONNECTS,
    REFUSED,
    REQUESTS,
    WORK,
    Case,
    Said,
    critical,
    drained,
    ejected,
    eligible,
    page,
    power_limit,
    queue,
    reconciled,
    target,
    warning,
)

CASES: Final = (
    Case("a system that works raises nothing", {}, {"10m": NONE, "90m": NONE}),
    Case(
        "an idle system raises nothing",
        dict.fromkeys(WORK) | dict.fromkeys(WORK, f"7x{LONG}"),
        {"10m": NONE, "70m": NONE},
    ),
    Case(
        "a busy system in which requests wait for a moment raises nothing",
        {
            REQUESTS: f"3000-1x{LONG}",
            OLDEST: f"55x{LONG}",
            # what RabbitMQ gives up is parked at once
            queue("charge.dead"): "0 1 1 0x77",
            queue("substation.s1"): f"50x{LONG}",
            # a substation that was taken away leaves an empty queue behind
            queue("substation.s0"): f"0x{LONG}",
            queue("substation.s0", "consumers"): f"0x{LONG}",
            RECONNECTS: "0 1 2 3x77",
            REFUSED: f"0+0.04x{LONG}",
            # Prometheus follows a change of the target file some seconds later
            "dispatcher_targets": "2x19 3x60",
            target("s3", "s3:9100"): "_x19 1x60",
            page("s3"): "_x20 1x60",
            eligible("s3"): "_x19 1x60",
        },
        {"10m": NONE, "20m": NONE},
    ),
    Case(
        "one of two substations becomes ineligible, and comes back",
        {
            eligible("s1"): f"0x5 1x{LONG}",
            'dispatcher_substation_gauge_age_seconds{substation="s1"}': "8x9",
        },
        {
            "15s": NONE,
            "45s": [warning("SubstationIneligible", substation="s1")],
            "3m": NONE,
        },
        {
            ("SubstationIneligible", "45s"): Said(
                "s1 is not eligible for charge requests",
                "Since 1970-01-01 00:00:00 +0000 UTC the dispatcher cannot "
                "use s1, which no operator drains. Its gauges are 8s old. GET /substations on "
                "the api "
                "gives the reason.",
            )
        },
    ),
    Case(
        "one of two substations dies, with jobs that are reclaimed, and comes back",
        {
            eligible("s1"): f"1x4 0x9 1x{LONG}",
            page("s1"): f"1x4 0x9 1x{LONG}",
            'dispatcher_rescued_jobs_total{substation="s1"}': f"0x5 12x{LONG}",
            queue("substation.s1", "consumers"): f"1x4 0x9 1x{LONG}",
            queue("substation.s1"): f"4x5 0x{LONG}",
        },
        {
            "1m": NONE,
            "2m": [warning("SubstationIneligible", substation="s1")],
            "3m": [warning("SubstationIneligible", substation="s1")],
            "4m": [warning("JobsReclaimed", substation="s1")],
            "16m": NONE,
        },
        {
            ("JobsReclaimed", "4m"): Said(
                "12 jobs were reclaimed from s1",
                "In the 10 minutes before 1970-01-01 00:03:45 +0000 UTC, or since, "
                "s1 was dead or unreachable while 12 jobs waited for it; they were sent to others.",
            )
        },
    ),
    Case(
        "one of two substations is drained, and then taken back while it is not there",
        {eligible("s1"): f"0x{LONG}", drained("s1"): f"1x8 0x{LONG}", page("s1"): f"0x{LONG}"},
        {"2m30s": NONE, "2m45s": [warning("SubstationIneligible", substation="s1")]},
    ),
    Case(
        "of two dispatchers one sees the substation, which is enough",
        {'dispatcher_substation_eligible{instance="d2", substation="s1"}': f"0x{LONG}"},
        {"5m": NONE},
    ),
    Case(
        "no substation is eligible",
        {eligible("s1"): f"0x{LONG}", eligible("s2"): f"0x{LONG}", OLDEST: f"0+15x{LONG}"},
        {
            "0s": NONE,
            "15s": [critical("NoSubstationEligible")],
            "1m": [critical("NoSubstationEligible")],
            "10m": [critical("NoSubstationEligible")],
        },
        {
            ("NoSubstationEligible", "1m"): Said(
                "None of 2 substations is eligible: requests wait",
                "Since 1970-01-01 00:00:00 +0000 UTC no request is assigned. "
                "0 of 2 substations are drained by operators; GET /substations on the api gives "
                "the "
                "reasons of the others.",
            )
        },
    ),
    Case(
        "operators drain all substations",
        {
            **{eligible(name): f"0x{LONG}" for name in ("s1", "s2")},
            **{drained(name): f"1x{LONG}" for name in ("s1", "s2")},
        },
        {"1m": [critical("NoSubstationEligible")], "10m": [critical("NoSubstationEligible")]},
        {
            ("NoSubstationEligible", "1m"): Said(
                "None of 2 substations is eligible: requests wait",
                "Since 1970-01-01 00:00:00 +0000 UTC no request is assigned. "
                "2 of 2 substations are drained by operators; GET /substations on the api gives "
                "the "
                "reasons of the others.",
            )
        },
    ),
    Case(
        "the target file is empty",
        {
            **dict.fromkeys((eligible("s1"), eligible("s2"), page("s1"), page("s2"))),
            target("s1", "s1:9100"): None,
            target("s2", "s2:9100"): None,
            "dispatcher_targets": f"0x{LONG}",
        },
        {"1m": [critical("NoSubstationEligible")]},
    ),
    Case(
        "the dispatcher reads no page any more, and then again",
        {"dispatcher_gauges_all_stale": f"0 1x3 0x{LONG}"},
        {"15s": NONE, "30s": [warning("GaugesAllStale")], "3m": NONE},
    ),
    Case(
        "of two dispatchers one reads the pages, which is enough",
        {'dispatcher_gauges_all_stale{instance="d2"}': f"1x{LONG}"},
        {"5m": NONE},
    ),
    Case(
        "one of two substations is ejected, and taken in again",
        {
            ejected("s1"): f"1x19 0x{LONG}",
            'dispatcher_substation_ejected{instance="d2", substation="s1"}': f"0x{LONG}",
            eligible("s1"): f"0x19 1x{LONG}",
            ejected("s2"): f"1x2 0x{LONG}",
            eligible("s2"): f"1x{LONG}",
            'dispatcher_scrapes_total{outcome="failed", substation="s1"}': "0 40x90",
        },
        {"45s": NONE, "1m": [warning("SubstationEjected", substation="s1")], "8m": NONE},
        {
            ("SubstationEjected", "1m"): Said(
                "s1 has been ejected for a minute",
                "Since 1970-01-01 00:00:00 +0000 UTC s1 gets no jobs after "
                "repeated failures, each time for longer. 40 reads of its page failed in the "
                "last 10 minutes.",
            )
        },
    ),
    Case(
        "jobs are left in a substation's queue",
        {queue("substation.s1"): f"7x{LONG}", queue("substation.s1", "consumers"): f"0x{LONG}"},
        {"45s": NONE, "1m": [critical("SubstationQueueUnserved", queue="substation.s1")]},
    ),
    Case(
        "a drain is forgotten, though the dispatcher starts again meanwhile",
        {drained("s1"): f"1x120 _x4 1x{LONG}", eligible("s1"): f"0x120 _x4 0x{LONG}"},
        {"59m": NONE, "61m": [warning("DrainForgotten", substation="s1")]},
        {
            ("DrainForgotten", "61m"): Said(
                "s1 has been drained for more than an hour",
                "Since 1970-01-01 00:00:00 +0000 UTC s1 gets no jobs, as an "
                "operator wants it. 8 connectors are unused.",
            )
        },
    ),
    Case(
        "a drain ends in time",
        {drained("s1"): f"1x220 0x{LONG}", eligible("s1"): f"0x220 1x{LONG}"},
        {"54m": NONE, "62m": NONE},
    ),
    Case(
        "one substation is drained, the other limited, and requests pile up",
        {
            drained("s1"): f"1x{LONG}",
            eligible("s1"): f"0x{LONG}",
            LIMIT: f"2x{LONG}",
            OLDEST: f"0+15x{LONG}",
            'api_jobs{status="queued"}': f"0+100x{LONG}",
            REQUESTS: f"0+100x{LONG}",
            'dispatcher_request_to_assignment_seconds_bucket{le="1.0"}': f"0x{LONG}",
        },
        {
            "2m": NONE,
            "2m15s": [warning("CapacityWithheld")],
            "10m": [warning("CapacityWithheld")],
        },
        {
            ("CapacityWithheld", "2m15s"): Said(
                "Requests wait for 2m 15s while operators drain or limit substations",
                "Since 1970-01-01 00:01:15 +0000 UTC requests wait for more "
                "than a minute, the oldest for 2m 15s. 1 substations are drained, 1 are limited.",
            )
        },
    ),
    Case(
        "the power of a substation is limited, and requests wait",
        {
            power_limit("s1"): f"20x{LONG}",
            **{
                f'ev_charging_rated_power_kw{{substation="{s}"}}': f"400x{LONG}"
                for s in ("s1", "s2")
            },
            OLDEST: f"0+15x{LONG}",
        },
        {"2m": NONE, "2m15s": [warning("CapacityWithheld")]},
    ),
    Case(
        "a limit is above what the transformer can do, and requests wait",
        {
            power_limit("s1"): f"500x{LONG}",
            'ev_charging_rated_power_kw{substation="s1"}': f"400x{LONG}",
            OLDEST: f"0+15x{LONG}",
        },
        {"2m15s": NONE, "10m": [warning("RequestsWaitLong")]},
    ),
    Case(
        "the dispatcher dies, and requests wait",
        {
            DISPATCHER_UP: f"1x9 0x{LONG}",
            "dispatcher_waiting_requests": "0x9 stale",
            "dispatcher_gauges_all_stale": "0x9 stale",
            **{name(each): "1x9 stale" for name in (eligible,) for each in ("s1", "s2")},
            **{name(each): "0x9 stale" for name in (drained, ejected) for each in ("s1", "s2")},
            "dispatcher_targets": "2x9 stale",
            target("s1", "s1:9100"): "1x9 stale",
            target("s2", "s2:9100"): "1x9 stale",
            DISPATCHER_LINK: "1x9 stale",
            REQUESTS: f"0x9 1+1x{LONG}",
            CONSUMERS: f"1x9 0x{LONG}",
            OLDEST: f"0x9 0+15x{LONG}",
            "api_snapshot_age_seconds": f"4x9 4+15x{LONG}",
        },
        {
            "2m45s": NONE,
            "3m15s": [critical("DispatcherDown")],
            "12m": [critical("DispatcherDown")],
        },
        {
            ("DispatcherDown", "3m15s"): Said(
                "No dispatcher answers",
                "Since 1970-01-01 00:02:30 +0000 UTC Prometheus can read no "
                "dispatcher's metrics. Accepted requests are safe in charge.requests, where 4 "
                "wait.",
            )
        },
    ),
    Case(
        "of two dispatchers one dies, and a substation's page is cut off from Prometheus alone",
        {'up{job="dispatcher", instance="d2:6000"}': f"0x{LONG}", page("s1"): f"0x{LONG}"},
        {
            "45s": NONE,
            "1m": [
                warning("TargetDown", job="dispatcher", instance="d2:6000"),
                warning("TargetDown", job="substation", instance="s1:9100", substation="s1"),
            ],
        },
    ),
    Case(
        "the dispatcher runs, and takes no requests",
        {CONSUMERS: f"1x4 0x{LONG}", "api_snapshot_age_seconds": f"4+15x{LONG}"},
        {
            "1m30s": NONE,
            "1m45s": [critical("NoActiveDispatcher")],
            "5m": [critical("NoActiveDispatcher")],
        },
    ),
    Case(
        "the dispatcher takes requests, and writes no snapshots",
        {"api_snapshot_age_seconds": f"4+15x{LONG}"},
        {"30s": NONE, "1m": [critical("DispatcherSilent")]},
    ),
    Case(
        "more requests come than can be assigned",
        {
            REQUESTS: f"0+150x{LONG}",
            OLDEST: f"0+15x{LONG}",
            'api_jobs{status="queued"}': f"0+150x{LONG}",
            "dispatcher_waiting_requests": f"1000x{LONG}",
        },
        {
            "3m": NONE,
            # 1050 waited after 1 min 45 s, and more ever since
            "3m15s": [warning("RequestsWaitLong")],
            "6m": [warning("RequestsWaitLong")],
            "9m": [
                warning("RequestsBacklogGrowing", queue="charge.requests"),
                warning("RequestsWaitLong"),
            ],
        },
        {
            ("RequestsWaitLong", "9m"): Said(
                "A request has waited 9m 0s for its substation",
                "Since 1970-01-01 00:01:15 +0000 UTC requests wait for more than "
                "a minute, the oldest for 9m 0s. 5400 wait in all.",
            ),
            ("RequestsBacklogGrowing", "9m"): Said(
                "5400 requests wait, and the number grows",
                "Since 1970-01-01 00:01:45 +0000 UTC requests come faster "
                "than they are assigned; 5400 wait. 25% of the connectors are in use.",
            ),
        },
    ),
    Case(
        "charge.requests is nearly full, and then full",
        {REQUESTS: f"400000 400001 499999 500000x{LONG}"},
        {
            "0s": NONE,
            "15s": [warning("RequestsQueueNearlyFull")],
            "30s": [warning("RequestsQueueNearlyFull")],
            "45s": [critical("RequestsQueueFull")],
        },
    ),
    Case(
        "a queue was deleted, and what was in it is published again",
        {reconciled("published"): f"0 0 519x{LONG}"},
        {"15s": NONE, "1m": [warning("JobsReconciled", outcome="published")], "12m": NONE},
    ),
    Case(
        "the records of lost requests are gone too, and jobs in doubt are sent again",
        {
            reconciled("record lost"): f"0 0 3x{LONG}",
            reconciled("sent again"): f"0 0 50x{LONG}",
            reconciled("in doubt"): f"0 0 50x{LONG}",
            reconciled("refused"): f"0 0 50x{LONG}",
        },
        {"1m": [warning("JobsReconciled", outcome="record lost")], "12m": NONE},
    ),
    Case(
        "requests disappear: a tenth of those accepted, and no queue has them",
        {
            'ev_charging_sessions_completed_total{substation="s2"}': f"0+5x240 1204+4x{LONG}",
            'api_event_log_offset{instance="a:7000"}': f"0+15x{LONG}",
        },
        {"61m": NONE, "95m": [warning("AcceptedNotEnded")]},
    ),
    Case(
        "requests are accepted and wait, are cancelled, expire or are parked: none has disappeared",
        {
            'ev_charging_sessions_completed_total{substation="s1"}': f"0+2x{LONG}",
            'ev_charging_sessions_completed_total{substation="s2"}': f"0+1x{LONG}",
            'ev_charging_sessions_cancelled_total{substation="s1"}': f"0+1x{LONG}",
            'ev_charging_cancelled_deliveries_total{substation="s1"}': f"0+1x{LONG}",
            'ev_charging_expired_deliveries_total{substation="s1"}': f"0+1x{LONG}",
            "dispatcher_expired_total": f"0+1x{LONG}",
            "dispatcher_cancelled_total": f"0+1x{LONG}",
            REQUESTS: f"0+2x{LONG}",
        },
        {"75m": NONE},
    ),
    Case(
        "decisions are missing from the event log",
        {'dispatcher_events_lost_total{instance="d:6000"}': f"0x4 3x{LONG}"},
        {"1m": NONE, "2m": [warning("EventsLost")], "15m": NONE},
    ),
    Case(
        "the api dies",
        {
            API_UP: f"1x9 0x{LONG}",
            API_LINK: "1x9 stale",
            "api_snapshot_age_seconds": "4x9 stale",
            OLDEST: "0x9 stale",
            'api_event_log_offset{instance="a:7000"}': "0+15x9 stale",
            'api_event_log_caught_up{instance="a:7000"}': "1x9 stale",
        },
        {"2m45s": NONE, "3m": [critical("ApiDown")], "12m": [critical("ApiDown")]},
        {
            ("ApiDown", "3m"): Said(
                "No api answers: no request is accepted",
                "Since 1970-01-01 00:02:30 +0000 UTC Prometheus can read no api's metrics "
                "(1 are known). Accepted requests are charged all the same.",
            )
        },
    ),
    Case(
        "of two apis one dies",
        {'up{job="api", instance="b:7000"}': f"0x{LONG}"},
        {"2m": [warning("TargetDown", job="api", instance="b:7000")]},
    ),
    Case(
        "one of two apis stays behind the event log, and another answers with errors",
        {
            'api_event_log_caught_up{instance="b:7000"}': f"0x{LONG}",
            'api_requests_total{route="/charges", method="GET", status="500"}': f"0+0.2x{LONG}",
        },
        {
            "45s": NONE,
            "3m": [warning("EventLogNotCaughtUp", instance="b:7000"), warning("ApiErrors")],
        },
    ),
    Case(
        "the event log does not advance at one of two apis",
        {
            'api_event_log_offset{instance="a:7000"}': f"0+15x4 60x{LONG}",
            'api_event_log_offset{instance="b:7000"}': f"0+15x{LONG}",
        },
        {"1m15s": NONE, "2m15s": [warning("EventLogNotAdvancing", instance="a:7000")]},
    ),
    Case(
        "the event log does not advance at the only api, which so has an old snapshot",
        {
            'api_event_log_offset{instance="a:7000"}': f"0+15x4 60x{LONG}",
            "api_snapshot_age_seconds": f"4x4 4+15x{LONG}",
        },
        {"3m": [warning("EventLogNotAdvancing", instance="a:7000")]},
    ),
    Case(
        "2 % of the requests are refused",
        {ANSWERED: f"0+98x{LONG}", REFUSED: f"0+2x{LONG}"},
        {
            "45s": NONE,
            "1m30s": [warning("ApiErrors")],
            "3m": [warning("ApiErrors"), critical("ErrorBudgetBurnsFast", slo="charge-available")],
        },
        {
            ("ErrorBudgetBurnsFast", "3m"): Said(
                "The error budget of charge-available burns 20.0 times too fast",
                "Since 1970-01-01 00:00:15 +0000 UTC the objective "
                "charge-available is missed so often that its budget of 30 days would last "
                "1/20.0 of that. "
                "2% of the last 5 minutes missed it.",
            )
        },
    ),
    Case(
        "a few requests of very few are refused: too few to say anything",
        {ANSWERED: f"0+0.01x{LONG}", REFUSED: f"0x20 1x{LONG}"},
        {"20m": NONE},
    ),
    Case(
        "requests were refused for five minutes: the short windows end the alert",
        {ANSWERED: f"0+98x{LONG}", REFUSED: f"0x240 0+100x20 2000x{LONG}"},
        {
            "66m": [warning("ApiErrors"), critical("ErrorBudgetBurnsFast", slo="charge-available")],
            "102m": NONE,
        },
    ),
    Case(
        "sessions do not begin, though connectors are free",
        {'api_free_connector_to_charging_seconds_bucket{le="10.0"}': f"0+5x{LONG}"},
        {"4m": NONE, "7m": [warning("ErrorBudgetBurnsFast", slo="begun-within-10s")]},
    ),
    Case(
        "the budget burns twice as fast as it may, for long",
        {
            ANSWERED: f"0+1000x{LONG}",
            REFUSED: f"0+2x{LONG}",
        },
        {"30m": NONE, "65m": [warning("ErrorBudgetBurnsSlowly", slo="charge-available")]},
    ),
    Case(
        "RabbitMQ is away",
        {
            RABBITMQ_UP: f"1x4 0x{LONG}",
            QUEUES_UP: f"1x4 0x{LONG}",
            API_LINK: f"1x4 0x{LONG}",
            DISPATCHER_LINK: f"1x4 0x{LONG}",
            **{
                queue(name): "0x4 stale"
                for name in ("charge.requests", "charge.parked", "charge.dead")
            },
            CONSUMERS: "1x4 stale",
            queue("substation.s1"): "4x4 stale",
            queue("substation.s1", "consumers"): "1x4 stale",
            MEMORY: "0x4 stale",
            DISK: "0x4 stale",
            DESCRIPTORS: "0x4 stale",
            FREE: "1100000000x4 stale",
            eligible("s1"): f"1x4 0x{LONG}",
            eligible("s2"): f"1x4 0x{LONG}",
            OLDEST: f"0x4 0+15x{LONG}",
            "api_snapshot_age_seconds": f"4x4 4+15x{LONG}",
            'api_event_log_offset{instance="a:7000"}': f"0+15x4 60x{LONG}",
            ANSWERED: f"0+10x4 40x{LONG}",
            REFUSED: f"0x4 0+10x{LONG}",
        },
        {"1m": NONE, "1m30s": [critical("RabbitMQDown")], "10m": [critical("RabbitMQDown")]},
    ),
    Case(
        "an outside RabbitMQ, whose metrics nobody reads, is away",
        {
            RABBITMQ_UP: None,
            QUEUES_UP: None,
            API_LINK: f"1x4 0x{LONG}",
            **{queue(name): None for name in ("charge.requests", "charge.parked", "charge.dead")},
            **dict.fromkeys((CONSUMERS, MEMORY, DISK, DESCRIPTORS, FREE)),
        },
        {
            "1m": NONE,
            "1m30s": [
                critical("BrokerConnectionLost", job="api", instance="a:7000", link="requests")
            ],
        },
    ),
    Case(
        "a connection to RabbitMQ is lost, then comes and goes",
        {
            API_LINK: f"0x8 1x{LONG}",
            'grid_broker_connected{job="api", instance="a:7000", link="events"}': f"1x{LONG}",
            RECONNECTS: (f"0x8 1 2 3 4x{LONG}"),
        },
        {
            "0s": NONE,
            "15s": [
                critical("BrokerConnectionLost", job="api", instance="a:7000", link="requests")
            ],
            "5m": [
                warning("BrokerConnectionUnsteady", job="api", instance="a:7000", link="requests")
            ],
        },
    ),
    Case(
        "RabbitMQ's disk fills up, until it stops publishers",
        {
            FREE: f"1024000000 1000000000x3 500000000x{LONG}",
            DISK: f"0x3 1x{LONG}",
            'api_event_log_offset{instance="a:7000"}': f"0+15x4 60x{LONG}",
            "api_snapshot_age_seconds": f"4x4 4+15x{LONG}",
            ANSWERED: f"0+10x4 40x{LONG}",
            REFUSED: f"0x4 0+10x{LONG}",
        },
        {
            "15s": NONE,
            "45s": [warning("RabbitMQDiskLow", instance="r:15692")],
            "90s": [critical("RabbitMQDiskAlarm", instance="r:15692")],
            "10m": [critical("RabbitMQDiskAlarm", instance="r:15692")],
        },
        {
            ("RabbitMQDiskAlarm", "90s"): Said(
                "RabbitMQ is out of disk and takes no messages",
                "Since 1970-01-01 00:01:00 +0000 UTC r:15692 blocks every "
                "publisher: it has 476.8MiB of disk left. Accepted requests are safe, and no new "
                "ones are "
                "accepted.",
            )
        },
    ),
    Case(
        "RabbitMQ raises its own alarms",
        {MEMORY: "1x4", DISK: "1x4", DESCRIPTORS: "1x4"},
        {
            "15s": [
                critical("RabbitMQMemoryAlarm", instance="r:15692"),
                critical("RabbitMQDiskAlarm", instance="r:15692"),
                critical("RabbitMQFileDescriptorAlarm", instance="r:15692"),
            ]
        },
    ),
    Case(
        "a request is parked",
        {queue("charge.parked"): "0 1"},
        {"15s": [warning("RequestsParked")]},
        {
            ("RequestsParked", "15s"): Said(
                "1 message is parked",
                "Since now messages that could not be "
                "processed wait in charge.parked, 1 now. See why: make parked ARGS=list.",
            )
        },
    ),
    Case(
        "nobody parks what RabbitMQ gave up",
        {queue("charge.dead"): "0 1 1 1 1 1 0"},
        {"1m": NONE, "75s": [warning("DeadLettersUnseen")], "90s": NONE},
    ),
    Case(
        "one clock is 6 s fast, and Prometheus's own an hour slow, which matters to nobody",
        {
            **dict.fromkeys(CLOCKS, f"3600+15x{LONG}"),
            'grid_clock_seconds{job="substation", instance="s1:9100"}': f"3606+15x{LONG}",
        },
        {
            "15s": NONE,
            "1m": [warning("ClocksDiffer", job="substation", instance="s1:9100")],
        },
        {
            ("ClocksDiffer", "1m"): Said(
                "The clock of substation at s1:9100 differs by 6s",
                "Since 1970-01-01 00:00:00 +0000 UTC it differs by more than 5 s from "
                "the other services' clocks, by 6s now. Departures are compared with it, and "
                "times in the "
                "event log and on the page are wrong.",
            )
        },
    ),
    Case(
        "clocks differ by what it takes to read a page",
        {'grid_clock_seconds{job="substation", instance="s1:9100"}': f"1.9+15x{LONG}"},
        {"5m": NONE},
    ),
    Case(
        "Prometheus refuses the target file that the dispatcher has taken, and then takes it",
        {
            "dispatcher_targets": f"2x4 3x{LONG}",
            target("s3", "s3:9100"): f"_x4 1x{LONG}",
            eligible("s3"): f"_x4 1x{LONG}",
            page("s3"): f"_x30 1x{LONG}",
            "prometheus_sd_file_read_errors_total": f"0x4 3+3x25 78x{LONG}",
        },
        {
            "1m": NONE,
            "3m": [
                warning("TargetFileRefused"),
                warning("TargetsDiffer", substation="s3", address="s3:9100"),
            ],
            "10m": NONE,
        },
        {
            ("TargetsDiffer", "3m"): Said(
                "Dispatcher and Prometheus differ about s3 at s3:9100",
                "Since 1970-01-01 00:01:00 +0000 UTC they have read different target "
                "files, or one has refused what the other accepted: the dispatcher has 3 "
                "substations, "
                "Prometheus 2. Vehicles may charge at a substation that is not measured.",
            )
        },
    ),
    Case(
        "as many substations, but one is at another address",
        {
            target("s1", "s1:9100"): None,
            target("s1", "other:9100"): f"1x{LONG}",
        },
        {
            "45s": NONE,
            "1m": [
                warning("TargetsDiffer", substation="s1", address="s1:9100"),
                warning("TargetsDiffer", substation="s1", address="other:9100"),
            ],
        },
    ),
    Case(
        "Prometheus has never taken the target file",
        {page("s1"): None, page("s2"): None},
        {
            "2m": [
                warning("TargetsDiffer", substation="s1", address="s1:9100"),
                warning("TargetsDiffer", substation="s2", address="s2:9100"),
            ]
        },
    ),
    Case(
        "of two dispatchers one has refused the target file",
        {
            'dispatcher_targets{instance="d2"}': f"1x{LONG}",
            target("s1", "s1:9100", "d2"): f"1x{LONG}",
            'dispatcher_target_file_ok{instance="d2"}': f"0x{LONG}",
        },
        {
            "2m": [
                warning("TargetFileRefused"),
                warning("TargetsDiffer", substation="s2", address="s2:9100"),
            ]
        },
        {
            ("TargetFileRefused", "2m"): Said(
                "The target file is refused in its present form",
                "Since 1970-01-01 00:00:00 +0000 UTC the dispatcher or "
                "Prometheus keeps the targets that it had before: 2 and 2. The dispatcher's "
                "/readyz and log, "
                'and Prometheus\'s log ("Error reading file"), say what is wrong with the file.',
            )
        },
    ),
)
