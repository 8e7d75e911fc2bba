"""What each substation has in hand, now. Pure: time is an argument, in seconds of one clock.

A gauge is old the moment it is read. What is true now is

    load = sessions in progress + dispatched − taken

where sessions and taken (accepted, and second copies) are the substation's own counters of one
instant, and dispatched is counted here on the same scale. The counters come with every scrape and
with every event the substation writes; the newer ones hold, so an event that is lost or read twice
does no harm. The scale is set once for each run of a substation or dispatcher: while nothing is
sent there, what was ever dispatched is what was taken and what still waits in the queue. Should
more be taken than was counted (a broken link sent a job twice, or the broker held jobs back for a
consumer that was gone), then what was taken is what was dispatched.
A substation without counters is taken at its gauge, plus what was sent since that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dispatcher.readings import Reading
from grid.events import Counts

DOUBT_SECONDS = 5.0  # jobs that are on their way for so long may be gone from the queue
NO_READING = "its load has not been read yet"
NO_CONSUMER = "nobody takes the jobs in its queue"
NO_ANCHOR = "what waits in its queue is not known yet"


@dataclass(slots=True)
class Depth:
    """How many jobs waited in a queue, between a count of what was taken and a time."""

    taken_before: float
    ready: float | None = None
    known_at: float = 0.0


@dataclass(slots=True)
class Account:
    """One substation's line in the ledger.

    ``in_file`` is how many connectors it has where its page does not say.
    """

    substation: str
    in_file: float
    connectors: float
    gauge: float = 0.0
    read_at: float | None = None
    problem: str | None = NO_READING
    counts: Counts | None = None
    anchored: bool = False
    depth: Depth | None = None
    dispatched: float = 0.0
    sent_at: list[float] = field(default_factory=list)
    ready: float = 0.0  # in its queue, where it has no counters
    unserved: bool = False  # nobody takes jobs from that queue
    unmoved: tuple[float, float] = (0.0, 0.0)  # jobs outstanding, and since when just as many

    @property
    def outstanding(self) -> float:
        """Jobs sent there that its sessions do not show yet."""
        if self.counts is None:
            return max(self.ready, float(len(self.sent_at)))
        return max(0.0, self.dispatched - _taken(self.counts))

    @property
    def load(self) -> float:
        """Sessions in progress and jobs on their way, as of now."""
        return (self.gauge if self.counts is None else self.counts.load) + self.outstanding

    def age(self, now: float) -> float | None:
        """How long ago the gauge was asked for, in seconds; None if it never was."""
        return None if self.read_at is None else now - self.read_at


class Ledger:
    """The accounts of all substations.

    A gauge older than ``stale_after`` seconds makes its substation ineligible. A substation that
    does not say how many connectors it has is taken to have ``default_connectors``.
    """

    def __init__(self, stale_after: float, default_connectors: float) -> None:
        self._stale_after = stale_after
        self._default_connectors = default_connectors
        self.accounts: dict[str, Account] = {}

    def keep(self, connectors: dict[str, float | None]) -> None:
        """Have exactly these substations, with the connectors their target file names."""
        for gone in self.accounts.keys() - connectors.keys():
            del self.accounts[gone]
        for name, count in connectors.items():
            known = count or self._default_connectors
            self.accounts.setdefault(name, Account(name, known, known)).in_file = known

    def read(self, substation: str, reading: Reading, asked_at: float) -> None:
        """Take in a page that was asked for at ``asked_at``."""
        if (account := self.accounts.get(substation)) is None:
            return
        account.gauge, account.read_at, account.problem = reading.load, asked_at, None
        account.connectors = reading.connectors or account.in_file
        account.sent_at = [sent for sent in account.sent_at if sent >= asked_at]
        if reading.counts is None:
            account.counts, account.anchored = None, True
        else:
            _count(account, reading.counts)
            _doubt(account, asked_at)
            _anchor(account, reading.counts, asked_at)

    def report(self, substation: str, counts: Counts) -> None:
        """Take in counters that came with an event of the substation."""
        account = self.accounts.get(substation)
        if account is None or account.counts is None:
            return
        # only a page makes a new run known: an event may be from a run that is over
        if counts.started_at == account.counts.started_at:
            _count(account, counts)

    def fail(self, substation: str, problem: str) -> None:
        """Note that a substation's load is not to be had, or that its queue takes nothing."""
        if (account := self.accounts.get(substation)) is not None:
            account.problem = problem

    def let_go(self) -> None:
        """Have every scale set anew: another dispatcher has sent jobs meanwhile."""
        for account in self.accounts.values():
            if account.counts is not None:
                account.anchored, account.depth = False, None

    def uncounted(self) -> list[str]:
        """Name those without counters: only their queue tells what they have not begun."""
        accounts = self.accounts.values()
        return [each.substation for each in accounts if each.anchored and each.counts is None]

    def queued(self, substation: str, ready: float, consumers: int) -> None:
        """Note the jobs ready in the queue of a substation without counters, and who takes them."""
        if (account := self.accounts.get(substation)) is not None:
            account.ready, account.unserved = ready, consumers == 0

    def unanchored(self) -> list[str]:
        """Name the substations whose queue's depth is to be asked for."""
        accounts = self.accounts.values()
        return [
            each.substation
            for each in accounts
            if each.counts is not None and not each.anchored and each.depth is None
        ]

    def ask_depth(self, substation: str) -> None:
        """Note that a queue's depth is being asked for; nothing may be on its way there."""
        account = self.accounts.get(substation)
        if account is not None and account.counts is not None:
            account.depth = Depth(_taken(account.counts))

    def depth(self, substation: str, ready: float | None, now: float) -> None:
        """Note the answer: so many jobs were ready in the queue; None if there is no answer."""
        account = self.accounts.get(substation)
        if account is None or account.depth is None:
            return
        if ready is None:
            account.depth = None
        else:
            account.depth.ready, account.depth.known_at = ready, now

    def dispatch(self, substation: str, now: float) -> None:
        """Note that a job is being sent there."""
        account = self.accounts[substation]
        account.dispatched += 1
        account.sent_at.append(now)

    def undo(self, substation: str) -> None:
        """Note that a job sent there did not arrive."""
        if (account := self.accounts.get(substation)) is not None:
            account.dispatched -= 1
            if account.sent_at:
                account.sent_at.pop()

    def ineligible(self, account: Account, now: float) -> str | None:
        """Say why nothing may be sent to a substation, or None where it may."""
        if account.problem is not None:
            return account.problem
        age = account.age(now)
        if age is None or age > self._stale_after:
            return f"its load was read {age or 0:.1f} s ago: that is too old"
        if account.unserved and account.counts is None:
            return NO_CONSUMER
        return None if account.anchored else NO_ANCHOR


