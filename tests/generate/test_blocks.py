"""Whatever is asked of the blocks in whatever order: none is lost, none is given twice, none is shared wrongly."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.generate.blocks import Blocks

SIZE = 2
TEXT = st.lists(st.integers(0, 1), min_size=1, max_size=9)  # two words only, so that texts often begin alike
STEP = st.one_of(
    st.tuples(st.just("begin"), TEXT, st.sampled_from([None, "root"])),
    st.tuples(st.just("grow"), st.integers(0, 99), st.integers(0, 1)),
    st.tuples(st.just("fork"), st.integers(0, 99), st.none()),
    st.tuples(st.just("end"), st.integers(0, 99), st.booleans()),
)


class Writer:
    """A text in blocks, as the engine uses them; `memory` is what a cache would hold in each slot of each block."""

    def __init__(self, blocks: Blocks, memory: dict, tokens: list[int], root: object) -> None:
        self.blocks, self.memory, self.tokens, self.root = blocks, memory, tokens, root
        self.table = blocks.hold(blocks.find(tokens, root))
        known = len(self.table) * SIZE
        assert known < len(tokens)
        self.check(known)
        self.table += blocks.take(blocks.needed(len(tokens)) - len(self.table))
        for at in range(known, len(tokens)):
            self.write(at)
        blocks.remember(tokens, self.table, root)

    def write(self, at: int) -> None:
        """Keys and values depend on the root and on all tokens up to their own."""
        assert self.blocks.holders(self.table[at // SIZE]) == 1
        self.memory[self.table[at // SIZE], at % SIZE] = (self.root, tuple(self.tokens[: at + 1]))

    def grow(self, token: int) -> None:
        at = len(self.tokens)
        if at % SIZE == 0:
            self.table += self.blocks.take(1)
        elif self.blocks.holders(self.table[-1]) > 1:
            old, self.table[-1] = self.table[-1], self.blocks.replace(self.table[-1])
            self.memory.update({(self.table[-1], i): self.memory[old, i] for i in range(at % SIZE)})
        self.tokens.append(token)
        self.write(at)

    def check(self, known: int) -> None:
        for at in range(known):
            assert self.memory[self.table[at // SIZE], at % SIZE] == (self.root, tuple(self.tokens[: at + 1]))


@given(st.lists(STEP, max_size=60), st.integers(5, 12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_block_is_lost_or_shared_wrongly(steps, count, shares):
    blocks, memory, writers = Blocks(count, SIZE, shares=shares), {}, []
    for step, value, more in steps:
        one = writers[value % len(writers)] if writers and step != "begin" else None
        if step == "begin" and blocks.free >= blocks.needed(len(value)):
            writers.append(Writer(blocks, memory, list(value), more))
        elif step == "grow" and one and blocks.free:
            one.grow(more)
        elif step == "fork" and one:
            child = object.__new__(Writer)
            child.__dict__.update(one.__dict__, tokens=list(one.tokens), table=blocks.hold(one.table))
            writers.append(child)
        elif step == "end" and one:
            if more:
                blocks.remember(one.tokens, one.table, one.root)
            blocks.release(one.table)
            writers.remove(one)
        held = Counter(block for each in writers for block in each.table)
        assert [blocks.holders(each) for each in range(count)] == [held[each] for each in range(count)]
        assert blocks.held == len(held)
        assert blocks.free == count - len(held)
        for each in writers:
            each.check(len(each.tokens))
    for each in writers:
        blocks.release(each.table)
    assert blocks.free == count
    assert sorted(blocks.take(count)) == list(range(count))


def test_a_text_finds_what_it_begins_with_and_computes_its_last_token():
    blocks = Blocks(10, 2, shares=True)
    table = blocks.take(3)
    blocks.remember([1, 2, 3, 4, 5], table)
    assert blocks.find([1, 2, 3, 4, 5, 6]) == table[:2]
    assert blocks.find([1, 2, 3, 4]) == table[:1]
    assert blocks.find([1, 2, 9, 4, 5]) == table[:1]
    assert blocks.find([1, 2, 3, 4, 5], root="another source") == []
    blocks.release(table)
    assert blocks.find([1, 2, 3, 4, 5]) == table[:2]
    blocks.take(9)  # one of the two is forgotten: the end of the text
    assert blocks.find([1, 2, 3, 4, 5]) == table[:1]


def test_nothing_is_found_where_nothing_is_shared():
    blocks = Blocks(4, 2, shares=False)
    table = blocks.take(2)
    blocks.remember([1, 2, 3], table)
    assert blocks.find([1, 2, 3]) == []
