"""The display of a run in progress: a bar on stderr, the lines of requests on stdout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TextIO

from tqdm import tqdm

from load_test import text
from load_test.records import Answer

_TERMINAL_SECONDS, _FILE_SECONDS = 0.1, 10.0  # how often the bar is drawn


class Board:
    """The answers so far; shows each request's lines in the order of sending."""

    def __init__(self, requests: int, *, quiet: bool, out: TextIO, err: TextIO) -> None:
        self.answers: list[Answer | None] = [None] * requests
        self._shown = requests if quiet else 0
        self._out = out
        self._err = err
        self._bar = self._new_bar("sent", requests)

    @property
    def accepted(self) -> list[str]:
        """Return the ids of the jobs accepted so far, in the order of sending."""
        return [one.job for one in self.answers if one is not None and one.job is not None]

    def put(self, number: int, answer: Answer) -> None:
        """Add the answer to one request, and show the answers that now have no gap before them."""
        self.answers[number] = answer
        self._bar.update()
        if ready := "\n".join(map(text.lines, self._ready())):
            self._bar.write(ready, file=self._out)

    def ending(self) -> Callable[[int], None]:
        """Switch to the second bar; return what sets how many of the accepted jobs have ended."""
        self._bar.close()
        self._bar = bar = self._new_bar("ended", len(self.accepted))

        def tell(ended: int) -> None:
            bar.update(ended - bar.n)

        return tell

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def _ready(self) -> Iterator[Answer]:
        while self._shown < len(self.answers):
            answer = self.answers[self._shown]
            if answer is None:
                return
            self._shown += 1
            yield answer

    def _new_bar(self, name: str, total: int) -> tqdm[Any]:
        interval = _TERMINAL_SECONDS if self._err.isatty() else _FILE_SECONDS
        return tqdm(total=total, desc=name, file=self._err, mininterval=interval, unit="")
