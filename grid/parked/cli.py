"""The command line of the tool: which messages are meant, and what to do with them."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from shutil import get_terminal_size
from typing import Final, TextIO

from grid.parked.queue import ParkedMessage, ParkedQueue
from grid.parked.text import FITTED_HEADING, HEADING, as_json, fitted, row, slug, whole
from grid.parking import Parked

MAX_LISTED: Final = 1_000
# Messages in progress at once: so many, or so large together. Of a channel's acknowledgements
# RabbitMQ passes on 32 and holds back the rest until it has caught up; closing drops those.
PAGE, PAGE_BYTES = 16, 4_000_000

Command = Callable[[argparse.Namespace, ParkedQueue, TextIO, TextIO], Awaitable[int]]
Act = Callable[[ParkedMessage], Awaitable[None]]


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; end the program if it is invalid."""
    parser = argparse.ArgumentParser(
        prog="python -m grid.parked",
        description="List, show, replay or discard the messages in charge.parked.",
        epilog="Messages are requeued when the command ends, perhaps in another order. Messages "
        "that another operator's command holds are not seen.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="list the messages, oldest first")
    listing.add_argument("--json", action="store_true", help="one JSON object per line")
    listing.add_argument(
        "--limit", type=_count, default=MAX_LISTED, help="0: all; default %(default)s"
    )
    _add_kind(listing)
    showing = commands.add_parser("show", help="show a message with its headers and body")
    showing.add_argument("ids", metavar="ID", nargs=1)
    replaying = commands.add_parser("replay", help="publish messages to charge.requests again")
    replaying.add_argument(
        "--force", action="store_true", help="also messages that are no valid request"
    )
    discarding = commands.add_parser("discard", help="discard messages for good")
    discarding.add_argument("--why", default="", help="the reason, recorded in the event log")
    discarding.add_argument(
        "--yes", action="store_true", help="discard; without it the messages are only listed"
    )
    for several in (replaying, discarding):
        several.add_argument("ids", metavar="ID", nargs="*")
        several.add_argument("--all", action="store_true")
        _add_kind(several)
    found = parser.parse_args(words)
    if found.command in ("replay", "discard") and bool(found.ids) == found.all:
        parser.error(f"{found.command}: give IDs or --all")
    return found


async def run(options: argparse.Namespace, queue: ParkedQueue, out: TextIO, err: TextIO) -> int:
    """Run a command; return the exit status: 1 if a message that was named could not be handled.

    Raise ``BrokerUnavailable``; what was done until then is printed, the rest is unchanged.
    """
    async with queue.open():
        return await COMMANDS[options.command](options, queue, out, err)


async def _list(options: argparse.Namespace, queue: ParkedQueue, out: TextIO, err: TextIO) -> int:
    count = 0
    width = get_terminal_size().columns if out.isatty() else None
    if not options.json:
        _say(out, HEADING if width is None else FITTED_HEADING)
    async for message in queue.messages():
        if not _is_meant(options, message.parked):
            continue
        count += 1
        if options.limit and count > options.limit:
            _say(err, f"more messages: only --limit {options.limit} are shown")
            break
        if options.json:
            _say(out, as_json(message.parked))
        else:
            _say(out, row(message.parked) if width is None else fitted(message.parked, width))
    return 0


async def _show(options: argparse.Namespace, queue: ParkedQueue, out: TextIO, err: TextIO) -> int:
    found = 0
    async for message in queue.messages():
        if _is_meant(options, message.parked):
            found += 1
            _say(out, whole(message.parked))
    return 0 if found else _missing(options.ids, err)


async def _replay(options: argparse.Namespace, queue: ParkedQueue, out: TextIO, err: TextIO) -> int:
    def refuse(message: ParkedMessage) -> str | None:
        problem = None if options.force else message.problem
        return problem and f"it would be parked again (--force replays it anyway): {problem}"

    return await _settle(options, queue, out, err, act=queue.replay, done="replayed", refuse=refuse)


async def _discard(
    options: argparse.Namespace, queue: ParkedQueue, out: TextIO, err: TextIO
) -> int:
    async def act(message: ParkedMessage) -> None:
        await queue.discard(message, options.why)

    def refuse(_: ParkedMessage) -> str | None:
        return None if options.yes else "add --yes to discard it"

    return await _settle(options, queue, out, err, act=act, done="discarded", refuse=refuse)


COMMANDS: Final[dict[str, Command]] = {
    "list": _list,
    "show": _show,
    "replay": _replay,
    "discard": _discard,
}


async def _settle(
    options: argparse.Namespace,
    queue: ParkedQueue,
    out: TextIO,
    err: TextIO,
    *,
    act: Act,
    done: str,
    refuse: Callable[[ParkedMessage], str | None],
) -> int:
    """Apply an action to every message that is meant, to some of them at once."""
    seen: set[str] = set()
    refused = 0
    page: list[ParkedMessage] = []
    async for message in queue.messages():
        if not _is_meant(options, message.parked):
            continue
        seen.update({message.parked.id} & set(options.ids))
        if (why := refuse(message)) is not None:
            refused += 1
            _say(err, f"not {done}  {message.parked.id}: {why}")
            continue
        page.append(message)
        if len(page) >= PAGE or sum(len(each.parked.body) for each in page) >= PAGE_BYTES:
            await _do(page, act, done, out)
            page = []
    await _do(page, act, done, out)
    missing = [each for each in options.ids if each not in seen]
    return _missing(missing, err) if missing else min(refused, 1)


async def _do(page: Sequence[ParkedMessage], act: Act, done: str, out: TextIO) -> None:
    """Apply an action to some messages at once; print which succeeded, then raise any error."""
    results = await asyncio.gather(*map(act, page), return_exceptions=True)
    for message, result in zip(page, results, strict=True):
        if result is None:
            _say(out, f"{done}  {message.parked.id}")
    for result in results:
        if result is not None:
            raise result


def _is_meant(options: argparse.Namespace, parked: Parked) -> bool:
    ids, kind = getattr(options, "ids", []), getattr(options, "reason", None)
    return (not ids or parked.id in ids) and kind in (None, slug(parked.kind))


def _missing(ids: Sequence[str], err: TextIO) -> int:
    for each in ids:
        _say(err, f"not in charge.parked, or held by another operator's command: {each}")
    return 1


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reason",
        type=slug,
        metavar="KIND",
        help="only messages parked for this kind of reason, as `list` shows it",
    )


def _count(word: str) -> int:
    count = int(word)
    if count < 0:
        raise ValueError(word)
    return count


def _say(where: TextIO, text: str) -> None:
    where.write(text + "\n")
    where.flush()
