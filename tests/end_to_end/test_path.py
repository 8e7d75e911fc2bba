from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.broker import VirtualHost
from tests.pages import page_cut_down
from tests.ports import free_ports
from tests.system import QUICK, System

pytestmark = pytest.mark.e2e


def test_a_request_is_routed_charged_and_explained(vhost: VirtualHost, tmp_path: Path) -> None:
    """A request without a body names its substation at once, is completed, and says why there."""
    with System(vhost, tmp_path, environment=QUICK) as system:
        status, answer = system.post()
        assert status == 202, answer
        assert answer["details"]["routed_to"] in system.substations
        assert answer["details"]["loads"] == dict.fromkeys(system.substations, 0.0)
        job = system.wait_completed({answer["id"]})[0]
        assert list(job["times"]) == ["queued", "assigned", "charging", "completed"]
        assert job["substation"] == answer["details"]["routed_to"]
        _, full = system.get("api", f"/charge/{answer['id']}")
        assert len(full["decision"]["candidates"]) == 3


def test_a_new_api_knows_what_the_old_one_knew(vhost: VirtualHost, tmp_path: Path) -> None:
    """An api killed and started again shows the same jobs: it rebuilds them from the event log."""
    with System(vhost, tmp_path, environment=QUICK) as system:
        ids = {system.post()[1]["id"] for _ in range(5)}
        before = system.wait_completed(ids)
        system.kill("api")
        system.start("api")
        system.wait_ready("api")
        assert [each for each in system.all_charges() if each["id"] in ids] == before


def test_a_burst_between_two_scrapes_spreads_evenly(vhost: VirtualHost, tmp_path: Path) -> None:
    """Of 300 requests within a scrape interval, three substations get 100 each, within one."""
    slow_scrapes = {
        "SCRAPE_PERIOD_SECONDS": "20",
        "STALE_AFTER_SECONDS": "60",
        "CONNECTORS": "150",
        "RATED_POWER_KW": "2000",
        "CHARGE_SECONDS_MIN": "30",
        "CHARGE_SECONDS_MAX": "30",
        "GRACE_SECONDS": "0",
    }
    with System(vhost, tmp_path, environment=slow_scrapes) as system:
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: system.post(), range(300)))
        share = Counter(answer["details"]["routed_to"] for _, answer in answers)
        assert set(share) == set(system.substations), share
        assert max(share.values()) - min(share.values()) <= 1, share


def test_requests_wait_centrally_when_all_is_full(vhost: VirtualHost, tmp_path: Path) -> None:
    """More jobs than connectors wait in charge.requests; a substation gets at most one ahead."""
    few = {"CONNECTORS": "2", "CHARGE_SECONDS_MIN": "0.4", "CHARGE_SECONDS_MAX": "0.5"}
    with System(vhost, tmp_path, environment=few) as system:
        status, answer = system.post([{}] * 20, path="/charges")
        assert status == 202, answer
        jobs = system.wait_completed({job["id"] for job in answer["jobs"]})
        for name in system.substations:
            there = [job["times"] for job in jobs if job["substation"] == name]
            assert most_at_once(there, "charging") <= 2, (name, there)
            assert most_at_once(there, "assigned") <= 2 + 1, (name, there)


def most_at_once(jobs: list[dict[str, str]], since: str) -> int:
    """Return how many jobs were between that state and their completion at once."""
    return max(
        sum(each[since] <= other[since] < each["completed"] for each in jobs) for other in jobs
    )


def test_a_substation_is_added_without_a_restart(vhost: VirtualHost, tmp_path: Path) -> None:
    """A line added to the target file brings jobs to a new substation within 5 s."""
    with System(vhost, tmp_path, environment=QUICK) as system:
        system.substations.append("another")
        system.ports["another"] = free_ports(1)[0]
        system.start("another")
        system.write_targets(system.substations)
        system.until(
            lambda: system.post()[1]["details"]["routed_to"] == "another", "it gets a job", 5
        )


def test_a_substation_with_nothing_but_a_load_works(vhost: VirtualHost, tmp_path: Path) -> None:
    """A page with only ev_charging_load is enough to be sent jobs, and not too many."""
    with (
        System(vhost, tmp_path, substations=2, environment=QUICK) as system,
        page_cut_down(system.ports["substation2"], "ev_charging_load ") as (port, served),
    ):
        system.write_targets(system.substations, {"substation2": port})
        system.until(served.is_set, "the page is scraped")
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: system.post(), range(40)))
        jobs = system.wait_completed({answer["id"] for _, answer in answers})
        share = Counter(job["substation"] for job in jobs)
        assert min(share[name] for name in system.substations) >= 10, share
