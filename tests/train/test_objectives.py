"""Objectives: losses against explicit loops, no leak of what is to be predicted, packed = separate, parts = whole."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clearhead.core.errors import TokenizerError
from clearhead.core.registry import Choice
from clearhead.data.labelled import labelled_batch
from clearhead.data.readings import SentencePair
from clearhead.model import Transformer
from clearhead.text import train_tokenizer
from clearhead.train.objectives import OBJECTIVES, TextObjective
from clearhead.train.objectives.causal import Causal
from clearhead.train.objectives.permutation import Permutation, permutation_batch, stream_mask
from clearhead.train.objectives.prefix import Prefix, prefix_batch
from clearhead.train.objectives.replaced_token import filled

pytestmark = pytest.mark.usefixtures("double")

SENTINELS = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
TEXT_OBJECTIVES = [name for name in OBJECTIVES.names() if issubclass(OBJECTIVES.get(name), TextObjective)]  # type: ignore[arg-type]
EACH_OBJECTIVE = pytest.mark.parametrize("name", TEXT_OBJECTIVES)
HEADS = {"tokens": {"kind": "tokens", "labels": 1}}
PAD = 0


@pytest.fixture(scope="module")
def tokenizer():
    options = {"extra_tokens": SENTINELS}
    return train_tokenizer(Choice(kind="char", options=options), ["abcdefghijklmno"])


@pytest.fixture
def model(tokenizer) -> Callable[..., Transformer]:
    """A function from the name of an objective to a tiny model that it can train, in eval mode."""
    from clearhead.model import ModelConfig

    def make(name: str, **changes: Any) -> Transformer:
        part = OBJECTIVES.get(name)
        layers = {"encoder_layers": 2, "decoder_layers": 0}
        if part.kinds[0] == "decoder-only":
            layers = {"encoder_layers": 0, "decoder_layers": 2}
        sizes = {"d_model": 12, "heads": 2, "d_ff": 20, "length": 32, "dropout": 0.0}
        head = HEADS.get(part.heads[0], part.heads[0])
        vocab = {"source_vocab": tokenizer.vocab_size, "target_vocab": tokenizer.vocab_size, "pad": tokenizer.pad}
        config = {**layers, **sizes, **vocab, "head": head, "segments": 2, "tie": "output", **changes}
        config["segments"] = 2 if part.kinds[0] == "encoder-only" else 0
        return Transformer(ModelConfig.model_validate(config)).eval()

    return make


def rows(name: str, tokenizer, count: int = 3, seed: int = 0) -> list[Any]:
    """Rows as the readings of an objective give them."""
    random = np.random.default_rng(seed)

    def text(size):
        return random.integers(8, tokenizer.vocab_size, size)

    if OBJECTIVES.get(name).readings == ("sentence_pairs",):
        return [SentencePair(text(4 + n), text(6), bool(n % 2)) for n in range(count)]
    ends = [tokenizer.bos], [tokenizer.eos]
    return [
        [np.concatenate([ends[0], text(3 + n), ends[1]]), np.concatenate([ends[0], text(7), ends[1]])]
        for n in range(count)
    ]


@EACH_OBJECTIVE
def test_every_parameter_moves_and_the_loss_is_finite(name, model, tokenizer):
    objective = OBJECTIVES.build(Choice(kind=name))
    learner = objective.learner(model(name)).train()
    batch = objective.collator(tokenizer, 32)(rows(name, tokenizer, 8), np.random.default_rng(0))
    loss = objective(learner, batch)
    assert loss.count == batch.tokens > 0
    loss.value.backward()
    still = [key for key, each in learner.named_parameters() if each.grad is None or not each.grad.abs().sum() > 0]
    assert not still


@EACH_OBJECTIVE
def test_parts_of_a_batch_add_up_to_the_whole(name, model, tokenizer, monkeypatch):
    """Gradients of 1 + 3 + 4 rows, summed, are those of the 8 together: the promise that accumulation stands on."""
    from clearhead.train.objectives import replaced_token

    monkeypatch.setattr(replaced_token, "sampled", lambda logits: logits.argmax(dim=-1))
    objective = OBJECTIVES.build(Choice(kind=name))
    learner, given = objective.learner(model(name)), rows(name, tokenizer, 8)
    collate = objective.collator(tokenizer, 32)
    batches = [collate([row], np.random.default_rng(n)) for n, row in enumerate(given)]
    gradients = []
    for parts in ([[0], [1, 2, 3], [4, 5, 6, 7]], [list(range(8))]):
        learner.zero_grad()
        for part in parts:
            whole = joined([batches[index] for index in part])
            objective(learner, whole).value.backward()
        gradients.append([each.grad.clone() for each in learner.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def joined(batches: list[Any]) -> Any:
    """Several batches of one row as one batch."""
    kind = type(batches[0])
    values = {}
    for name in vars(batches[0]):
        each = [getattr(batch, name) for batch in batches]
        if name == "tokens":
            values[name] = sum(each)
        elif each[0] is None:
            values[name] = None
        else:
            width = max(tensor.shape[-1] for tensor in each)
            values[name] = torch.cat([F.pad(t, (0, width - t.shape[-1])) if t.dim() > 1 else t for t in each])
    return kind(**values)


@EACH_OBJECTIVE
def test_the_same_draws_give_the_same_batch(name, tokenizer):
    collate = OBJECTIVES.build(Choice(kind=name)).collator(tokenizer, 40)
    given = rows(name, tokenizer, 8)
    one, two = (collate(given, np.random.default_rng(3)) for _ in range(2))
    for key, each in vars(one).items():
        assert torch.equal(each, getattr(two, key)) if isinstance(each, torch.Tensor) else each == getattr(two, key)


@EACH_OBJECTIVE
def test_documents_side_by_side_are_as_documents_alone(name, model, tokenizer, monkeypatch):
    """Packed = separate in float64: the loss of a row is the sum of the losses of its documents."""
    from clearhead.train.objectives import replaced_token

    if OBJECTIVES.get(name).readings == ("sentence_pairs",):
        pytest.skip("a pair is a row of its own")
    monkeypatch.setattr(replaced_token, "sampled", lambda logits: logits.argmax(dim=-1))
    objective = OBJECTIVES.build(Choice(kind=name))
    learner, collate = objective.learner(model(name)), objective.collator(tokenizer, 32)
    given = rows(name, tokenizer, 3)
    packed = objective(learner, collate(given, np.random.default_rng(5)))
    draws = np.random.default_rng(5)
    alone = [objective(learner, collate([[piece]], draws)) for row in given for piece in row]
    assert packed.count == sum(each.count for each in alone)
    assert packed.value.item() == pytest.approx(sum(each.value.item() for each in alone), abs=1e-10)


def test_causal_is_the_sum_of_step_by_step_losses(model, tokenizer):
    learner, given = model("causal"), rows("causal", tokenizer, 3)
    batch = Causal().collator(tokenizer, 32)(given, np.random.default_rng(0))
    expected = 0.0
    for row in given:
        for piece in map(torch.from_numpy, row):
            for end in range(1, len(piece)):
                logits = learner.logits(learner.decode(piece[None, :end]))[0, -1]
                expected -= logits.log_softmax(dim=-1)[piece[end]].item()
    assert Causal()(learner, batch).value.item() == pytest.approx(expected, abs=1e-10)


def test_causal_probabilities_of_all_texts_sum_to_one(model):
    """Enumerate: sum over every text of 3 tokens of p(text | first token)."""
    vocab = 7
    learner = model("causal", source_vocab=vocab, target_vocab=vocab)
    texts = torch.cartesian_prod(*(torch.arange(vocab) for _ in range(2)))
    from clearhead.data.text_batches import TextBatch

    first = torch.full((len(texts), 1), 2)
    ids = torch.cat([first, texts], dim=1)
    total = 0.0
    for each in ids:
        batch = TextBatch(2, each[None, :-1], each[None, 1:], torch.ones(1, 2, dtype=torch.bool))
        total += math.exp(-Causal()(learner, batch).value.item())
    assert total == pytest.approx(1.0, abs=1e-10)


def test_a_prefix_model_is_an_encoder_then_a_decoder(model, tokenizer):
    """The loss against attention drawn by hand: prefix keys for all, the rest causal, no document sees another."""
    learner, given = model("prefix"), rows("prefix", tokenizer, 2)
    sizes = [[2, 3], [1, 6]]
    flags = [
        [(np.arange(len(piece) - 1) < size).astype(np.int64) for piece, size in zip(row, each, strict=True)]
        for row, each in zip(given, sizes, strict=True)
    ]
    loss = Prefix()(learner, prefix_batch(given, flags, 24, PAD))
    expected, count = 0.0, 0
    for row, each in zip(given, sizes, strict=True):
        for piece, size in zip(row, each, strict=True):
            ids = torch.from_numpy(piece)[None, :-1]
            allowed = torch.tril(torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool))
            allowed[:, :size] = True
            from clearhead.model import AttentionMask

            logits = learner.logits(learner.decode(ids, mask=AttentionMask(allowed=allowed)))[0]
            for place in range(size - 1, ids.shape[1]):
                expected -= logits[place].log_softmax(dim=-1)[piece[place + 1]].item()
                count += 1
    assert loss.count == count
    assert loss.value.item() == pytest.approx(expected, abs=1e-10)


def test_what_a_prefix_model_predicts_it_has_not_read(model, tokenizer):
    learner = model("prefix")
    given = rows("prefix", tokenizer, 1)
    flags = [[(np.arange(len(piece) - 1) < 3).astype(np.int64) for piece in given[0]]]
    before = prefix_batch(given, flags, 24, PAD)
    changed = [[piece.copy() for piece in given[0]]]
    changed[0][1][4] = 8 + (changed[0][1][4] - 7) % 10  # place 8 of the row, after the prefix of 3
    after = prefix_batch(changed, flags, 24, PAD)
    from clearhead.model import AttentionMask
    from clearhead.train.objectives.prefix import visible

    one, other = (
        learner.decode(
            each.ids, mask=AttentionMask(segments=each.segments, allowed=visible(each.prefix)), positions=each.positions
        )
        for each in (before, after)
    )
    torch.testing.assert_close(one[:, :8], other[:, :8], atol=1e-12, rtol=0)
    assert not torch.allclose(one[:, 8], other[:, 8])
    assert before.counted[0, 4:8].tolist() == [False, False, True, True]


def test_prefixes_of_every_length_are_drawn(tokenizer):
    collate = Prefix().collator(tokenizer, 16)
    piece = [[np.array([2, 8, 9, 10, 3])]]
    lengths = {int(collate(piece, np.random.default_rng(seed)).prefix.sum()) for seed in range(60)}
    assert lengths == {1, 2, 3, 4}


def test_fill_in_the_middle_keeps_the_ends_and_counts_every_token(tokenizer):
    objective = OBJECTIVES.build(Choice(kind="fill_in_the_middle", options={"share": 1.0, "suffix_first": 0.0}))
    collate = objective.collator(tokenizer, 16)
    piece = np.array([tokenizer.bos, 8, 9, 10, 11, tokenizer.eos])
    batch = collate([[piece]], np.random.default_rng(0))
    text = [batch.ids[0, 0].item(), *batch.labels[0][batch.counted[0]].tolist()]
    assert text[0] == tokenizer.bos
    assert text[-1] == tokenizer.eos
    assert sorted(text) == sorted([*piece.tolist(), *map(tokenizer.token_id, SENTINELS)])
    assert text[1] == tokenizer.token_id("<fim_prefix>")
    whole = OBJECTIVES.build(Choice(kind="fill_in_the_middle", options={"share": 0.0})).collator(tokenizer, 16)
    assert whole([[piece]], np.random.default_rng(0)).labels[0, :5].tolist() == piece[1:].tolist()


def test_a_vocabulary_without_the_sentinels_is_refused():
    with pytest.raises(TokenizerError, match="no token '<fim_prefix>'"):
        OBJECTIVES.build(Choice(kind="fill_in_the_middle")).collator(train_tokenizer("char", ["abc"]), 16)


def test_masks_are_drawn_anew_and_something_is_always_masked(tokenizer):
    options = {"choose": {"kind": "token", "rate": 0.01}}
    collate = OBJECTIVES.build(Choice(kind="masked", options=options)).collator(tokenizer, 32)
    given = rows("masked", tokenizer, 2)
    batches = [collate(given, np.random.default_rng(seed)) for seed in range(9)]
    assert len({tuple(map(tuple, each.counted.tolist())) for each in batches}) > 1
    assert all(each.tokens >= 4 for each in batches)  # one a piece


def test_masked_loss_is_cross_entropy_at_the_chosen_places(model, tokenizer):
    learner, objective = model("masked"), OBJECTIVES.build(Choice(kind="masked"))
    torch.nn.init.normal_(learner.head.bias)
    given = [[np.concatenate([[2], np.arange(8, 18), [3]])] for _ in range(3)]
    batch = objective.collator(tokenizer, 12)(given, np.random.default_rng(0))
    logits = learner.logits(learner.encode(batch.ids).hidden)
    expected = F.cross_entropy(logits[batch.counted], batch.labels[batch.counted], reduction="sum")
    torch.testing.assert_close(objective(learner, batch).value, expected, atol=1e-10, rtol=0)


def test_the_two_streams_see_what_the_order_allows():
    """One document with order 3, 1 after the given tokens; a second document beside it."""
    given = [[np.array([2, 8, 9, 10]), np.array([2, 11])]]
    ranks = [[np.array([-1, 1, -1, 0]), np.array([-1, 0])]]
    batch = permutation_batch(given, ranks, 7, pad=PAD)
    assert batch.places.tolist() == [[1, 3, 5]]
    seen = stream_mask(batch)[0, 0].int().tolist()
    assert seen == [
        # content                query
        [1, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        [1, 0, 1, 1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        [1, 0, 1, 1, 0, 0, 0, 1, 0, 0],  # place 1 has rank 1: sees the given tokens and place 3
        [1, 0, 1, 0, 0, 0, 0, 0, 1, 0],  # place 3 comes first
        [0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
    ]


def test_a_query_of_the_permutation_never_sees_its_token_or_later_ones(model, tokenizer):
    """The Jacobian of the loss of a place towards tokens at its own and later ranks is exactly 0."""
    learner, objective = model("permutation"), Permutation(share=1.0)
    objective.collator(tokenizer, 8)
    ids, ranks = np.array([2, 8, 9, 10, 11, 12, 3]), np.array([-1, 2, 0, 4, 1, 3, -1])
    batch = permutation_batch([[ids]], [[ranks]], 7, pad=PAD)
    states = {}

    def keep(module, inputs, output):
        output.requires_grad_(True)
        output.retain_grad()
        states["embedded"] = output

    handle = learner.encoder.embedding.register_forward_hook(keep)
    from clearhead.train.objectives.permutation import two_streams

    hidden = two_streams(learner, batch, objective.mask)
    handle.remove()
    for slot, place in enumerate(batch.places[0].tolist()):
        (gradient,) = torch.autograd.grad(hidden[0, slot].pow(3).sum(), states["embedded"], retain_graph=True)
        moved = gradient[0, :7].abs().sum(dim=-1) > 0
        assert moved.tolist() == (ranks < ranks[place]).tolist()


def test_a_permutation_in_reading_order_is_a_causal_model_with_queries(model, tokenizer):
    """In the order 0, 1, 2, ... the probability of a text is a product of conditionals that sum to one."""
    total, vocab = 0.0, 7
    learner, objective = model("permutation", source_vocab=vocab, target_vocab=vocab), Permutation(share=1.0)
    objective.collator(tokenizer, 8)
    for one in range(vocab):
        for two in range(vocab):
            batch = permutation_batch([[np.array([2, one, two])]], [[np.array([-1, 1, 0])]], 3, pad=PAD)
            total += math.exp(-objective(learner, batch).value.item())
    assert total == pytest.approx(1.0, abs=1e-10)


def test_replaced_tokens_are_those_that_changed(model, tokenizer):
    objective = OBJECTIVES.build(Choice(kind="replaced_token", options={"rate": 0.4}))
    learner = objective.learner(model("replaced_token"))
    assert learner.generator.head.matrix is learner.discriminator.encoder.embedding.table
    batch = objective.collator(tokenizer, 24)(rows("replaced_token", tokenizer), np.random.default_rng(0))
    words = batch.labels[batch.counted].clone()
    words[0] = 8 + (words[0] - 7) % 5
    read = filled(batch, words)
    assert (read.ids != batch.labels).sum() == 1
    assert torch.equal(read.ids[~batch.counted], batch.labels[~batch.counted])
    loss = objective(learner, batch)
    assert objective.product(learner) is learner.discriminator
    parts = loss.metrics["generator_loss"] + 50 * loss.metrics["detection_loss"]
    assert loss.value.item() == pytest.approx(parts.item(), abs=1e-10)


@pytest.mark.parametrize("kind", ["encoder-only", "decoder-only"])
def test_classification_is_cross_entropy_and_padding_does_not_matter(model, kind):
    layers = {"encoder_layers": 2, "decoder_layers": 0} if kind == "encoder-only" else {}
    layers = layers or {"encoder_layers": 0, "decoder_layers": 2}
    head = {"kind": "classify", "labels": 3, "pooling": "first" if kind == "encoder-only" else "last"}
    learner = model("masked", **layers, head=head, tie="none")
    objective = OBJECTIVES.build(Choice(kind="classification"))
    texts = [np.array([2, 8, 9, 3]), np.array([2, 10, 3]), np.array([2, 8, 11, 12, 9, 3])]
    types = 3 if kind == "encoder-only" else None
    loss = objective(learner, labelled_batch(texts, [0, 2, 1], pad=PAD, sep=types))
    alone = [
        objective(learner, labelled_batch([text], [label], pad=PAD, sep=types))
        for text, label in zip(texts, (0, 2, 1), strict=True)
    ]
    assert loss.count == 3
    assert loss.value.item() == pytest.approx(sum(each.value.item() for each in alone), abs=1e-10)
    assert loss.metrics["accuracy"].item() == sum(each.metrics["accuracy"].item() for each in alone)
