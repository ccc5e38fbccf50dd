"""Recipes: what is right is read as meant, what is wrong is refused with its place."""

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, model_validator

import clearhead
from clearhead.core.errors import ConfigError
from clearhead.core.recipe import Section, read_recipe, write_recipe
from clearhead.core.registry import Choice, Registry, choice_of
from clearhead.train.recipe import Recipe

SHIPPED = sorted((Path(clearhead.__file__).parent / "recipes").glob("*.yaml"))
POSITIONS: Registry[Any] = Registry("position")


@POSITIONS.register("rope")
class Rope:
    def __init__(self, *, base: float = 1e4, scaled: bool = False) -> None: ...


@POSITIONS.register("table")
class Table:
    def __init__(self, *, length: int) -> None: ...


class Model(Section):
    heads: int = Field(8, gt=0)
    width: int = 512
    dropout: float = 0.1
    position: choice_of(POSITIONS) = Choice(kind="rope", options={"scaled": True})  # type: ignore[valid-type]
    bias: bool = True

    @model_validator(mode="after")
    def _fits(self) -> "Model":
        if self.width % self.heads:
            raise ConfigError("width is not divisible by heads", found=f"{self.width}, {self.heads}")
        return self


class Search(Section):
    beams: int = 1
    best: int = 1


class Tree(Section):
    seed: int = 1
    language: str = "en"
    metric: Literal["bleu", "no"] = "bleu"
    rate: float = 1.0
    minutes: float | None = None
    model: Model = Model()
    search: Search = Search(beams=4)
    data: choice_of(POSITIONS) | None = None  # type: ignore[valid-type]


@pytest.fixture
def recipe(tmp_path):
    """A function from YAML text and overrides to the tree."""

    def read(text: str | bytes, *overrides: str, schema: type[Any] = Tree) -> Any:
        path = tmp_path / "r.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_recipe(path, overrides, schema)

    return read


@pytest.fixture
def refusal(recipe, tmp_path):
    """A function from YAML text and overrides to the message, with the folder of the file taken out."""

    def read(text: str | bytes, *overrides: str, schema: type[Any] = Tree) -> str:
        with pytest.raises(ConfigError) as caught:
            recipe(text, *overrides, schema=schema)
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        assert caught.value.exit_code == 2
        return message.replace(f"{tmp_path}/", "")

    return read


# --- what is right ---


def test_an_empty_recipe_is_all_defaults(recipe):
    assert recipe("") == recipe("# nothing\n") == recipe("---\n") == Tree()


def test_a_recipe_is_read_as_written(recipe):
    tree = recipe("seed: 7\nmodel:\n  heads: 4  # few\n  position: {kind: rope, base: 5e5}\n")
    assert (tree.seed, tree.model.heads, tree.model.width) == (7, 4, 512)
    assert tree.model.position == Choice(kind="rope", options={"base": 5e5})


@pytest.mark.parametrize("text", ["5e-4", "5.0e-4", "0.0005", "'5e-4'", "5E-4"])
def test_small_numbers_are_numbers_however_yaml_reads_them(text, recipe):
    assert recipe(f"rate: {text}").rate == 5e-4
    assert recipe("", f"rate={text}").rate == 5e-4
    assert recipe("", f"model.position.base={text}").model.position.options["base"] == 5e-4


def test_a_byte_order_mark_and_windows_lines_are_read(recipe):
    assert recipe(b"\xef\xbb\xbfseed: 3\r\nlanguage: de\r\n").seed == 3


def test_yes_and_no_are_for_switches(recipe):
    assert recipe("model: {bias: no}").model.bias is False
    assert recipe("language: 'no'").language == "no"