def _taken(counts: Counts) -> float:
    return counts.accepted + counts.duplicates


def _count(account: Account, counts: Counts) -> None:
    known = account.counts
    if known is None or known.started_at != counts.started_at:
        account.counts, account.anchored, account.depth = counts, False, None
        account.dispatched = _taken(counts)  # until the scale is set, its sessions are all we know
    elif sum(counts[1:4]) >= sum(known[1:4]):  # counters only grow: the larger sum is the newer
        account.counts = counts
        account.dispatched = max(account.dispatched, _taken(counts))


def _anchor(account: Account, page: Counts, asked_at: float) -> None:
    """Set the scale, if nothing was taken while the depth was asked for; else ask again."""
    depth = account.depth
    if account.anchored or depth is None or depth.ready is None or asked_at < depth.known_at:
        return
    if depth.ready == 0 or _taken(page) == depth.taken_before:
        account.dispatched, account.anchored = _taken(page) + depth.ready, True
    account.depth = None


def _doubt(account: Account, now: float) -> None:
    """Have the scale set anew where jobs are on their way and none arrives.

    They wait in the queue, or somebody took them out of it: only its depth can tell.
    """
    outstanding, since = account.unmoved
    if account.outstanding != outstanding or not outstanding:
        account.unmoved = (account.outstanding, now)
    elif account.anchored and now - since >= DOUBT_SECONDS:
        account.anchored, account.unmoved = False, (account.outstanding, now)
