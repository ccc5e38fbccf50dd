"""A token store gives back what was written, and nothing else is ever opened as one."""

import json
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearhead.core.errors import DataError
from clearhead.data.store import Store, open_stores, write_stores


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 69_999), max_size=9), st.lists(st.integers(0, 69_999), max_size=9))),
    st.sampled_from([70_000, 1 << 31]),
)
@settings(max_examples=25, deadline=None)
def test_what_goes_in_comes_out(rows, vocab):
    with tempfile.TemporaryDirectory() as folder:
        stores = write_stores(Path(folder) / "stores", 2, iter(rows), vocab)
        for column, store in enumerate(stores):
            assert [store[index].tolist() for index in range(len(store))] == [list(row[column]) for row in rows]
            assert store.lengths(0, len(store)).tolist() == [len(row[column]) for row in rows]
            assert store.tokens == sum(len(row[column]) for row in rows)


@pytest.mark.parametrize(("vocab", "width"), [(65_536, 2), (65_537, 4)])
def test_an_id_takes_no_more_bytes_than_it_needs(vocab, width, tmp_path):
    write_stores(tmp_path / "stores", 1, [([vocab - 1, 0, 1],)], vocab)
    assert (tmp_path / "stores/0/tokens.bin").stat().st_size == 3 * width
    assert open_stores(tmp_path / "stores", 1)[0][0].tolist() == [vocab - 1, 0, 1]


def test_lengths_of_a_stretch_begin_anywhere(stores):
    store = stores([(3, 1), (1, 1), (4, 1), (1, 1), (5, 1)])[0]
    assert store.lengths(2, 4).tolist() == [4, 1]


def test_an_index_outside_is_an_error(stores):
    store = stores([(1, 1), (2, 2)])[0]
    assert [each.tolist() for each in store] == [[0], [1, 1]]
    for index in (2, -1):
        with pytest.raises(IndexError):
            store[index]


def test_a_failing_source_leaves_no_folder(tmp_path):
    def rows():
        yield ([1], [2])
        raise DataError("line 2 is broken")

    with pytest.raises(DataError, match="line 2 is broken"):
        write_stores(tmp_path / "stores", 2, rows(), 10)
    assert list(tmp_path.iterdir()) == []


def test_a_row_with_a_missing_side_is_refused(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        write_stores(tmp_path / "stores", 2, [([1],)], 10)
    assert list(tmp_path.iterdir()) == []


def damage(name: str, change):
    def apply(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return apply


@pytest.mark.parametrize(
    "harm",
    [
        damage("tokens.bin", lambda raw: raw[:-1]),
        damage("tokens.bin", lambda raw: raw[:-2]),
        damage("tokens.bin", lambda raw: b""),
        damage("tokens.bin", lambda raw: raw + b"\0\0"),
        damage("ends.bin", lambda raw: raw[:-3]),
        damage("ends.bin", lambda raw: raw[:-8]),
        damage("ends.bin", lambda raw: b""),
        damage("store.json", lambda raw: raw[:9]),
        damage("store.json", lambda raw: b"[]"),
        damage("store.json", lambda raw: b"{}"),
        damage("store.json", lambda raw: b'{"sequences": 7, "dtype": "uint16"}'),
        damage("store.json", lambda raw: b'{"sequences": "x", "dtype": "uint16"}'),
        damage("store.json", lambda raw: b'{"sequences": 3, "dtype": "object"}'),
        damage("store.json", lambda raw: b'{"sequences": 3, "dtype": ["uint16"]}'),
        lambda folder: (folder / "ends.bin").unlink(),
        lambda folder: (folder / "tokens.bin").unlink(),
        lambda folder: (folder / "store.json").unlink(),
    ],
)
def test_damage_is_told_in_one_line(harm, stores, tmp_path):
    stores([(1, 1), (2, 2), (3, 3)])
    folder = tmp_path / "stores" / "0"
    harm(folder)
    with pytest.raises(DataError) as caught:
        Store(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_sequence_at_all_is_a_store_too(stores):
    assert [len(each) for each in stores([])] == [0, 0]


def test_writing_and_reading_hold_one_row_at_a_time(tmp_path):
    rows = (([n % 500] * 20, [n % 500] * 25) for n in range(30_000))
    tracemalloc.start()
    stores = write_stores(tmp_path / "stores", 2, rows, 500)
    total = sum(len(store[index]) for store in stores for index in range(0, len(store), 7))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 0
    assert peak < 1_000_000  # the ids alone are 2.7 MB on disk and 10 MB as int64


def test_an_old_store_is_replaced_as_a_whole(stores, tmp_path):
    stores([(1, 1)] * 5)
    assert len(stores([(2, 2)] * 3)[0]) == 3
    assert json.loads((tmp_path / "stores/0/store.json").read_text())["sequences"] == 3
    assert [each.name for each in tmp_path.iterdir()] == ["stores"]


def test_ids_are_int64_whatever_their_width_on_disk(stores):
    assert stores([(2, 2)])[0][0].dtype == np.int64