# --- what is wrong, with its line ---


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed: 1\nmodle:\n  heads: 2\n", "r.yaml, line 2, modle: unknown key 'modle'; expected one of seed, "),
        ("modle: {}\n", "did you mean 'model'?"),
        ("model:\n  width: 8\n  haeds: 2\n", "r.yaml, line 3, model.haeds: unknown key 'haeds'; expected one of "),
        ("model:\n  heads: many\n", "r.yaml, line 2, model.heads: input should be a valid integer"),
        ("model:\n  heads: 0\n", "r.yaml, line 2, model.heads: input should be greater than 0; found 0"),
        ("\n\nmodel:\n  heads: 3\n", "r.yaml, line 3, model: width is not divisible by heads; found 512, 3"),
        ("model: 5\n", "r.yaml, line 1, model: a section is a mapping of keys; found 5"),
        ("model:\n", "r.yaml, line 1, model: a section is a mapping of keys; found None"),
        ("seed: [1]\n", "r.yaml, line 1, seed: input should be a valid integer; found [1]"),
        ("metric: belu\n", "r.yaml, line 1, metric: input should be 'bleu' or 'no'; found 'belu'"),
        # choices
        ("model:\n  position: rop\n", "r.yaml, line 2, model.position: no position of kind 'rop'; expected one of "),
        ("model:\n  position: rop\n", "did you mean 'rope'?"),
        ("model:\n  position:\n    kind: rope\n    bse: 5\n", "r.yaml, line 4, model.position.bse: position "),
        ("model:\n  position:\n    kind: rope\n    base: x\n", "r.yaml, line 4, model.position.base: option rope"),
        ("model:\n  position:\n    base: 5\n", "r.yaml, line 2, model.position: the kind is missing; found {"),
        ("model:\n  position: table\n", "r.yaml, line 2, model.position.length: position 'table' needs the option"),
        ("model:\n  position:\n", "r.yaml, line 2, model.position: the kind is missing"),
        ("data: {kind: rope, bse: 1}\n", "r.yaml, line 1, data.bse: position 'rope' has no option 'bse'"),
        # truth values
        ("language: no\n", "r.yaml, line 1, language: input should not be true or false; found False; expected text"),
        ("metric: no\n", "put it in quotes: YAML reads a bare yes, no, on or off as true or false"),
        ("model:\n  dropout: yes\n", "r.yaml, line 2, model.dropout: input should not be true or false; found True; "),
        ("seed: on\n", "found True; expected a number"),
        ("minutes: true\n", "found True; expected a number"),
        ("model: {position: no}\n", "put it in quotes"),
        ("rate: .nan\n", "r.yaml, line 1, rate: input should be a number; found nan"),
        # YAML
        ("seed: 1\nmodel: [1,\n", "r.yaml, line 3: not YAML: "),
        ("seed: 1\n\tmodel: 2\n", "r.yaml, line 2: not YAML: found character"),
        ("seed: 1\nmodel: {heads: 2\nrate: 1\n", "r.yaml, line 3: not YAML: "),
        ("a: *b\n", "r.yaml, line 1: not YAML: found undefined alias"),
        ("seed: !!python/object:os.system x\n", "r.yaml, line 1: not YAML: could not determine a constructor"),
        ("seed: 2024-02-31\n", "r.yaml: not YAML: day is out of range for month"),
        ("a: &a [*a]\n", "r.yaml, line 1, a: unknown key 'a'"),
        ("seed: \x07\n", "r.yaml: not YAML: unacceptable character"),
        ("[" * 2_000, "r.yaml: not YAML"),
        ("seed: 1\nmodel:\n  heads: 2\n  width: 4\n  heads: 4\n", "r.yaml, line 5: the key 'heads' stands twice"),
        ("- seed\n", "r.yaml: a recipe is a mapping of sections; found a list"),
        ("seed\n", "r.yaml: a recipe is a mapping of sections; found a str"),
        ("5: 1\n", "r.yaml, line 1, 5: keys should be strings; found 5"),
    ],
)
def test_a_mistake_is_told_with_its_place(text, told, refusal):
    assert told in refusal(text)


def test_a_recipe_that_is_no_text_is_told(refusal):
    assert "r.yaml, line 2: not UTF-8 text; found byte 0xff" in refusal(b"seed: 1\nlanguage: \xff\n")


def test_aliases_that_multiply_take_no_time(refusal):
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    assert "unknown key" in refusal(f"a0: &a0 [x]\n{levels}\n")


def test_a_missing_key_is_told(refusal):
    class Needy(Section):
        inner: Inner

    message = refusal("inner:\n  optional: 1\n", schema=Needy)
    assert message == "r.yaml, line 1, inner.needed: this key is needed"


class Inner(Section):
    needed: int
    optional: int = 1


# --- overrides ---


def test_an_override_wins_and_is_yaml(recipe):
    tree = recipe("seed: 1\nmodel: {heads: 2}\n", "seed=3", "model.heads=4", "model.bias=no", "minutes=", "seed=5")
    assert (tree.seed, tree.model.heads, tree.model.bias, tree.minutes) == (5, 4, False, None)
    assert recipe("", "language=a=b").language == "a=b"


