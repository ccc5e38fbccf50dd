"""The causal objective on models of transformers, against the loss that they compute themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clearhead.bundle.exchange import import_model
from clearhead.core.registry import Choice
from clearhead.data.text_batches import TextBatch, shifted
from clearhead.model import Transformer
from clearhead.train.objectives import OBJECTIVES
from hf_models import MODELS, saved

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

MODELS_OF_LANGUAGE = [(name, special) for name in ("GPT2LMHeadModel", "LlamaForCausalLM") for special in MODELS[name]]
EACH = pytest.mark.parametrize(("name", "special"), MODELS_OF_LANGUAGE)
PAD, TOLERANCE = 1, 1e-5
LENGTHS = [8, 5, 3]


def both(folder: Path, name: str, special: str) -> tuple[Any, Transformer]:
    """Theirs without dropout, and ours with the same weights."""
    theirs = saved(folder, name, MODELS[name][special])
    return theirs, import_model(folder).bundle.model.eval()


def texts(lengths: list[int]) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.integers(4, 23, length) for length in lengths]


def own_loss(model: Transformer, batch: TextBatch) -> torch.Tensor:
    loss = OBJECTIVES.build(Choice(kind="causal"))(model, batch)
    assert loss.count == int(batch.counted.sum())
    return loss.value / loss.count


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (found - expected).abs().item() < TOLERANCE


@EACH
def test_the_loss_of_full_rows_is_theirs(tmp_path, name, special):
    theirs, ours = both(tmp_path, name, special)
    rows = texts([8, 8, 8])
    ids = torch.from_numpy(np.stack(rows))
    batch = shifted([[each] for each in rows], 7, PAD)
    assert batch.segments is None  # the fast path: nothing but the causal mask
    assert_equal(own_loss(ours, batch), theirs(ids, labels=ids).loss)


@EACH
def test_the_loss_of_rows_of_several_lengths_is_theirs(tmp_path, name, special):
    theirs, ours = both(tmp_path, name, special)
    rows = texts(LENGTHS)
    valid = torch.arange(8) < torch.tensor(LENGTHS)[:, None]
    ids = torch.full((3, 8), PAD)
    for row, each in zip(ids, rows, strict=True):
        row[: len(each)] = torch.from_numpy(each)
    expected = theirs(ids, attention_mask=valid.long(), labels=ids.masked_fill(~valid, -100)).loss
    assert_equal(own_loss(ours, shifted([[each] for each in rows], 7, PAD)), expected)


@EACH
def test_the_loss_of_packed_rows_is_that_of_their_texts_apart(tmp_path, name, special):
    theirs, ours = both(tmp_path, name, special)
    rows = texts(LENGTHS)
    apart = [
        theirs(ids, labels=ids).loss * (ids.shape[1] - 1) for ids in (torch.from_numpy(each)[None] for each in rows)
    ]
    batch = shifted([rows], sum(LENGTHS), PAD)
    assert_equal(own_loss(ours, batch), sum(apart) / (sum(LENGTHS) - len(LENGTHS)))


@EACH
def test_the_gradient_of_their_word_vectors_is_ours(tmp_path, name, special):
    """Through every layer, and where the table is tied through the output as well."""
    theirs, ours = both(tmp_path, name, special)
    rows = texts([8, 8, 8])
    ids = torch.from_numpy(np.stack(rows))
    theirs(ids, labels=ids).loss.backward()
    own_loss(ours, shifted([[each] for each in rows], 7, PAD)).backward()
    found, expected = ours.decoder.embedding.table.grad, theirs.get_input_embeddings().weight.grad
    assert expected.abs().max() > 1e-3
    assert (found - expected).abs().max() < TOLERANCE
