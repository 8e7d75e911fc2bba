"""The demo: what happens when, without a system."""

from __future__ import annotations

import pytest

from deploy import demo
from deploy.demo import Action, Step, Stream

NAMES = ["north", "south", "west"]


class FakeStage:
    """Records what is done, by the clock of the test."""

    def __init__(self) -> None:
        self.at = 0.0
        self.done: list[tuple[float, str]] = []

    def now(self) -> float:
        """Return the time."""
        return self.at

    def sleep(self, seconds: float) -> None:
        """Have time pass."""
        self.at += seconds

    def send(self, stream: Stream) -> None:
        """Record it."""
        self.done.append((self.at, f"{stream.rate:.0f}/s for {stream.seconds:g} s"))

    def act(self, step: Step) -> None:
        """Record it."""
        if step.action is not Action.NOTHING:
            self.done.append((self.at, f"{step.action.name} {step.substation}"))

    def figures(self) -> str:
        """Return a line."""
        return "figures"


def played(speed: float, connectors: float = 150) -> list[tuple[float, str]]:
    """Return what a whole demo does, and when."""
    stage = FakeStage()
    demo.play(NAMES, connectors, stage, speed=speed, now=stage.now, sleep=stage.sleep)
    return stage.done


def test_demo_kills_one_substation_and_drains_another_during_the_rush_hour(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert played(1) == [
        (0, "4/s for 110 s"),
        (15, "30/s for 80 s"),
        (30, "CRASH south"),
        (50, "START_AGAIN south"),
        (70, "DRAIN west"),
        (88, "MAKE_AVAILABLE west"),
    ]
    said = capsys.readouterr().out
    assert "0:30  south dies" in said
    assert said.count("figures") == 22


def test_demo_is_shortened_by_its_speed_and_bounded_in_its_rate() -> None:
    assert played(10)[2] == (3.0, "CRASH south")
    assert played(1, connectors=10_000)[1] == (15, "60/s for 80 s")


def test_demo_leaves_each_substation_as_it_was() -> None:
    """What dies comes back, and what is drained is available again, before the rush hour ends."""
    actions = [(each.action, each.substation) for each in demo.steps(NAMES)]
    for begin, end in ((Action.CRASH, Action.START_AGAIN), (Action.DRAIN, Action.MAKE_AVAILABLE)):
        [name] = [name for action, name in actions if action is begin]
        assert actions.index((begin, name)) < actions.index((end, name))


@pytest.mark.parametrize(
    ("at", "undone"),
    [
        (10, []),
        (40, ["START_AGAIN south"]),
        (60, []),
        (80, ["MAKE_AVAILABLE west"]),
        (100, []),
    ],
)
def test_interrupted_demo_undoes_what_it_has_done(at: float, undone: list[str]) -> None:
    stage = FakeStage()

    def sleep(seconds: float) -> None:
        stage.at += seconds
        if stage.at >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.play(NAMES, 150, stage, now=stage.now, sleep=sleep)
    assert [what for when, what in stage.done if when >= at] == undone
