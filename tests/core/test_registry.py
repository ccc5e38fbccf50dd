"""A family of parts: names, options read from signatures, and refusals that help."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from clearhead.core.errors import ConfigError
from clearhead.core.registry import Choice, Registry, choice_of, nearest

SHAPES: Registry[Any] = Registry("shape")


@SHAPES.register("circle")
class Circle:
    def __init__(self, size: int, *, radius: float = 1.0, name: str = "o", filled: bool = False) -> None:
        self.size, self.radius, self.name, self.filled = size, radius, name, filled


@SHAPES.register("box")
class Box:
    def __init__(
        self,
        size: int,
        *,
        sides: int,
        share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.5,
        mode: Literal["in", "out"] = "in",
        limit: int | None = None,
        weights: list[float] = [],  # noqa: B006
    ) -> None:
        self.sides, self.share, self.mode, self.limit, self.weights = sides, share, mode, limit, weights


@SHAPES.register("dot")
class Dot:
    pass


@SHAPES.register("table")
@dataclass(kw_only=True)
class Table:
    rows: int = 3


def refusal(choice: object) -> str:
    with pytest.raises(ConfigError) as caught:
        SHAPES.check(choice if isinstance(choice, Choice) else Choice.model_validate(choice))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- names ---


def test_names_are_sorted():
    assert SHAPES.names() == ["box", "circle", "dot", "table"]


def test_an_unknown_name_gets_the_list_and_its_nearest():
    expected = "no shape of kind 'cirle'; expected one of box, circle, dot, table; did you mean 'circle'?"
    assert refusal("cirle") == expected
    assert "did you mean" not in refusal("zzz")


def test_two_parts_cannot_share_a_name():
    family: Registry[Any] = Registry("shape")
    family.register("one")(Dot)
    with pytest.raises(ValueError, match="shape 'one' is registered twice"):
        family.register("one")(Circle)
    assert family.get("one") is Dot


def test_registering_changes_nothing_about_the_part():
    assert Circle(3).size == 3
    assert SHAPES.get("circle") is Circle


def test_nearest_is_none_where_nothing_is_close():
    assert nearest("rop", ["rope", "alibi"]) == "did you mean 'rope'?"
    assert nearest("xyz", ["rope"]) is None
    assert nearest("x", []) is None


# --- options ---


def test_options_are_the_keyword_only_parameters():
    assert list(SHAPES.options("circle")) == ["radius", "name", "filled"]
    assert list(SHAPES.options("table")) == ["rows"]
    assert list(SHAPES.options("dot")) == []


def test_a_part_is_built_from_wiring_and_options():
    circle = SHAPES.build(Choice(kind="circle", options={"radius": 2}), 7)
    assert (circle.size, circle.radius, circle.name) == (7, 2.0, "o")
    assert isinstance(circle.radius, float)
    assert SHAPES.build(Choice(kind="table", options={"rows": "4"})).rows == 4


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"kind": "circle", "radus": 2}, "shape 'circle' has no option 'radus'; expected one of radius, name, filled"),
        ({"kind": "dot", "x": 1}, "shape 'dot' has no option 'x'; expected no options"),
        ({"kind": "circle", "size": 2}, "shape 'circle' has no option 'size'"),  # wiring is not for recipes
        ({"kind": "box"}, "shape 'box' needs the option 'sides'"),
        ({"kind": "circle", "radius": "big"}, "option circle.radius: input should be a valid number"),
        ({"kind": "circle", "radius": None}, "option circle.radius: input should be a valid number"),
        ({"kind": "circle", "name": 5}, "option circle.name: input should be a valid string; found 5"),
        ({"kind": "circle", "filled": 3}, "option circle.filled: input should be a valid boolean"),
        ({"kind": "box", "sides": 1.5}, "option box.sides: input should be a valid integer"),
        ({"kind": "box", "sides": 1, "share": 1.0}, "option box.share: input should be less than 1; found 1.0"),
        ({"kind": "box", "sides": 1, "mode": "on"}, "option box.mode: input should be 'in' or 'out'; found 'on'"),
        ({"kind": "box", "sides": 1, "limit": "x"}, "option box.limit: input should be a valid integer"),
        ({"kind": "box", "sides": 1, "weights": 3}, "option box.weights: input should be a valid list"),
        # what YAML reads from `yes` and `.nan`
        ({"kind": "circle", "radius": True}, "option circle.radius: input should not be true or false; found True; "),
        ({"kind": "circle", "name": False}, "expected text; put it in quotes"),
        ({"kind": "box", "sides": True}, "expected a number"),
        ({"kind": "box", "sides": 1, "limit": True}, "expected a number"),
        ({"kind": "box", "sides": 1, "mode": False}, "expected text; put it in quotes"),
        ({"kind": "circle", "radius": float("nan")}, "option circle.radius: input should be a number; found nan"),
    ],
)
def test_a_wrong_option_is_refused_by_name(choice, told):
    assert told in refusal(choice)


def test_a_wrong_option_remembers_its_name_for_the_place_in_the_recipe():
    with pytest.raises(ConfigError) as caught:
        SHAPES.check(Choice(kind="circle", options={"radus": 2}))
    assert caught.value.option == "radus"  # type: ignore[attr-defined]


def test_numbers_that_yaml_reads_as_text_are_numbers():
    assert SHAPES.check(Choice(kind="circle", options={"radius": "5e-4"})).options == {"radius": 5e-4}


def test_what_is_right_passes():
    choice = Choice(kind="box", options={"sides": 4, "limit": None, "mode": "out", "weights": [1, "2"]})
    assert SHAPES.build(choice, 1).weights == [1.0, 2.0]
    assert SHAPES.check(Choice(kind="circle", options={"filled": "yes"})).options == {"filled": True}


def test_checking_twice_changes_nothing():
    once = SHAPES.check(Choice(kind="circle", options={"radius": "2"}))
    assert SHAPES.check(once) == once


# --- choices ---

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(
    st.text(min_size=1),
    st.dictionaries(st.text().filter(lambda key: key not in ("kind", "options")), VALUES | st.lists(VALUES)),
)
def test_a_choice_comes_back_from_its_flat_form(kind, options):
    choice = Choice(kind=kind, options=options)
    flat = choice.model_dump()
    assert flat == ({"kind": kind, **options} if options else kind)
    assert Choice.model_validate(flat) == choice


def test_a_choice_can_be_written_in_three_ways():
    short, flat = Choice.model_validate("circle"), Choice.model_validate({"kind": "circle", "radius": 2})
    assert short == Choice(kind="circle")
    assert flat == Choice.model_validate({"kind": "circle", "options": {"radius": 2}})


def test_a_choice_is_frozen():
    with pytest.raises(ValidationError):
        Choice(kind="circle").kind = "box"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "the kind is missing"),
        ({}, "the kind is missing"),
        ({"radius": 2}, "the kind is missing; found {'radius': 2}; expected a name, or {kind: a name"),
        (5, "not the name of a part; found 5"),
        (["circle"], "not the name of a part"),
        ({"kind": 5}, "not the name of a part"),
        (False, "put it in quotes: YAML reads a bare yes, no, on or off"),
        ({"kind": "circle", "options": {}, "radius": 3}, "radius"),
    ],
)
def test_what_is_no_choice_is_refused(value, told):
    with pytest.raises(ValidationError) as caught:
        Choice.model_validate(value)
    assert told in str(caught.value)


def test_a_field_of_a_config_checks_its_choice():
    class Config(BaseModel):
        shape: choice_of(SHAPES) = Choice(kind="circle")  # type: ignore[valid-type]

    assert Config(shape={"kind": "box", "sides": "3"}).shape.options == {"sides": 3}
    with pytest.raises(ValidationError, match="no shape of kind 'bax'"):
        Config(shape="bax")
    assert TypeAdapter(Config).dump_json(Config(shape={"kind": "box", "sides": 3})) == (
        b'{"shape":{"kind":"box","sides":3}}'
    )
