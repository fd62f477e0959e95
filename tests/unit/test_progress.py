"""Progress as lines: how far, and how long still, however long a step lasts."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from expunge import progress
from expunge.progress import Bars, Silent, Work, line


class Clock:
    """Seconds that go by when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def work(label: str, steps: int = 1, done: int = 0, unit: str = "steps") -> Work:
    return Work(label, steps, done, unit, lambda _: None)


# --- what a line says


def test_nested_works_stand_in_one_line_the_outermost_first(clock: Clock) -> None:
    study = work("study fire", 22, 3, "cells")
    study.note("1 failed")
    cell = work("finetune, class:3, seed 0")
    clock.now = 10.0
    training = work("training", 10, 0, "epochs")
    clock.now = 34.0
    for _ in range(4):
        training.advance("loss 0.31")
    assert line([study, cell, training], 40.0) == (
        "study fire: 3 of 22 cells, 1 failed; finetune, class:3, seed 0; "
        "training: 4 of 10 epochs, loss 0.31; 40 s so far, about 30 s left of training"
    )


def test_the_time_left_is_what_the_rest_takes_at_the_pace_so_far(clock: Clock) -> None:
    cells = work("cells", 4)
    assert cells.left(5.0) is None, "nothing is known before a step has ended"
    clock.now = 10.0
    cells.advance("the first")
    assert line([cells], 10.0) == "cells: 1 of 4 steps, the first; 10 s so far, about 30 s left"
    assert cells.left(14.0) == 26.0
    assert cells.left(100.0) == 100.0, "the second takes 90 s already, so the others may too"
    clock.now = 40.0
    for _ in range(3):
        cells.advance()
    assert line([cells], 41.0) == "cells: 4 of 4 steps; 41 s so far"


def test_what_was_done_before_took_no_time(clock: Clock) -> None:
    """A study that goes on: 90 of 100 cells of an earlier run say nothing about the other ten."""
    cells = work("cells", 100, 90)
    clock.now = 2.0
    cells.advance()
    assert line([cells], 2.0) == "cells: 91 of 100 steps; 2 s so far, about 18 s left"


def test_the_outermost_work_that_is_on_its_way_says_how_long_it_takes(clock: Clock) -> None:
    study, training = work("study", 5), work("training", 10)
    clock.now = 60.0
    training.advance()
    assert line([study, training], 60.0).endswith("; 60 s so far, about 9 min left of training")
    study.advance()
    assert line([study, training], 60.0).endswith("; 60 s so far, about 4 min left")


def test_a_command_is_told_while_nothing_is_inside_it(clock: Clock) -> None:
    command, training = work("expunge train"), work("training", 3)
    clock.now = 5.0
    assert line([command], 5.0) == "expunge train; 5 s so far"
    assert line([command, training], 5.0) == "training: 0 of 3 steps; 5 s so far"


def test_a_line_is_one_line_and_not_long(clock: Clock) -> None:
    long = [work("a\nb " * 50, 12345), work("c" * 200, 7)]
    long[0].note("d " * 200)
    clock.now = 7200.0
    told = line(long, 7200.0)
    assert len(told) <= 160 and "\n" not in told
    assert "0 of 12,345 steps" in told and told.endswith(" ...; 2.0 h so far")


# --- when lines come


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


def tickers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "expunge-progress"]


def bars(every: float = 60.0, first: float = 0.02) -> tuple[Bars, Callable[[], list[str]]]:
    """Bars into a log, and the lines that are in it."""
    log = io.StringIO()
    made = Bars(Console(file=log, width=40), every_seconds=every, first_seconds=first)
    return made, lambda: log.getvalue().splitlines()


def told(lines: list[str]) -> list[str]:
    """Lines without the numbers of seconds, which a busy machine has more of."""
    return [re.sub(r"\d+ s\b", "SECONDS", line) for line in lines]


def test_the_first_line_comes_before_any_step_has_ended() -> None:
    made, lines = bars()
    with made.work("reading cifar10"):
        wait_for(lambda: len(lines()) == 1)
    assert told(lines()) == ["reading cifar10; SECONDS so far", "reading cifar10; done in SECONDS"]


