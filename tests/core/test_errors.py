"""An error is one line that a person can act on."""

import pickle
from itertools import product

import pytest

from clearhead.core import errors
from clearhead.core.errors import LONGEST, ClearheadError, ConfigError, DataError, UsageError

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ClearheadError)]


def test_the_parts_come_in_order():
    error = DataError("too short", where="a.txt, line 3", found=2, expected="at least 3", remedy="write more")
    assert str(error) == "a.txt, line 3: too short; found 2; expected at least 3; write more"


def test_what_is_not_given_is_not_said():
    for where, found, expected, remedy in product(("here", None), (0, None), ("much", None), ("do", None)):
        text = str(ClearheadError("wrong", where=where, found=found, expected=expected, remedy=remedy))
        assert text.startswith("here: wrong" if where else "wrong")
        assert ("found 0" in text) == (found is not None)  # zero is a value
        assert "None" not in text


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\n\n  ", "\t"])
def test_whatever_breaks_lines_is_a_space(separator):
    text = str(DataError(f"first{separator}second", found=f"a{separator}b"))
    assert len(text.splitlines()) == 1
    assert text.split() == ["first", "second;", "found", "a", "b"]


def test_control_characters_and_half_characters_are_shown_not_sent():
    text = str(DataError("odd", found="\x1b[2J\x00\ud800", where="a\x07b"))
    assert text == r"a\x07b: odd; found \x1b[2J\x00\ud800"
    text.encode()


def test_other_alphabets_stay_as_they_are():
    assert str(DataError("坏了", found="Ünïcödé 😀\u3000", remedy="修好它")) == "坏了; found Ünïcödé 😀\u3000; 修好它"


def test_a_long_value_is_cut():
    text = str(DataError("wrong", found="x" * 100_000))
    assert len(text) < LONGEST + 60
    assert text.endswith("(100,000 characters)")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_clearhead_error_with_an_exit_code(kind):
    error = kind("wrong")
    assert isinstance(error, ClearheadError)
    assert error.exit_code == (2 if isinstance(error, UsageError) else 1)
    assert kind.__doc__


def test_a_config_error_is_a_value_error_for_pydantic():
    assert isinstance(ConfigError("x"), ValueError)
    assert not isinstance(DataError("x"), ValueError)


def test_an_error_survives_the_way_between_processes():
    error = DataError("wrong", where="a.txt", found=1)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is DataError
    assert (str(again), again.what, again.found) == (str(error), "wrong", 1)
