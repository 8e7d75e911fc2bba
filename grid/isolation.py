"""Work on many items: an unforeseen error over one of them must not stop the others."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter

log = logging.getLogger(__name__)


class Isolation:
    """A guard that counts and logs errors over single items, which would else end the service.

    It is for inputs: a page, a file, an event, a queue. An error is logged with its traceback when
    it begins and when it changes, not each time; and when it is over.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._errors = Counter(
            "grid_unforeseen_errors",
            "Errors over one of many items that the code does not foresee; the others went on",
            registry=registry,
        )
        self._known: dict[str, tuple[type[Exception], list[traceback.FrameSummary]]] = {}

    def record_failure(self, item: str, error: Exception) -> str:
        """Count and log an unforeseen error over an item; return it as text."""
        problem = f"{type(error).__name__}: {error}"
        self._errors.inc()
        # the text of an error may come from others, and differ each time
        place = type(error), traceback.extract_tb(error.__traceback__)[-1:]
        if self._known.get(item) != place:
            self._known[item] = place
            log.error("%s failed and is skipped: %s", item, problem, exc_info=error)
        return problem

    def record_success(self, item: str) -> None:
        """Record that nothing went wrong over an item."""
        if self._known.pop(item, None) is not None:
            log.info("%s works again", item)

    def reading(
        self, item: str, read: Callable[[bytes, str], None]
    ) -> Callable[[bytes, str], None]:
        """Return a reader of a stream's messages that goes on with the next one after an error.

        A stream has no dead-letter queue, and is read again at the next start.
        """

        def isolated(body: bytes, writer: str) -> None:
            try:
                read(body, writer)
            except Exception as error:  # noqa: BLE001
                self.record_failure(item, error)

        return isolated

    @contextmanager
    def of(self, item: str, on_problem: Callable[[str], object] = lambda _: None) -> Iterator[None]:
        """Stop an exception over an item here; ``on_problem`` is called with it as text."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # whatever it is, the other items go on
            on_problem(self.record_failure(item, error))
        else:
            self.record_success(item)