@pytest.mark.parametrize(
    "text", ["", "model:", "model: {}", "model: {position: rope}", "model: {position: {kind: rope}}"]
)
def test_an_option_of_a_choice_can_be_overridden_wherever_the_choice_stands(text, recipe):
    position = recipe(text, "model.position.base=5").model.position
    assert position.kind == "rope"
    assert position.options["base"] == 5.0


def test_an_override_of_one_part_of_a_default_changes_no_other_part(recipe):
    assert recipe("", "model.position.base=5").model.position.options == {"base": 5.0, "scaled": True}
    assert recipe("", "search.best=2").search == Search(beams=4, best=2)
    assert recipe("", "model.position=rope").model.position.options == {}


def test_a_choice_and_then_its_option_can_be_overridden(recipe):
    assert recipe("", "model.position=table", "model.position.length=9").model.position.options == {"length": 9}
    assert recipe("", "model.position={kind: table, length: 9}").model.position.kind == "table"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("seed", "an override is written key=value; found 'seed'; expected e.g. train.updates=200"),
        ("=5", "an override is written key=value"),
        ("model..heads=5", "an override is written key=value"),
        (".seed=5", "an override is written key=value"),
        ("sed=5", "override sed: unknown key 'sed'; expected one of seed, "),
        ("model.haeds=5", "override model.haeds: unknown key 'haeds'"),
        ("modle.heads=5", "override modle.heads: unknown key 'modle'"),
        ("model.heads.x=5", "override model.heads.x: model.heads has no keys; found 4"),
        ("language.x=5", "override language.x: language has no keys; found 'de'"),
        ("seed=[", "override seed: the value of an override is not YAML; found '['"),
        ("seed=2024-02-31", "override seed: the value of an override is not YAML"),
        ("seed=1e3", "override seed: input should be a valid integer"),
        ("seed=yes", "override seed: input should not be true or false"),
        ("model=5", "override model: a section is a mapping of keys; found 5"),
        ("model.position=rop", "override model.position: no position of kind 'rop'"),
        ("model.position.bse=5", "override model.position.bse: position 'rope' has no option 'bse'"),
        ("model.position.base=x", "override model.position.base: option rope.base: input should be a valid number"),
        ("model.position.kind=rop", "override model.position.kind: no position of kind 'rop'"),
        ("model.position=", "override model.position: the kind is missing"),
        ("model.position={base: 5}", "override model.position: the kind is missing"),
        ("data.base=5", "override data.base: the kind is missing; found {'base': 5}"),
        ("model.heads=3", "r.yaml, line 2, model: width is not divisible by heads; found 512, 3"),
    ],
)
def test_a_wrong_override_is_told_as_one(setting, told, refusal):
    assert told in refusal("language: de\nmodel:\n  heads: 4\n", setting)


def test_a_mistake_of_the_file_is_not_blamed_on_an_override(refusal):
    assert "r.yaml, line 1, seed" in refusal("seed: x\nmodel: {heads: 4}\n", "model.heads=2", "language=de")
    assert "r.yaml, line 1, model.position: no position of kind 'rop'" in refusal(
        "model: {position: {kind: rop}}", "model.position.base=4"
    )


# --- files ---


def test_a_folder_or_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match="a folder is no recipe; name the YAML file"):
        read_recipe(tmp_path, [], Tree)
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(ConfigError, match=r"a folder is no recipe; did you mean .*/recipe\.yaml"):
        read_recipe(tmp_path, [], Tree)
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file or directory"):
        read_recipe(tmp_path / "none.yaml", [], Tree)


# --- writing ---


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_comes_back_from_its_resolved_form(path, recipe):
    tree = read_recipe(path, [], Recipe)
    text = write_recipe(tree)
    assert recipe(text, schema=Recipe) == tree
    assert write_recipe(recipe(text, schema=Recipe)) == text


def test_there_are_shipped_recipes():
    assert SHIPPED


def test_odd_values_survive_writing(recipe):
    position = Choice(kind="table", options={"length": 3})
    tree = Tree(language="no", rate=1e-7, minutes=None, model=Model(position=position))
    assert recipe(write_recipe(tree)) == tree
    assert "中文" in write_recipe(Tree(language="中文"))
