"""Heads: every one learns, ignores padding, and gives its loss what the loss needs."""

import copy

import pytest
import torch
import torch.nn.functional as F
from learning import all_move, memorise
from pydantic import ValidationError
from torch import Tensor, nn
from torch_twin import close, shake

from clearhead.core.errors import ConfigError
from clearhead.model import ModelConfig, Transformer
from clearhead.model.head import HEADS, POOLINGS

double = pytest.mark.usefixtures("double")
EACH = pytest.mark.parametrize("name", HEADS.names())
NEEDED = {name: {key: 3 for key in HEADS.options(name) if key == "labels"} for name in HEADS.names()}
IDS = torch.tensor([[5, 0, 22, 1, 9, 14, 5], [3, 2, 2, 7, 0, 0, 0], [11, 0, 0, 0, 0, 0, 0]])
LENGTHS = [7, 4, 1]
VALID = torch.arange(7) < torch.tensor(LENGTHS)[:, None]


def encoder(tiny, name: str, **changes: object) -> Transformer:
    options = {**NEEDED[name], **changes.pop("options", {})}
    return tiny(decoder_layers=0, head={"kind": name, **options}, **changes)


def loss(model: Transformer) -> Tensor:
    """Cross-entropy of arbitrary labels, of every score that the head gives."""
    hidden = model.encode(IDS, VALID).hidden
    scores = model.logits(hidden, VALID)
    scores = scores if scores.dim() == 2 else scores[VALID]
    total = F.cross_entropy(scores, torch.arange(len(scores)) % scores.shape[1])
    pairs = model.head.pairs(hidden) if model.config.head.kind == "pretraining" else None
    return total if pairs is None else total + F.cross_entropy(pairs, torch.tensor([1, 0, 0]))


@EACH
@pytest.mark.parametrize("tie", ["none", "all"])
def test_every_parameter_moves(tiny, name, tie):
    model = encoder(tiny, name, tie=tie)
    shake(model)
    all_move(model, loss(model))


@EACH
def test_a_model_memorises_one_batch(tiny, name):
    model = encoder(tiny, name)
    memorise(model, lambda: loss(model))


@EACH
@double
def test_padding_is_inert_and_a_batch_is_its_sentences(tiny, name):
    model = encoder(tiny, name)
    shake(model)
    together = model.logits(model.encode(IDS, VALID).hidden, VALID)
    for row, length in enumerate(LENGTHS):
        alone = model.logits(model.encode(IDS[row : row + 1, :length]).hidden)[0]
        close(together[row] if together.dim() == 2 else together[row, :length], alone)


@EACH
@double
def test_what_a_loss_takes_gives_the_same_scores(tiny, name):
    head = encoder(tiny, name).head
    shake(head)
    hidden = torch.randn(3, 7, 12)
    if head.linear:
        features = head.transform(hidden, VALID)
        bias = 0 if head.bias is None else head.bias
        close(head(hidden, VALID), features @ head.matrix.T + bias)
    else:
        close(head(hidden, VALID).exp().sum(dim=-1), torch.ones(3, 7))


@EACH
@double
def test_the_gradient_of_a_head_is_right(tiny, name):
    head = encoder(tiny, name).head
    shake(head)
    assert torch.autograd.gradcheck(lambda x: head(x, VALID), torch.randn(3, 7, 12, requires_grad=True), fast_mode=True)


@EACH
def test_a_head_runs_in_bfloat16(tiny, name):
    model = encoder(tiny, name)
    hidden = torch.randn(3, 7, 12)
    exact = model.logits(hidden, VALID)
    rounded = copy.deepcopy(model).to(torch.bfloat16).logits(hidden.bfloat16(), VALID)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model.logits(hidden, VALID)
    for each in (rounded, mixed):
        assert F.cosine_similarity(each.float().flatten(), exact.flatten(), dim=0) > 0.99


@EACH
def test_a_head_survives_the_config_file(name):
    config = ModelConfig(head={"kind": name, **NEEDED[name]})
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


@EACH
@pytest.mark.parametrize("tie", ["none", "all"])
def test_a_narrow_table_is_reached(tiny, name, tie):
    model = encoder(tiny, name, tie=tie, embedding={"kind": "factorised", "width": 5})
    all_move(model, loss(model))
    if HEADS.get(name).linear and model.output.shape[0] == 23:
        assert model.output.shape == ((23, 12) if tie == "none" else (23, 5))


@double
def test_a_language_model_may_scale_and_shift(tiny):
    plain, changed = tiny(), tiny(head={"kind": "lm", "bias": True, "scale": 12**-0.5})
    shake(changed)
    hidden = torch.randn(3, 7, 12)
    close(plain.logits(hidden), hidden @ plain.output.T)
    close(changed.logits(hidden), 12**-0.5 * hidden @ changed.output.T + changed.head.bias)


@double
@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_pooling_looks_at_valid_tokens_only(pooling):
    hidden = torch.randn(3, 7, 12)
    sides = {"right": VALID, "left": VALID.flip(1)}
    for side, valid in sides.items():
        found = POOLINGS[pooling](hidden, valid)
        for row, length in enumerate(LENGTHS):
            own = hidden[row, :length] if side == "right" else hidden[row, 7 - length :]
            by_hand = {"first": own[0], "last": own[-1], "mean": own.mean(dim=0), "max": own.max(dim=0).values}
            close(found[row], by_hand[pooling])


@double
def test_an_adaptive_softmax_is_that_of_torch(tiny):
    options = {"cutoffs": [4, 11], "factor": 2}
    head = encoder(tiny, "adaptive", options=options).head
    theirs = nn.AdaptiveLogSoftmaxWithLoss(12, 23, [4, 11], div_value=2)
    theirs.head.weight.data = head.matrix.data
    for tail, narrow, words in zip(theirs.tail, head.narrow, head.words, strict=True):
        tail[0].weight.data, tail[1].weight.data = narrow.weight.data, words.weight.data
    hidden = torch.randn(19, 12)
    close(head(hidden), theirs.log_prob(hidden), 1e-12)
    labels = torch.randint(23, (19,))
    close(F.nll_loss(head(hidden), labels), theirs(hidden, labels).loss, 1e-12)


def test_labels_are_needed_by_name():
    with pytest.raises(ValidationError, match="needs the option 'labels'"):
        ModelConfig(head="classify")
    with pytest.raises(ValidationError, match="did you mean 'classify'"):
        ModelConfig(head="clasify")


def test_an_only_head_of_labels_leaves_no_output_matrix_behind(tiny):
    model = tiny(decoder_layers=0, head={"kind": "classify", "labels": 5})
    assert model.output.shape == (5, 12)
    assert [name for name, each in model.named_parameters() if each.shape == (23, 12)] == ["encoder.embedding.table"]


def test_a_vocabulary_without_rows_has_no_scores(tiny):
    with pytest.raises(ConfigError, match="no row for padding"):
        tiny(embedding="patches", decoder_layers=0, source_vocab=0, target_vocab=0, tie="none")
