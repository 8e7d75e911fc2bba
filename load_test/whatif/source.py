"""Where recorded jobs come from: the running api, its export, or the JSON of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from grid.errors import ConfigurationError
from load_test.client import Api
from load_test.files import text_of
from load_test.records import Job, Substation
from load_test.report.run_file import decode
from load_test.simulate.scenario import Site
from load_test.whatif import export

JSON: Final = ".json"


class Recording(NamedTuple):
    """Jobs as the event log has them, and the substations; none where the source has none.

    ``speed`` is how many seconds passed for the vehicles in one.
    """

    jobs: list[Job]
    substations: Sequence[Substation]
    speed: float = 1.0


async def of_api(url: str, key: str | None, query: Mapping[str, str]) -> Recording:
    """Return what the api knows; ``query`` is that of ``GET /charges``."""
    jobs: list[Job] = []
    async with Api(url, key=key) as api:
        after: str | None = None
        while True:
            page, following = await api.jobs(after=after, **query)
            jobs += page
            if following is None or following == after:
                return Recording(jobs, await api.substations())
            after = following


def of_file(path: Path) -> Recording:
    """Return what a file holds: the JSON of a run, or an export as CSV, plain or gzipped.

    Raise ``ConfigurationError`` that names the file.
    """
    try:
        text = text_of(path)
        if path.suffix != JSON:
            return Recording(export.read(text), ())
        run = decode(text.encode())
        return Recording(list(run.jobs), run.sites(), run.speed)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def sites(substations: Sequence[Substation], jobs: Sequence[Job]) -> list[Site]:
    """Return the substations that have connectors and are eligible or have had any of the jobs.

    Raise ``ConfigurationError`` if nobody says how many connectors one has.
    """
    used = {each.substation for each in jobs if each.substation is not None}
    found = [each for each in substations if each.eligible or each.id in used]
    known = {each.id for each in found if each.connectors}
    if unknown := sorted((used | {each.id for each in found}) - known):
        raise ConfigurationError(
            f"how many connectors {unknown[0]} had is not known: give --connectors-were "
            f"{unknown[0]}=N, or N for all"
        )
    return [
        Site(
            each.id,
            int(each.connectors or 0),
            each.rated_power_kw,
            each.background_power_kw,
            None if each.limit is None else int(each.limit),
        )
        for each in found
    ]
