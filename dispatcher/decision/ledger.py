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
Power goes the same way: what its sessions draw is told, and what is on its way is the power of the
jobs sent last, as many as are outstanding.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Final

from dispatcher.decision.account import NO_READING, Account, Depth, brought
from dispatcher.decision.hearing import hear_event, hear_page
from dispatcher.readings import LOAD, Reading
from grid.controls import Availability, Control
from grid.events import Counts
from grid.messages import DEFAULT_POWER_KW

SETTLE_SECONDS: Final = 1.0  # at most, until every scale is set and the first is chosen among all
NO_CONSUMER: Final = "nobody takes the jobs in its queue"
NO_ANCHOR: Final = "what waits in its queue is not known yet"
DRAINED: Final = "drained by an operator"


class Ledger:
    """The accounts of all substations.

    A gauge older than ``stale_after`` seconds makes its substation ineligible. A substation that
    does not say how many connectors it has is taken to have ``default_connectors``.
    """

    def __init__(self, stale_after: float, default_connectors: float) -> None:
        self.stale_after = stale_after
        self._default_connectors = default_connectors
        self._changed: dict[str, Account] = {}
        self._controls: dict[str, Control] = {}
        self._settled_at = -inf
        self.accounts: dict[str, Account] = {}
        self.former: set[str] = set()  # they have left, and jobs may still wait in their queues

    def keep(self, connectors: dict[str, float | None]) -> None:
        """Have exactly these substations, with the connectors their target file names."""
        for gone in self.accounts.keys() - connectors.keys():
            self._change(self.accounts.pop(gone))
            self.former.add(gone)
        self.former -= connectors.keys()
        for name, count in connectors.items():
            known = count or self._default_connectors
            account = self.accounts.setdefault(name, Account(name, known))
            account.in_file = known
            self._change(account)
            self._apply_control(account)

    def recall(self, substations: Iterable[str]) -> None:
        """Take note of substations there were before this start."""
        self.former.update(set(substations) - self.accounts.keys())

    def take_changed(self) -> list[Account]:
        """Give the accounts that have changed, or are gone, since this was last asked."""
        changed = list(self._changed.values())
        self._changed.clear()
        return changed

    def touch(self, account: Account) -> None:
        """Count an account as changed, unless it left: time alone changes what follows from it."""
        if self.accounts.get(account.substation) is account:
            self._change(account)

    # what is heard of a substation

    def read(self, substation: str, reading: Reading, asked_at: float) -> None:
        """Take in a page that was asked for at ``asked_at``."""
        if (account := self._of(substation)) is not None:
            hear_page(account, reading, asked_at)
            if account.health.ejected(asked_at) and not self._spares(account, asked_at):
                account.health.pardon(asked_at)

    def report(self, substation: str, counts: Counts) -> bool:
        """Take in counters that came with an event; tells whether anything follows from them."""
        account = self.accounts.get(substation)
        if account is None or not hear_event(account, counts):
            return False
        self._change(account)
        return True

    def fail(self, substation: str, problem: str, now: float) -> None:
        """Note that a substation's page gives no load; once for long, it has failed."""
        if (account := self._of(substation)) is None:
            return
        account.problem = problem
        if account.failing_since is None:
            account.failing_since = now
        if now - account.failing_since >= self.stale_after:
            account.health.fall(now)

    def refuse(self, substation: str, problem: str, now: float) -> None:
        """Note that a substation's queue takes no jobs, until its page is read again."""
        if (account := self._of(substation)) is not None:
            account.refusal = problem
            account.health.fall(now)

    def control(self, substation: str, control: Control) -> None:
        """Note what an operator has set, whether or not the substation is known yet."""
        self._controls[substation] = control
        if (account := self._of(substation)) is not None:
            self._apply_control(account)

    # what is sent there

    def dispatch(self, substation: str, now: float, power_kw: float = DEFAULT_POWER_KW) -> None:
        """Note that a job is being sent there whose session draws so much power."""
        if (account := self._of(substation)) is None:
            return  # it has left; what may be there goes there all the same
        account.dispatched += 1
        account.sent_at.append(now)
        account.way.append(power_kw)
        account.expected = account.expected_load(now) + 1.0, now
        if not account.anchored:
            account.depth = None  # whether that counted this one, nobody can tell

    def undo(self, substation: str) -> None:
        """Note that a job sent there did not arrive."""
        if (account := self._of(substation)) is not None:
            account.dispatched -= 1
            for sent in (account.sent_at, account.way):
                if sent:
                    sent.pop()

    # what waits in its queue

    def settle(self, now: float) -> None:
        """Begin to wait a little until every scale is set: the first of them would get all jobs."""
        self._settled_at = now + SETTLE_SECONDS

    def settling(self, now: float) -> bool:
        """Tell whether it is better to wait: some substation is about to be known."""
        if now < self._settled_at and any(map(_coming, self.accounts.values())):
            return True
        self._settled_at = -inf
        return False

    def let_go(self, substation: str | None = None) -> None:
        """Have the scale of one, or of each, set anew: others put jobs there, or took some away."""
        for name, account in self.accounts.items():
            if substation in (None, name) and account.counts is not None:
                account.anchored, account.depth = False, None
                self._change(account)

    def queued(self, substation: str, ready: float, consumers: int) -> None:
        """Note the jobs ready in a substation's queue, and how many consumers that has."""
        if (account := self._of(substation)) is not None:
            account.consumers = consumers
            account.ready = ready if account.counts is None else 0.0

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
            account.depth = Depth(brought(account.counts))

    def depth(self, substation: str, ready: float | None, now: float) -> None:
        """Note the answer: so many jobs were ready in the queue; None if there is no answer."""
        account = self.accounts.get(substation)
        if account is None or account.depth is None:
            return
        if ready is None:
            account.depth = None
        else:
            account.depth.ready, account.depth.known_at = ready, now

    # what follows

    def ineligible(self, account: Account, now: float) -> str | None:
        """Say why nothing may be sent to a substation, or None where it may."""
        return self.unreadable(account, now) or self.barred(account, now)

    def unreadable(self, account: Account, now: float) -> str | None:
        """Say why a substation's load is unknown by its page, or None where it is known."""
        if account.problem is not None:
            return account.problem
        if now - account.oldest > self.stale_after:
            name, gauge = min(account.gauges.items(), key=lambda each: each[1].asked_at)
            what = "its load" if name == LOAD else name
            came = "has a timestamp of" if gauge.stamped else "was read"
            return f"{what} {came} {now - gauge.asked_at:.1f} s ago: that is too old"
        return None

    def is_lost(self, account: Account, now: float) -> bool:
        """Return whether a substation's load has been unknown for so long that it may be dead."""
        if account.failing_since is not None and now - account.failing_since >= self.stale_after:
            return True
        return account.problem is None and self.unreadable(account, now) is not None

    def barred(self, account: Account, now: float) -> str | None:
        """Say why nothing may be sent to a substation whatever its page says, or None."""
        if account.drained:
            return DRAINED
        if account.refusal is not None:
            return account.refusal
        if account.consumers == 0:
            return NO_CONSUMER
        if account.health.ejected(now):
            rest = account.health.ejected_until - now
            return f"ejected for another {rest:.0f} s: it failed again and again"
        return None if account.anchored else NO_ANCHOR

    def readable(self, now: float) -> dict[str, bool]:
        """Tell of each substation whether its page gives its load; one that has left gives none."""
        readable = {n: self.unreadable(each, now) is None for n, each in self.accounts.items()}
        return dict.fromkeys(self.former, False) | readable

    def another(self, substation: str, now: float) -> bool:
        """Tell whether anything may be sent to another substation than that one."""
        others = (each for each in self.accounts.values() if each.substation != substation)
        return any(self.ineligible(each, now) is None for each in others)

    def _spares(self, account: Account, now: float) -> bool:
        """Tell whether the others that can be chosen have half of all connectors, or more.

        What an operator has drained counts for neither.
        """
        known = [each for each in self.accounts.values() if not each.drained]
        others = (
            each for each in known if each is not account and self.ineligible(each, now) is None
        )
        return 2 * sum(each.connectors for each in others) >= sum(each.connectors for each in known)

    def _of(self, substation: str) -> Account | None:
        """Give an account that is about to change."""
        if (account := self.accounts.get(substation)) is not None:
            self._change(account)
        return account

    def _change(self, account: Account) -> None:
        self._changed[account.substation] = account

    def _apply_control(self, account: Account) -> None:
        if (control := self._controls.get(account.substation)) is not None:
            account.drained = control.state is Availability.DRAINING
            account.limit = control.limit
        account.size()


def _coming(account: Account) -> bool:
    """Tell whether a substation is not known yet, and nothing says that it will not be."""
    return account.problem == NO_READING or (account.problem is None and not account.anchored)
