"""One line of progress: what it says, how often, and that it is read back from a log."""

import io

import pytest

from cinema_lightning.progress import ProgressLine, duration, last_progress


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_a_line_now_and_then_with_the_time_that_is_left(tmp_path):
    clock, log = Clock(), io.StringIO()
    with ProgressLine("fit", 100, unit="subjects", stream=log, clock=clock) as line:
        for second in range(1, 41):
            clock.now = float(second)
            line.update(text="epoch 1")
    assert log.getvalue().splitlines() == [
        "fit: 10%, 10 of 100 subjects, epoch 1, 2 min left",
        "fit: 20%, 20 of 100 subjects, epoch 1, 80 s left",
        "fit: 30%, 30 of 100 subjects, epoch 1, 70 s left",
        "fit: 40%, 40 of 100 subjects, epoch 1, 60 s left",
    ]
    path = tmp_path / "log.txt"
    path.write_text(log.getvalue() + "a warning of somebody\n")
    assert last_progress(path) == ("fit", 0.4, "40 of 100 subjects, epoch 1, 60 s left")
    path.write_text(log.getvalue() + "\n=== test acdc, attempt 1\n")
    assert last_progress(path) is None
    assert last_progress(tmp_path / "not yet") is None


def test_a_run_of_days_does_not_fill_its_log():
    clock, log = Clock(), io.StringIO()
    line = ProgressLine("fit", 1.0, stream=log, clock=clock)
    for minute in range(1, 7 * 24 * 60):
        clock.now = 60.0 * minute
        line.show(minute / (7 * 24 * 60))
    assert 900 < len(log.getvalue().splitlines()) < 1300


def test_what_was_done_before_says_nothing_of_the_pace():
    clock, log = Clock(), io.StringIO()
    line = ProgressLine("fit", 1.0, done=0.5, stream=log, clock=clock)
    clock.now = 100.0
    line.show(0.75)
    assert log.getvalue() == "fit: 75%, 2 min left\n"


def test_a_terminal_gets_one_line_without_rates():
    clock, terminal = Clock(), Terminal()
    with ProgressLine("fit", 4, unit="subjects", stream=terminal, clock=clock) as line:
        for _ in range(3):
            clock.now += 1
            line.update()
        line.write("one was left out")
    said = terminal.getvalue()
    assert "3 of 4 subjects, 1 s left" in said
    assert "/s" not in said
    assert "one was left out\n" in said


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (12_000, "3 h 20 min")]
)
def test_times_as_people_say_them(seconds, words):
    assert duration(seconds) == words