def test_signs_of_life_come_while_a_step_lasts() -> None:
    made, lines = bars(every=0.02)
    with made.work("study", 3, 1, unit="cells") as bar:
        wait_for(lambda: len(lines()) >= 3)
        bar.note("2 running")
        wait_for(lambda: "2 running" in lines()[-1])
    assert set(told(lines())[:3]) == {"study: 1 of 3 cells; SECONDS so far"}
    assert told(lines())[-1] == "study: 1 of 3 cells, 2 running; done in SECONDS"


def test_quick_work_is_silent() -> None:
    made, lines = bars(first=5.0)
    with made.work("outer", 10) as bar:
        for _ in range(10):
            with made.work("inner", 2) as inner:
                inner.advance("quick")
            bar.advance()
    assert lines() == []


def test_what_is_nested_deeper_than_before_is_told_soon() -> None:
    """Not with the next sign of life, which may be long in coming."""
    made, lines = bars()
    with made.work("study", 2):
        wait_for(lambda: len(lines()) == 1)
        with made.work("cell"):
            wait_for(lambda: len(lines()) == 2)
        with made.work("another cell"):
            time.sleep(0.06)
    assert [told.split("; ")[:-1] for told in lines()] == [
        ["study: 0 of 2 steps"],
        ["study: 0 of 2 steps", "cell"],
        ["study: 0 of 2 steps"],
    ]


def test_no_thread_is_left_after_the_end() -> None:
    made, lines = bars()
    with made.work("outer"), made.work("inner"):
        assert len(tickers()) == 1, "one for all of them"
    assert not tickers()
    with made.work("again"):
        wait_for(lambda: len(lines()) == 1)
    assert not tickers()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_nothing_is_said_and_no_thread_left(error: type[BaseException]) -> None:
    made, lines = bars()
    with pytest.raises(error), made.work("outer", 2), made.work("inner"):
        wait_for(lambda: len(lines()) == 1)
        raise error
    assert not tickers()
    assert len(lines()) == 1 and "done" not in lines()[0]
    with made.work("another"):
        wait_for(lambda: len(lines()) == 2)
    assert told(lines())[1] == "another; SECONDS so far"


def test_a_log_that_cannot_be_written_does_not_end_the_work() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no space left on device")

    made = Bars(Console(file=Full()), every_seconds=0.01, first_seconds=0.01)
    with made.work("outer"):
        wait_for(lambda: not tickers())
        with made.work("inner", 2) as bar:
            bar.advance()
            assert bar.done == 1  # type: ignore[attr-defined]
    assert not tickers(), "and it ends"


def test_a_quiet_console_shows_nothing() -> None:
    log = io.StringIO()
    made = Bars(Console(file=log, quiet=True), every_seconds=0.01, first_seconds=0.0)
    with made.work("work", 3) as bar:
        bar.advance("note")
        bar.note("note")
        assert not tickers()
        time.sleep(0.03)
    assert log.getvalue() == ""


def test_bars_of_a_terminal_appear_at_once_and_their_clocks_go_on() -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, _environ={"TERM": "xterm"})
    made = Bars(terminal, first_seconds=60.0)
    with made.work("study [x]", 22, 3, unit="cells") as bar, made.work("original, seed 0"):
        wait_for(lambda: "study [x]" in screen.getvalue() and "original" in screen.getvalue())
        assert "3 of 22 cells" in screen.getvalue() and "0:00:00" in screen.getvalue()
        bar.note("2 running")
        wait_for(lambda: "2 running" in screen.getvalue())
        bar.advance()
        wait_for(lambda: "4 of 22 cells" in screen.getvalue())
    with made.work("another"):
        wait_for(lambda: "another" in screen.getvalue())


def test_silence_takes_what_bars_take(capfd: pytest.CaptureFixture[str]) -> None:
    with Silent().work("work", 3, done=1, unit="cells") as bar:
        bar.advance("note")
        bar.note("note")
    assert capfd.readouterr() == ("", "")
    assert not tickers()
