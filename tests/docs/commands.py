"""The shell commands of the documentation, as a reader finds them: in fenced blocks.

A block of ``console`` has commands behind ``$``, each with what it prints, where … stands for
anything; a block of ``bash`` has commands alone. A block with a title is a file of that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
LAST: Final = ROOT / "docs" / "how-to" / "run-it.md"  # it ends with removing everything
ELSEWHERE: Final = "it names another machine; the tests start the same services beside each other"
DOCKER: Final = "it needs a Docker engine: tests/deploy/test_compose.py tests the file"
COLLECTOR: Final = "it needs a Docker engine: tests/end_to_end/test_spans.py has a collector"
FOLLOWS: Final = (
    "make logs"  # until it is ended, without FOLLOW=0; it and `make status` are tried once a page
)
ONCE: Final = (FOLLOWS, "make status")
SESSIONS: Final = "a table of sessions stands for the reader's own: tests/load_test has some"
PARKED: Final = "ID stands for a parked message: tests/deploy and tests/grid have some"

# Every command that is not run as it stands, and why. Nothing else is left out.
NOT_RUN: Final[Mapping[str, str]] = {
    "docker compose -f deploy/docker-compose.yml up": DOCKER,
    "docker compose -f deploy/docker-compose.yml exec rabbitmq rabbitmqctl list_queues name "
    "messages consumers": DOCKER,
    "docker run --rm --detach --name jaeger -p 127.0.0.1:4318:4318 -p 127.0.0.1:16686:16686 "
    "jaegertracing/jaeger:2.10.0": COLLECTOR,
    "docker network connect smart-grid_core jaeger": COLLECTOR,
    "docker network connect smart-grid_substations jaeger": COLLECTOR,
    "AMQP_URL=amqp://admin:…@rabbit.example:5672/ python -m grid declare": ELSEWHERE,
    "AMQP_URL=amqps://rabbit.example:5671/ AMQP_CA_FILE=ca.pem AMQP_USER=substation.north "
    "AMQP_PASSWORD_FILE=… HTTP_HOST=0.0.0.0 SUBSTATION_ID=north python -m substation": ELSEWHERE,
    "AMQP_URL=… AMQP_USER=dispatcher AMQP_PASSWORD_FILE=… SUBSTATIONS_FILE=substations.json "
    "python -m dispatcher": ELSEWHERE,
    "AMQP_URL=… AMQP_USER=api AMQP_PASSWORD_FILE=… API_KEYS_FILE=keys HTTP_HOST=0.0.0.0 "
    "python -m api": ELSEWHERE,
    "python -m load_test replay sessions.csv.gz --speed 3600 --quiet": SESSIONS,
    "python -m load_test replay depot.csv --columns arrival=came,departure=left,energy=kwh": (
        SESSIONS
    ),
    "python -m load_test replay sessions.csv.gz --charge-speed 1 --stretch 0.05 --virtual 3x10": (
        SESSIONS
    ),
    "python -m load_test replay sessions.csv.gz --virtual 30 --utilisation 0.9,1.1,1.3": SESSIONS,
    "python -m load_test replay sessions.csv.gz --virtual 3x10 --order deadline,fifo "
    "--json orders.json": SESSIONS,
    'make parked ARGS="show ID"': PARKED,
    'make parked ARGS="replay ID"': PARKED,
    'make parked ARGS="discard ID --yes"': PARKED,
}
SHORTER: Final = "sed 's/seconds: 120/seconds: 5/' rush-hour.yaml >short.yaml &&"
# What is run instead: the same for a shorter time, or with an answer to what it would ask.
INSTEAD: Final[Mapping[str, str]] = {
    "make load": 'make load ARGS="--rate 20"',
    "make demo": 'make demo ARGS="--speed 4"',
    "make clean": "make clean YES=1",
    "curl -N 'localhost:7000/events?state=charging,completed'": (
        "curl -N --max-time 2 'localhost:7000/events?state=charging,completed' || [ $? = 28 ]"
    ),
    "python -m load_test flood": "python -m load_test flood --jobs 300",
    "python -m load_test flood --departures --session 2000-5000": (
        "python -m load_test flood --departures --session 2000-5000 --jobs 300"
    ),
    "python -m load_test --requests 200 --rate 10": "python -m load_test --requests 100 --rate 50",
    "python -m load_test --file rush-hour.yaml --quiet": (
        f"{SHORTER} python -m load_test --file short.yaml --quiet"
    ),
    "python -m load_test --file rush-hour.yaml --quiet --report before": (
        f"{SHORTER} python -m load_test --file short.yaml --quiet --report before"
    ),
    "python -m load_test compare before/run.json after/run.json": (
        "cp -r before after && python -m load_test compare before/run.json after/run.json"
    ),
    "python -m load_test --schedule rush-hour --rate 20 --peak-rate 60 --seconds 120 --quiet "
    "--report hour": (
        "python -m load_test --schedule rush-hour --rate 20 --peak-rate 60 --seconds 5 --quiet "
        "--report hour"
    ),
    # a run of some seconds is too short to be compared within 2 %
    "python -m load_test whatif hour/run.json --check 2": (
        "python -m load_test whatif hour/run.json"
    ),
    "make simulate": 'make simulate ARGS="-n 300"',
    'make simulate ARGS="-n 60000"': 'make simulate ARGS="-n 400"',
    'make simulate ARGS="--connectors 3x10 --session 2-5 --utilisation 0.98"': (
        'make simulate ARGS="--connectors 3x10 --session 2-5 --utilisation 0.98 -n 300"'
    ),
    'make simulate ARGS="--png figure.png --json results.json"': (
        'make simulate ARGS="--png figure.png --json results.json -n 300"'
    ),
}
_FENCE: Final = re.compile(
    r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
_CONSOLE: Final = re.compile(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", re.DOTALL)
_COMMENT: Final = re.compile(r"\s+# .*$|^# .*$")


class Block(NamedTuple):
    """A fenced block; ``title`` is empty unless it is a file."""

    kind: str
    title: str
    text: str


class Command(NamedTuple):
    """A command; ``expected`` is what it prints, empty if the page does not say."""

    text: str
    expected: str

    @property
    def plain(self) -> str:
        """Return the command in one line and without its remark."""
        joined = re.sub(r"\s*\\\n\s*", " ", self.text)
        return _COMMENT.sub("", joined).strip()


def pages() -> list[Path]:
    """Return the pages with commands, in the order in which they are tried."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    with_commands = [page for page in found if commands(page) and page != LAST]
    return [*with_commands, LAST]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [Block(*each) for each in _FENCE.findall(page.read_text(encoding="utf-8"))]


