"""Progress goes to standard error: plain lines where there is no terminal."""

import io
import sys

import pytest

from clearhead.core import progress
from clearhead.core.progress import clock, say, track


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3600, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_a_clock_reads_as_people_say_it(seconds, text):
    assert clock(seconds) == text


def test_a_message_is_one_line_on_standard_error(capsys):
    say("done")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "done\n")


def test_without_a_terminal_there_are_plain_lines_now_and_then(capsys, monkeypatch):
    now = iter([0.0, 5.0, 21.0, 22.0, 65.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with track("reading", 100) as bar:
        for done in (10, 20, 30, 50):
            bar(done, "loss 2.1")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "reading 20/100, 21 s so far, 1 min 24 s left  loss 2.1",
        "reading 50/100, 1 min 05 s so far, 1 min 05 s left  loss 2.1",
    ]
    assert "\x1b" not in err


@pytest.mark.parametrize("total", [None, 0])
def test_an_unknown_total_promises_no_end(total, capsys, monkeypatch):
    now = iter([0.0, 30.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with track("reading", total) as bar:
        bar(0)
    assert capsys.readouterr().err.strip() == "reading 0, 30 s so far"


def test_fast_work_says_nothing(capsys):
    with track("reading", 3) as bar:
        bar(1)
        bar(2)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_a_bar_lives_on_standard_error_only(capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with track("reading", 2) as bar:
        bar(1)
        bar(2, "done")
    assert "reading" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_an_error_inside_passes_through():
    with pytest.raises(ValueError, match="mine"), track("reading", 2):
        raise ValueError("mine")
