"""English inflection and the numerals, against tables written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearhead.data.grammar import Grammar, morphology, numerals

VERBS = """
stop stops stopped stopping | plan plans planned planning | hug hugs hugged hugging | chat chats chatted chatting
visit visits visited visiting | open opens opened opening | wait waits waited waiting | fix fixes fixed fixing
play plays played playing | study studies studied studying | carry carries carried carrying
enjoy enjoys enjoyed enjoying
wash washes washed washing | watch watches watched watching | miss misses missed missing | buzz buzzes buzzed buzzing
love loves loved loving | use uses used using | agree agrees agreed agreeing | tie ties tied tying
dye dyes dyed dyeing
travel travels traveled traveling | prefer prefers preferred preferring | admit admits admitted admitting
show shows showed showing | ski skis skied skiing | cook cooks cooked cooking | echo echoes echoed echoing
"""
PLURALS = """
apple apples | box boxes | bus buses | dish dishes | match matches | city cities | boy boys | key keys
potato potatoes | tomato tomatoes | hero heroes | photo photos | radio radios | piano pianos | mango mangoes
lady ladies | story stories | toy toys | glass glasses | bus stop bus stops | sweet potato sweet potatoes
baby babies | day days | class classes | peach peaches | brush brushes | fox foxes | butterfly butterflies
"""
GRADES = """
big bigger biggest | hot hotter hottest | fat fatter fattest | thin thinner thinnest | wet wetter wettest
tall taller tallest | short shorter shortest | cheap cheaper cheapest | clean cleaner cleanest | sweet sweeter sweetest
large larger largest | nice nicer nicest | wide wider widest | safe safer safest | brave braver bravest
happy happier happiest | busy busier busiest | angry angrier angriest | dirty dirtier dirtiest | heavy heavier heaviest
new newer newest | slow slower slowest | gray grayer grayest | soft softer softest | clever cleverer cleverest
"""
IRREGULAR = """
go to work went to work gone to work | eat ate eaten | read read read | write wrote written | swim swam swum
take a shower took a shower taken a shower | get up got up gotten up | buy bought bought | sing sang sung
put on put on put on | give gave given | run ran run | see saw seen | find found found | break broke broken
have class had class had class | wear wore worn | drive drove driven | forget forgot forgotten | steal stole stolen
"""
COMMON_PLURALS = """
child children | man men | woman women | mouse mice | sheep sheep | fish fish | goose geese | wolf wolves
knife knives | shelf shelves | leaf leaves | thief thieves | scarf scarves | wife wives | salesperson salespeople
thesis theses | cactus cacti | deer deer | young person young people | schoolchild schoolchildren
"""


def rows(table: str) -> list[str]:
    return [row.strip() for line in table.strip().splitlines() for row in line.split("|")]


@pytest.mark.parametrize("row", rows(VERBS))
def test_regular_verbs(row):
    verb, *forms = row.split()
    assert [morphology.third_person(verb), morphology.past(verb), morphology.gerund(verb)] == forms


@pytest.mark.parametrize("row", rows(PLURALS))
def test_regular_plurals(row):
    words = row.split()
    noun, plural = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
    assert morphology.plural(noun) == plural


@pytest.mark.parametrize("row", rows(GRADES))
def test_graded_adjectives(row):
    adjective, *forms = row.split()
    assert [morphology.comparative(adjective), morphology.superlative(adjective)] == forms


@pytest.mark.parametrize("row", rows(IRREGULAR))
def test_irregular_verbs_of_the_lexicon(row):
    words = row.split()
    third = len(words) // 3
    base, past, done = (" ".join(words[start : start + third]) for start in range(0, len(words), third))
    verb = next(word for word in Grammar.load().lexicon.words["verb"] if word.en[""] == base)
    assert (verb.en["past"], verb.en["done"]) == (past, done)


@pytest.mark.parametrize("row", rows(COMMON_PLURALS))
def test_irregular_plurals_of_the_lexicon(row):
    words = row.split()
    noun, plural = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
    assert next(word for word in Grammar.load().lexicon.words["noun"] if word.en[""] == noun).en["many"] == plural


def test_small_irregularities():
    assert morphology.third_person("have") == "has"
    assert morphology.possessive("the students") == "the students'"
    assert morphology.possessive("my mother") == "my mother's"
    assert [morphology.article(word) for word in ("hour", "university", "umbrella", "one")] == ["an", "a", "an", "a"]


@pytest.mark.parametrize(
    ("number", "chinese", "counting", "english", "ordinal"),
    [
        (2, "二", "两", "two", "second"),
        (10, "十", "十", "ten", "tenth"),
        (12, "十二", "十二", "twelve", "twelfth"),
        (20, "二十", "二十", "twenty", "twentieth"),
        (21, "二十一", "二十一", "twenty-one", "twenty-first"),
        (101, "一百零一", "一百零一", "one hundred one", "one hundred first"),
        (110, "一百一十", "一百一十", "one hundred ten", "one hundred tenth"),
        (250, "二百五十", "两百五十", "two hundred fifty", "two hundred fiftieth"),
        (2050, "二千零五十", "两千零五十", "two thousand fifty", "two thousand fiftieth"),
        (10_500, "一万零五百", "一万零五百", "ten thousand five hundred", "ten thousand five hundredth"),
        (300_000, "三十万", "三十万", "three hundred thousand", "three hundred thousandth"),
    ],
)
def test_numbers_in_words(number, chinese, counting, english, ordinal):
    assert numerals.chinese(number) == chinese
    assert numerals.counting(number) == counting
    assert numerals.english(number) == english
    assert numerals.ordinal(number) == ordinal


@given(st.lists(st.integers(1, 999_999), min_size=2, max_size=2, unique=True))
def test_different_numbers_are_named_differently(pair):
    one, other = pair
    assert numerals.chinese(one) != numerals.chinese(other)
    assert numerals.english(one) != numerals.english(other)
