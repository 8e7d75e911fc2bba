"""The page in Debian's Chromium: what it shows, and what can be done there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, Route, expect

from api import auth
from api.firing import Firing, Observed
from grid import controls, kinds, topology
from grid.amqp import Publication
from grid.events import ENDED, Event, State
from grid.messages import ChargeRequest
from tests.page.browser import PHONE, chromium, page_of
from tests.page.fed import FedApi
from tests.page.screenshots import FEW, MANY, STALE, served

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "the-depots-key"
KEYS = auth.parse_keys(f"depot operator {sha256(KEY.encode()).hexdigest()}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


def fed(seconds: int = 40, rate: float = 0.9, **more: Any) -> FedApi:  # noqa: ANN401  # see FedApi
    """Return an api of three substations in which some time has passed."""
    api = FedApi(FEW, rate, **more)
    api.run(seconds)
    return api


async def live(page: Page) -> None:
    """Wait until a page shows what the api knows."""
    await expect(page.locator("#connection")).to_have_text("Live")
    await expect(page.locator("#rows tbody tr").first).to_be_visible()


async def check_accessible(page: Page) -> None:
    """Check that axe finds nothing."""
    found = (await Axe().run(page)).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []


async def check_no_overflow(page: Page) -> None:
    """Check that nothing is wider than the page."""
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_page_is_accessible_and_loads_nothing_from_elsewhere(browser: Browser) -> None:
    """Axe finds nothing in light and dark, on a phone, with a job open or an alert shown."""
    api = fed()
    api.broken["substation2"] = STALE
    api.park("poison: it was delivered 5 times")
    api.run(2)
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        await expect(page.locator("[data-alert]")).to_have_count(2)
        await check_accessible(page)
        await page.locator("#jobs tr[data-state=charging] button.name").first.click()
        await expect(page.locator(".candidates tbody tr")).to_have_count(3)
        await check_accessible(page)
        await page.emulate_media(color_scheme="dark")
        await check_accessible(page)
        await page.keyboard.press("Escape")
        await page.set_viewport_size(PHONE)  # type: ignore[arg-type]  # a TypedDict of two
        await check_no_overflow(page)
        await check_accessible(page)


async def test_page_shows_each_substation_and_what_is_wrong_with_it(browser: Browser) -> None:
    """State and reason are in words; alerts say what to do; a filter and the legend pick rows."""
    api = fed()
    api.drained.add("substation1")
    api.broken["substation2"] = STALE
    api.run(1)
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        rows = page.locator("#rows tbody tr")
        await expect(rows.nth(0)).to_contain_text("drain")
        await expect(rows.nth(1)).to_contain_text("not eligible")
        await expect(rows.nth(1)).to_contain_text(STALE)
        await expect(rows.nth(2)).to_contain_text("available")
        alert = page.locator("[data-alert=SubstationIneligible]")
        await expect(alert).to_contain_text(f"substation2 cannot be used: {STALE}")
        await expect(alert).to_contain_text("Check the substation")
        await page.locator("#legend button[data-kind=problem]").click()
        await expect(rows).to_have_count(1)
        await page.locator("#legend button[data-kind=problem]").click()
        await page.locator("#row-filter").fill("substation3")
        await expect(rows).to_have_count(1)
        await page.locator("#row-filter").fill("nothing like it")
        await expect(page.locator("#no-rows")).to_have_text("No substation matches.")


async def test_page_leads_from_an_alert_to_what_is_parked_and_why(browser: Browser) -> None:
    """However many jobs came since; from there it is replayed."""
    api = FedApi(FEW, 4)
    api.run(1)
    job = api.park("poison: it was delivered 5 times")
    api.run(60)
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        alert = page.locator("[data-alert=RequestsParked]")
        await expect(alert).to_contain_text("1 request is parked")
        await alert.get_by_role("button", name="Show them").click()
        row = page.locator("#jobs tbody tr")
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text("poison")
        await row.locator("button.name").click()
        await expect(page.locator("#job-dialog")).to_contain_text("poison")
        none = "There is none: it was sent to no substation."
        await expect(page.locator("#job-dialog")).to_contain_text(none)
        asked: list[Any] = []

        async def answer(route: Route) -> None:
            asked.append(route.request.post_data_json)
            if len(asked) == 1:
                refused = [{"id": job, "reason": "it has a field that nobody knows"}]
                await route.fulfill(json={"done": [], "missing": [], "refused": refused})
            else:
                await route.fulfill(json={"done": [job], "missing": [], "refused": []})

        await page.route("**/parked/replay", answer)
        await page.reload()
        await page.get_by_role("button", name="Replay this job").click()
        refused = "0 jobs replayed, 1 refused: it has a field that nobody knows."
        await expect(page.locator(".toast")).to_have_text(refused)
        await page.get_by_role("button", name="Replay this job").click()
        await expect(page.locator(".toast")).to_have_text("1 job replayed.")
        assert asked == [{"ids": [job]}] * 2


async def test_page_links_an_alert_to_the_runbook_that_the_api_serves(browser: Browser) -> None:
    """As the alerts name it unless they are told where else it is."""
    api = fed()
    text = {"summary": "Decisions are lost", "description": "", "severity": "warning"}
    place = "docs/runbook.md#eventslost"
    api.bench.observed = Observed([Firing("EventsLost", "", **text, since=None, runbook=place)])
    api.run(1)
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        link = page.locator("[data-alert]").get_by_role("link", name="Runbook")
        assert await link.get_attribute("href") == "/docs/runbook#eventslost"


async def test_substations_fit_a_window_of_1200_pixels(browser: Browser) -> None:
    """With the button Limit, which is in the last column."""
    api = fed()
    api.run(1)
    async with served(api), page_of(browser, api.bench.port) as page:
        await page.set_viewport_size({"width": 1200, "height": 900})
        await live(page)
        fits = "(each) => each.scrollWidth <= each.clientWidth"
        assert await page.get_by_role("region", name="Table of substations").evaluate(fits)


async def test_page_shows_what_fires_in_prometheus_and_what_to_do(browser: Browser) -> None:
    """Once for what the api knows itself; that Prometheus cannot be asked is shown, too."""
    api = fed()
    api.park("poison: it was delivered 5 times")
    runbook = "https://runbooks.example/lost"
    lost = {"job": "", "severity": "critical", "description": "See the dispatcher's log."}
    since = api.bench.at - 60
    api.bench.observed = Observed(
        [
            Firing(
                "EventsLost", **lost, summary="Decisions are lost", since=since, runbook=runbook
            ),
            Firing("RequestsParked", **lost, summary="1 messages", since=None, runbook=None),
            Firing("Script", **lost, summary="A", since=None, runbook="javascript:alert(1)"),
        ]
    )
    api.run(1)
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        alerts = page.locator("[data-alert]")
        await expect(alerts).to_have_count(3)
        await expect(alerts.first).to_contain_text("Decisions are lost See the dispatcher's log.")
        await expect(alerts.first.locator(".since")).to_have_text(
            re.compile("Prometheus, since .+")
        )
        link = alerts.first.get_by_role("link", name="Runbook")
        assert await link.get_attribute("href") == runbook
        assert await link.get_attribute("rel") == "noopener noreferrer"
        await expect(alerts.nth(1)).to_contain_text("See javascript:alert(1)")
        await expect(alerts.nth(1).locator("a")).to_have_count(0)
        await expect(alerts.last).to_contain_text("1 request is parked")
        await expect(alerts.last.locator(".runbook")).to_be_empty()
        await expect(page.locator("#alert-count")).to_have_text("3 alerts")
        await check_accessible(page)
        await page.set_viewport_size(PHONE)  # type: ignore[arg-type]  # a TypedDict of two
        await check_no_overflow(page)
        api.bench.observed = Observed(problem="Connection refused")
        unreachable = page.locator("[data-alert=PrometheusUnreachable]")
        await expect(unreachable).to_contain_text("cannot be asked for its alerts: Connection")
        await expect(page.locator("[data-alert=EventsLost]")).to_have_count(0)


async def test_page_greys_what_is_old_when_the_dispatcher_is_silent(browser: Browser) -> None:
    """Three seconds after its last word an alert says so, and the rows are not known any more."""
    api = fed()
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        for _ in range(3):
            api.second_of_silence()
        await expect(page.locator("[data-alert=DispatcherSilent]")).to_contain_text("3 s")
        await expect(page.locator("body")).to_have_attribute("data-stale", "yes")
        await expect(page.locator("#rows tbody tr").first).to_contain_text("not known")
        await expect(page.locator("#as-of")).to_contain_text("Old")
        await check_accessible(page)
        await page.emulate_media(color_scheme="dark")
        await check_accessible(page)
        api.dispatches = True
        api.run(1)
        await expect(page.locator("[data-alert]")).to_have_count(0)
        await expect(page.locator("#rows tbody tr").first).to_contain_text("available")


async def test_page_drains_and_limits_with_the_operators_key(browser: Browser) -> None:
    """It asks for the key once, when the api wants one, and keeps it for this tab alone."""
    api = fed(keys=KEYS)
    async with (
        served(api),
        page_of(browser, api.bench.port, allow_errors=["status of 401"]) as page,
    ):
        await live(page)
        await page.get_by_role("button", name="Drain substation1").click()
        await page.locator("#key-input").fill(KEY)
        await page.keyboard.press("Enter")
        await expect(page.locator(".toast")).to_contain_text("substation1 is drained")
        await page.get_by_role("button", name="Limit substation2").click()
        await page.locator("#row-limit").fill("4")
        await page.get_by_role("button", name="Set limit").click()
        await expect(page.locator(".toast")).to_contain_text("at most 4 sessions")
        sent = api.bench.controls.to(topology.CONTROLS)[-1]
        (one, two) = controls.decode(sent.body).controls
        assert (one.substation, one.state, two.substation, two.limit) == (
            *("substation1", "draining"),
            *("substation2", 4),
        )
        assert await page.evaluate("localStorage.length + document.cookie.length") == 0


async def test_page_shows_power_limit_of_a_substation(browser: Browser) -> None:
    """In the row in full, and its power beside the limit instead of the rating."""
    api = fed()
    api.power_limits["substation2"] = 75.0
    api.run(1)
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        row = page.locator("#rows tbody tr").nth(1)
        await expect(row).to_contain_text("limited to 75 kW until 18:00 UTC by dso")
        await expect(row).to_contain_text("/ 75")
        await row.locator("button.name").click()
        await expect(page.locator("dialog[open]")).to_contain_text(
            "75 kW until 18:00 UTC by dso; 10 kW from 19:00 UTC by dso"
        )


async def test_page_of_a_closed_api_works_with_a_key(browser: Browser) -> None:
    """Without one it shows nothing but the question for it."""
    api = fed(keys=KEYS, closed=True)
    async with (
        served(api),
        page_of(browser, api.bench.port, allow_errors=["status of 401"]) as page,
    ):
        await page.locator("#key-input").fill(KEY)
        assert await page.locator("#rows tbody tr").count() == 0
        await page.keyboard.press("Enter")
        await live(page)
        await page.get_by_role("button", name="Send 1 request", exact=True).click()
        await expect(page.locator(".toast")).to_contain_text("Accepted: job job1")


async def test_page_sends_finds_and_opens_jobs(browser: Browser) -> None:
    """What is sent appears by itself; a search finds it by its vehicle; its end appears too."""
    api = fed()
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        await page.get_by_role("button", name="Send 10 requests").click()
        await expect(page.locator(".toast")).to_contain_text("10 requests are accepted")
        assert len(api.bench.publisher.to(topology.REQUESTS_EXCHANGE)) == 10
        await page.keyboard.press("/")
        await page.keyboard.type("try-")
        await expect(page.locator("#jobs tbody tr")).to_have_count(10)
        await page.locator("#jobs button.name").first.click()
        dialog = page.locator("#job-dialog")
        await expect(dialog).to_contain_text("it waits for a substation")
        job = (await dialog.locator("#job-dialog-title .mono").text_content()) or ""
        api.send(job, "substation2")
        await expect(dialog).to_contain_text("Sent to substation2")
        await expect(dialog.locator("[data-chosen]")).to_contain_text("chosen")
        await page.keyboard.press("Escape")
        await expect(page.locator("#jobs tbody tr[data-state=assigned]")).to_have_count(1)
        assert await page.evaluate("location.hash") == ""


async def test_page_shows_the_start_that_a_job_is_promised(browser: Browser) -> None:
    """And the nearest one where it is refused; a promise that comes later appears by itself."""
    api = fed()
    at = api.bench.at
    asked = {
        name: ChargeRequest(name, at, vehicle_id=name, earliest_start=at + 60, reserve=True)
        for name in ("granted", "refused")
    }
    api.bench.hear(*map(kinds.queued, asked.values()))
    api.bench.hear(
        kinds.refused("refused", at, kinds.Booking(asked["refused"], "substation3", at, at + 9)),
        Event(State.EXPIRED, at, "refused", reason="no start is promised to it"),
    )
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        dialog = page.locator("#job-dialog")
        await page.locator("#jobs button.name", has_text="refused").click()
        await expect(dialog).to_contain_text("The nearest that was free")
        await expect(dialog).to_contain_text("at substation3")
        await page.keyboard.press("Escape")
        await page.locator("#jobs button.name", has_text="granted").click()
        await expect(dialog).to_contain_text("Asked for a promised startyes")
        api.bench.hear(
            kinds.booked(kinds.Booking(asked["granted"], "substation2", at + 60, at + 99), at)
        )
        await expect(dialog).to_contain_text(re.compile("Its promised start: .* at substation2"))
        await expect(dialog).to_contain_text("its start at substation2 is promised for")
        await expect(dialog).to_contain_text("it is sent to its substation at its promised start")
        await expect(dialog).not_to_contain_text("Not decided yet")
        await check_accessible(page)
        nothing = kinds.Promise(granted=False, substation="", start=0.0)
        api.bench.hear(kinds.told("granted", at + 1, nothing, "its start could not be kept"))
        await expect(dialog).to_contain_text("promised another start as soon as there is one")


async def test_page_counts_a_wait_from_the_start_that_was_asked_for(browser: Browser) -> None:
    """Before, a job waits for nothing: by the list as it was, and by each change of it."""
    api = fed(rate=0)
    at = api.bench.at

    def begin(name: str, begins_at: float, *, reserve: bool) -> list[Event]:
        request = ChargeRequest(name, at, earliest_start=begins_at, reserve=reserve)
        booking = kinds.Booking(request, "substation2", begins_at, begins_at + 60)
        return [kinds.queued(request), *([kinds.booked(booking, at)] if reserve else ())]

    async def check(first: str, second: str) -> None:
        for name, wait in (("first", first), ("second", second)):
            row = page.locator("#jobs tbody tr", has_text=name)
            await expect(row.locator("td").nth(4)).to_have_text(wait)

    api.bench.hear(*begin("first", at + 600, reserve=False))
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        api.bench.hear(*begin("second", at + 600, reserve=True))
        await check("–", "–")
        row = page.locator("#jobs tbody tr", has_text="second")
        await expect(row).to_contain_text("its start at substation2 is promised for")
        api.bench.at = at + 602
        api.bench.feed.end_second([], "")
        await expect(row).to_contain_text(re.compile("its promised start, .*, is late"))
        for name, wait in (("first", 3), ("second", 5)):
            api.bench.hear(Event(State.CHARGING, at + 600 + wait, name, "substation2", 1))
        await check("3.0 s", "5.0 s")
        await page.reload()
        await check("3.0 s", "5.0 s")


async def test_page_shows_the_starts_that_are_promised_at_a_substation(browser: Browser) -> None:
    """In its row, and in its dialog."""
    api = fed()
    api.promised = {"substation2": (3, api.bench.at + 900), "substation3": (1, api.bench.at + 60)}
    api.run(1)
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        rows = page.locator("#rows tbody tr")
        words = re.compile(r"3 starts promised, the next at .*\d\d:\d\d:\d\d")
        await expect(rows.nth(0)).not_to_contain_text("promised")
        await expect(rows.nth(1)).to_contain_text(words)
        await expect(rows.nth(2)).to_contain_text("1 start promised, at ")
        await rows.nth(1).locator("button.name").click()
        await expect(page.locator("#row-dialog .facts")).to_contain_text(words)
        await check_accessible(page)


async def test_page_cancels_all_jobs_that_match_after_it_has_counted_them(
    browser: Browser,
) -> None:
    """There is no such button while the filter is empty."""
    api = fed()
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        button = page.locator("#job-bulk")
        await expect(button).to_be_hidden()
        await page.locator("#job-substation").select_option("substation2")
        await button.click()
        dialog = page.locator("#bulk-dialog")
        jobs = [
            each.id
            for each in api.bench.projection.after(None)
            if each.substation == "substation2" and each.status is State.CHARGING
        ]
        await check_accessible(page)
        await dialog.get_by_role("button", name=f"Cancel {len(jobs)} jobs").click()
        async with asyncio.timeout(10):
            for job in jobs:
                while not any(job.encode() in each.body for each in written(api)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                api.bench.hear(kinds.cancelled(job, api.bench.at))
        await expect(page.locator(".toast")).to_have_text(f"{len(jobs)} jobs cancelled.")
        assert len(written(api)) == len(jobs)


async def test_page_acts_on_the_jobs_that_its_table_shows(browser: Browser) -> None:
    """A part of a name in either case, in whatever state: the api finds what the table does."""
    api = fed()
    for vehicle in ("Depot 7", "depot 70", "bus 7"):
        job = f"of-{vehicle[0]}{len(vehicle)}"
        request = ChargeRequest(id=job, requested_at=api.bench.at, vehicle_id=vehicle)
        api.bench.hear(kinds.queued(request))
    api.run(60)
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        await page.locator("#job-search").fill("DEPOT 7")
        rows = page.locator("#jobs tbody tr")
        await expect(rows).to_have_count(2)
        await page.locator("#job-bulk").click()
        dialog = page.locator("#bulk-dialog")
        await expect(dialog).to_contain_text("with “DEPOT 7” in id or vehicle")
        await expect(dialog).to_contain_text("2 jobs waiting or charging, 0 parked.")
        await page.keyboard.press("Escape")
        for text, substation in (("van", ""), ("van-00", "substation1"), ("0", "substation3")):
            await page.locator("#job-search").fill(text)
            await page.locator("#job-substation").select_option(substation)
            count, shown = await api.bench.get(f"/charges?limit=1000&search={text}"), set()
            for job in count.body["charges"]:
                if substation in ("", job["substation"]):
                    shown.add(job["id"])
            assert 0 < len(shown) < 100
            await expect(rows).to_have_count(len(shown))
            names = await rows.locator("button.name").evaluate_all("all => all.map(e => e.title)")
            assert set(names) == shown
            await page.locator("#job-bulk").click()
            known = [api.bench.projection.get(job) for job in shown]
            still_open = [each is not None and each.status not in ENDED for each in known]
            said = re.compile(rf"^{sum(still_open)} jobs? waiting or charging")
            await expect(dialog.locator("p").first).to_have_text(said)
            await page.keyboard.press("Escape")


async def test_page_says_that_what_is_not_confirmed_may_be_accepted(browser: Browser) -> None:
    """Whoever sends again would charge twice as many vehicles."""
    api = fed()

    async def answer(route: Route) -> None:
        detail = {
            "detail": "RabbitMQ has not confirmed j1 within 5 s.",
            "code": "rabbitmq-unavailable",
        }
        await route.fulfill(status=503, json=detail)

    async with (
        served(api),
        page_of(browser, api.bench.port, allow_errors=["status of 503"]) as page,
    ):
        await live(page)
        await page.route("**/charges", answer)
        await page.get_by_role("button", name="Send 10 requests").click()
        toast = page.locator(".toast")
        await expect(toast).to_contain_text("Not confirmed: RabbitMQ has not confirmed j1")
        await expect(toast).to_contain_text("They may be accepted all the same: look for try-")


async def test_page_forgets_a_key_that_is_refused(browser: Browser) -> None:
    """Its button does not call it in use, and the next action asks for another."""
    api = fed(keys=KEYS)
    async with (
        served(api),
        page_of(browser, api.bench.port, allow_errors=["status of 401"]) as page,
    ):
        await live(page)
        drain = page.get_by_role("button", name="Drain substation1")
        await drain.click()
        await expect(page.locator("#key-why")).to_contain_text(".secrets/operator")
        await page.locator("#key-input").fill("a-wrong-key")
        await page.keyboard.press("Enter")
        await expect(page.locator(".toast")).to_contain_text("not one that this api knows")
        await drain.click()
        await page.locator("#key-input").fill(KEY)
        await page.keyboard.press("Enter")
        await expect(page.locator(".toast")).to_contain_text("substation1 is drained")


async def test_page_keeps_a_key_that_may_do_less_than_was_tried(browser: Browser) -> None:
    """It is of use for all else; without one, a search says that it needs one."""
    client = auth.parse_keys(f"fleet client {sha256(KEY.encode()).hexdigest()}")
    api = fed(keys=client, closed=True)
    meant = ["status of 401", "status of 403"]
    async with served(api), page_of(browser, api.bench.port, allow_errors=meant) as page:
        await page.locator("#key-input").fill(KEY)
        await page.keyboard.press("Enter")
        await live(page)
        for entered in (KEY, "a-wrong-key"):
            await page.get_by_role("button", name="Drain substation1").click()
            await expect(page.locator("#key-input")).to_have_value(KEY)
            await page.locator("#key-input").fill(entered)
            await page.keyboard.press("Enter")
            await expect(page.locator(".toast.bad")).to_be_visible()
            await expect(page.locator("#key")).to_have_text("Key in use")
        await page.locator("#job-state").select_option("completed")
        await expect(page.locator("#jobs tbody tr").first).to_be_visible()
        await page.locator("#key").click()
        await page.get_by_role("button", name="Forget it").click()
        await page.locator("#job-search").fill("nothing like it")
        await expect(page.locator(".toast")).to_contain_text("A key is needed to search")
        await expect(page.locator("#no-jobs")).to_contain_text("A key is needed to search")


async def test_page_discards_a_job_after_a_second_press_and_not_by_a_double_click(
    browser: Browser,
) -> None:
    """There is no way back."""
    api = fed()
    api.park("poison: it was delivered 5 times")
    asked: list[Any] = []

    async def answer(route: Route) -> None:
        asked.append(route.request.post_data_json)
        await route.fulfill(json={"done": ["x"], "missing": [], "refused": []})

    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        await page.route("**/parked/discard", answer)
        await page.locator("#jobs tr[data-state=parked] button.name").click()
        button = page.get_by_role("button", name="Discard it")
        await button.evaluate("each => { each.click(); each.click(); }")
        await expect(button).to_have_text("Discard it for good")
        await check_accessible(page)
        assert asked == []
        await button.click()  # once it is enabled
        await expect(page.locator(".toast")).to_have_text("1 job discarded.")
        assert len(asked) == 1


async def test_page_acts_on_no_job_where_nothing_can_be_done_with_the_filter(
    browser: Browser,
) -> None:
    """The button may be pressed a moment before it is hidden: that must not mean all jobs."""
    api = fed()
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        await page.locator("#job-state").select_option("charging")
        await expect(page.locator("#job-bulk")).to_be_visible()
        await page.locator("#job-state").evaluate("each => { each.value = 'completed'; }")
        await page.locator("#job-bulk").evaluate("each => each.click()")
        dialog = page.locator("#bulk-dialog")
        await expect(dialog).to_contain_text("0 jobs waiting or charging, 0 parked.")
        await expect(dialog.get_by_role("button")).to_have_count(1)


async def test_page_lists_first_what_changed_last_from_its_beginning(browser: Browser) -> None:
    """Not what was requested last: a snapshot is sorted as changes are."""
    api = fed()
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        cells = page.locator("#jobs tbody tr td.time")
        await expect(cells).not_to_have_count(0)
        times = await cells.all_text_contents()
        assert len(times) > 10
        assert times == sorted(times, reverse=True)


async def test_page_stops_cancelling_where_the_api_wants_no_requests(browser: Browser) -> None:
    """It waits as long as it is told; if that does not help, it says how many it cancelled."""
    api = fed()
    allowed, asked = [2], [0]

    async def answer(route: Route) -> None:
        asked[0] += 1
        if allowed[0]:
            allowed[0] -= 1
            await route.fulfill(json={"status": "cancelled"})
        else:
            detail = {"detail": "RabbitMQ is away."}
            await route.fulfill(status=503, headers={"Retry-After": "1"}, json=detail)

    async with (
        served(api),
        page_of(browser, api.bench.port, allow_errors=["status of 503"]) as page,
    ):
        await live(page)
        await page.route("**/charge/*", answer)
        await page.locator("#job-substation").select_option("substation2")
        await page.locator("#job-bulk").click()
        dialog = page.locator("#bulk-dialog")
        button = dialog.get_by_role("button", name="Cancel")
        jobs = int(re.findall(r"\d+", await button.text_content() or "")[0])
        await button.click()
        said = f"2 jobs cancelled, {jobs - 2} left. Stopped: RabbitMQ is away."
        await expect(dialog.locator(".progress")).to_have_text(said, timeout=15_000)
        assert asked[0] <= 2 + 6 * 4
        await button.click()
        await page.wait_for_timeout(500)
        allowed[0] = jobs
        await expect(page.locator(".toast")).to_have_text(f"{jobs} jobs cancelled.", timeout=15_000)


def written(api: FedApi) -> list[Publication]:
    """Return the cancellations that were written."""
    return api.bench.publisher.to(topology.CANCELLATIONS_EXCHANGE)


async def test_page_continues_after_the_connection_was_lost(browser: Browser) -> None:
    """It says so meanwhile, and then asks for what it missed, not for everything again."""
    api = fed()
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        async with page.expect_request("**/events") as asked:
            api.bench.feed.end()
        assert (await (await asked.value).all_headers())["last-event-id"] == str(api.bench.offset)
        await expect(page.locator("#connection")).to_have_text("Live")


async def test_page_shows_new_rows_while_one_has_the_focus(browser: Browser) -> None:
    """A job that was opened and closed keeps the focus, also where it is none of the last 100."""
    api = fed()
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        opened = page.locator("#jobs button.name").first
        name = await opened.text_content()
        await opened.click()
        await expect(page.locator("#job-dialog")).to_be_visible()
        await page.keyboard.press("Escape")
        rows = page.locator("#jobs tbody tr")
        for number in range(101):
            api.bench.log.record(api.new_request_event(f"new-{number}"))
        await expect(rows.first).to_contain_text("new-100")
        assert await page.evaluate("document.activeElement.textContent") == name
        await expect(rows).to_have_count(101)
        await page.locator("#job-search").focus()
        await expect(rows).to_have_count(100)
        await page.get_by_role("button", name="Drain substation2").focus()
        api.drained.add("substation1")
        api.second()
        await page.locator("#rows th button", has_text="State").first.dispatch_event("click")
        table = page.locator("#rows tbody tr")
        await expect(table.last).to_contain_text("substation1")
        label = "document.activeElement.getAttribute('aria-label')"
        assert await page.evaluate(label) == "Drain substation2"


async def test_page_waits_until_the_api_has_read_the_event_log(browser: Browser) -> None:
    """It says so, and how far that is; comes back by itself, and knows what the api can do."""
    api = fed()
    api.bench.log.caught_up.clear()
    api.run(1)
    async with (
        served(api),
        page_of(browser, api.bench.port, allow_errors=["status of 503"]) as page,
    ):
        await expect(page.locator("#connection")).to_contain_text("event log")
        alert = page.locator("[data-alert]")
        await expect(alert).to_have_attribute("data-alert", "ApiStarting")
        said = "The api is starting: the event log is still being read (2 messages so far"
        await expect(alert).to_contain_text(said)
        api.run(1)
        await expect(alert).to_contain_text("messages so far, the last one of 2026-01-01 00:00:42")
        api.bench.problems = ["RabbitMQ link api-events is down"]
        await expect(alert).to_contain_text("RabbitMQ link api-events is down; the event log")
        await check_accessible(page)
        api.bench.problems = []
        api.bench.log.caught_up.set()
        await live(page)
        await expect(alert).to_have_count(0)
        await page.locator("#jobs tr[data-state=charging] button.name").first.click()
        await expect(page.get_by_role("button", name="Cancel this job")).to_be_visible()


async def test_page_says_why_an_api_that_answers_does_not_serve_it(browser: Browser) -> None:
    """And not that it does not answer."""
    api = fed()
    refusal = {"detail": "200 clients follow GET /events. Try again after 1 s."}
    async with (
        served(api),
        page_of(browser, api.bench.port, allow_errors=["status of 503"]) as page,
    ):
        await live(page)
        await page.route("**/events", lambda route: route.fulfill(status=503, json=refusal))
        api.bench.feed.end()
        alert = page.locator("[data-alert=ApiRefuses]")
        await expect(alert).to_contain_text("serve this page: 200 clients follow GET /events. All")
        await check_accessible(page)
        await page.unroute("**/events")
        await live(page)


async def test_page_stays_usable_with_300_substations_and_500_events_a_second(
    browser: Browser,
) -> None:
    """The newest job is shown within a second, few rows are drawn, and a filter answers at once."""
    api = FedApi(MANY, 170)  # and as many are assigned, and begin to charge
    api.run(3)
    async with served(api), page_of(browser, api.bench.port) as page:
        await live(page)
        for _ in range(4):
            api.second()
            await asyncio.sleep(0.3)
        api.bench.log.record(api.new_request_event("the-last-one"))
        await page.locator("#job-search").scroll_into_view_if_needed()
        await expect(page.locator("#jobs tbody tr").first).to_contain_text("the-last")
        assert await page.locator("#jobs tbody tr").count() == 100
        assert await page.locator("#rows tbody tr").count() == 300
        await page.locator("#row-filter").fill("airport")
        await expect(page.locator("#rows tbody tr")).to_have_count(50)
        await page.locator("#row-filter").fill("")
        await page.locator("#row-group").select_option("prefix")
        await expect(page.locator("#rows tr.group")).to_have_count(6)