def commands(page: Path) -> list[Command]:
    """Return the commands of a page, in their order."""
    return [command for block in blocks(page) for command in _of(block)]


def to_run(page: Path) -> list[Command]:
    """Return the commands of a page that are run."""
    found = [each for each in commands(page) if each.plain not in NOT_RUN]
    before = [{each.plain for each in found[:number]} for number in range(len(found))]
    return [
        each
        for each, seen in zip(found, before, strict=True)
        if not (each.plain in seen and each.plain.startswith(ONCE))
    ]


def as_run(command: Command) -> str:
    """Return what is run for a command: itself, or the same for a shorter time."""
    if command.plain.startswith(FOLLOWS) and "FOLLOW=0" not in command.plain:
        return f"timeout 3 {command.plain} || [ $? = 124 ]"
    return INSTEAD.get(command.plain, command.text)


def _of(block: Block) -> Iterator[Command]:
    if block.kind == "console":
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            text, expected = _CONSOLE.fullmatch(part).groups()  # type: ignore[union-attr]
            yield Command(text, expected.strip())
    elif block.kind == "bash":
        for text in re.findall(r"(?:.*\\\n)*.*\n", block.text):
            command = Command(text.rstrip(), "")
            if command.plain:
                yield command


def pattern(expected: str) -> re.Pattern[str]:
    """Return the pattern of what a command prints, where … stands for anything.

    Alone in a line it stands for any lines, also for none.
    """
    whole = re.sub(r"^…\n", "…", expected, flags=re.MULTILINE)
    parts = (re.escape(part) for part in whole.split("…"))
    return re.compile(".*?".join(parts), re.DOTALL)
