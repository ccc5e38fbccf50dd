"""Embeddings: every kind learns and ignores padding; each is its formula, with the parameters that its paper counts."""

import math

import pytest
import torch
import torch.nn.functional as F
from learning import all_move, memorise, right_gradients
from pydantic import ValidationError
from torch import Tensor, nn
from torch_twin import close

from clearhead.core.errors import ConfigError, ModelError
from clearhead.core.registry import Choice
from clearhead.model import ModelConfig, Transformer
from clearhead.model.embedding import EMBEDDINGS, Embedding, Patches, Table

double = pytest.mark.usefixtures("double")
OF_TOKENS = [each for each in EMBEDDINGS.names() if EMBEDDINGS.get(each).reads == "tokens"]
EACH = pytest.mark.parametrize("name", OF_TOKENS)
IDS = torch.tensor([[5, 0, 22, 1, 9, 14, 5], [3, 2, 2, 7, 0, 0, 0], [11, 0, 0, 0, 0, 0, 0]])
PIXELS = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(3))
VIT = {"embedding": "patches", "decoder_layers": 0, "length": 17, "position": "learned", "scale_embedding": False}
VIT |= {"source_vocab": 0, "target_vocab": 0, "head": {"kind": "classify", "labels": 5}}


def build(name: str, vocab: int = 23, **options: object) -> Embedding:
    return EMBEDDINGS.build(Choice(kind=name, options=options), vocab, 12, 0)


def count(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def translation_loss(model: Transformer) -> Tensor:
    """Mean negative log-likelihood of three fixed pairs, in nats per token."""
    source, target = torch.arange(1, 22).view(3, 7), (torch.arange(7, 28) % 22 + 1).view(3, 7)
    return F.cross_entropy(model.logits(model(source, target[:, :-1])).flatten(0, 1), target[:, 1:].flatten())


@EACH
def test_a_model_memorises_one_batch(tiny, name):
    model = tiny(embedding=name, tie="none", encoder_layers=1, decoder_layers=1)
    memorise(model, lambda: translation_loss(model))


@EACH
def test_every_parameter_moves(tiny, name):
    model = tiny(embedding=name, tie="none")
    all_move(model, translation_loss(model))


@EACH
@double
def test_padding_is_inert_and_a_batch_is_its_sentences(tiny, name):
    model, lengths = tiny(embedding=name, tie="none"), [7, 4, 1]
    valid = torch.arange(7) < torch.tensor(lengths)[:, None]
    together = model.encode(IDS, valid).hidden
    for row, length in enumerate(lengths):
        close(together[row, :length], model.encode(IDS[row : row + 1, :length]).hidden[0])


@EACH
@double
def test_the_gradients_are_right(name):
    right_gradients(build(name), IDS.clamp(min=1))


@EACH
@double
def test_a_token_has_one_vector_wherever_it_stands(name):
    embedding = build(name)
    found = embedding.project(embedding(IDS))
    assert found.shape == (3, 7, 12)
    close(found[0, 0], found[0, 6])
    close(found[1, 1], embedding.project(embedding(torch.tensor([[2]])))[0, 0])
    assert len(embedding.project(embedding(torch.arange(23)[None]))[0].unique(dim=0)) == 23


@EACH
def test_a_model_runs_in_bfloat16(tiny, name):
    model, ids = tiny(embedding=name, tie="none"), IDS.clamp(min=1)
    exact = model(ids, ids)
    with torch.autocast("cpu", torch.bfloat16):
        assert F.cosine_similarity(model(ids, ids).float().flatten(), exact.flatten(), dim=0) > 0.99
    rounded = model.to(torch.bfloat16)(ids, ids)
    assert rounded.dtype == torch.bfloat16
    assert F.cosine_similarity(rounded.float().flatten(), exact.flatten(), dim=0) > 0.98


@EACH
def test_a_vocabulary_without_padding_is_refused(name):
    with pytest.raises(ConfigError, match="no row for padding"):
        build(name, vocab=0)


@EACH
def test_what_has_no_table_cannot_be_tied(tiny, name):
    try:
        build(name).matrix()
    except ConfigError:
        with pytest.raises(ConfigError, match=r"no table that an output could share.*tie: none"):
            tiny(embedding=name)
    else:
        model = tiny(embedding=name)
        assert model.output is model.decoder.embedding.matrix()
        memorise(model, lambda: translation_loss(model))


@double
def test_a_table_is_that_of_torch_with_its_gradient():
    ours = Table(23, 12, 0)
    theirs = nn.Embedding(23, 12, padding_idx=0, _weight=ours.table.detach().clone())
    direction = torch.randn(3, 7, 12)
    for each in (ours, theirs):
        (each(IDS) * direction).sum().backward()
    assert torch.equal(ours(IDS), theirs(IDS))
    assert torch.equal(ours.table.grad, theirs.weight.grad)
    close(ours(IDS), F.one_hot(IDS, 23).to(torch.float64) @ ours.table)


@double
def test_each_feature_has_variance_one_once_scaled():
    rows = math.sqrt(512) * Table(4000, 512, 0).table
    assert rows.square().mean().item() == pytest.approx(1.0, rel=0.01)
    assert rows.norm(dim=1).mean().item() == pytest.approx(math.sqrt(512), rel=0.01)


@double
def test_a_factorised_table_is_a_product_of_two():
    ours = build("factorised", width=5)
    close(ours.project(ours(IDS)), (ours.table @ ours.projection.weight.T + ours.projection.bias)[IDS])


@double
def test_a_compositional_embedding_is_a_product_of_two_rows():
    ours = build("compositional", buckets=6)
    for token in range(23):
        expected = ours.quotient[token // 6] * ours.remainder[token % 6]
        close(ours(torch.tensor([token]))[0], expected)


@double
def test_a_hashed_embedding_is_a_weighted_sum_of_its_buckets():
    ours = build("hashed", buckets=6, hashes=3)
    for token in range(1, 23):
        buckets = [
            (a * token + b) % (2**31 - 1) % 6 for a, b in zip(ours.factor.tolist(), ours.shift.tolist(), strict=True)
        ]
        expected = sum(ours.importance[token, k] * ours.table[bucket] for k, bucket in enumerate(buckets))
        close(ours(torch.tensor([token]))[0], expected)
    spread = ours.bucket(torch.arange(20_000)).flatten().bincount(minlength=6)
    assert (spread - 10_000).abs().max() < 500


@double
def test_an_adaptive_embedding_reads_the_table_of_its_band():
    ours = build("adaptive", cutoffs=[4, 11], factor=2)
    assert [tuple(each.shape) for each in ours.tables] == [(4, 12), (7, 6), (12, 3)]
    for band, (start, end) in enumerate([(0, 4), (4, 11), (11, 23)]):
        expected = ours.tables[band] @ ours.projections[band].weight.T
        close(ours(torch.arange(start, end)), expected)


PARAMETERS = {  # of a vocabulary of 1000 words and 12 features
    "table": ({}, 1000 * 12),
    "factorised": ({"width": 5}, 1000 * 5 + 5 * 12 + 12),
    "hashed": ({"buckets": 50, "hashes": 3}, 50 * 12 + 1000 * 3),
    "compositional": ({"buckets": 30}, (math.ceil(1000 / 30) + 30) * 12),
    "quantised": ({}, 1000),  # scales; the codes are no parameters
    "adaptive": ({"cutoffs": [100], "factor": 4}, 100 * 12 + 12 * 12 + 900 * 3 + 3 * 12),
    "sources": ({"sources": ["table", "table"], "join": "gate"}, 2 * 1000 * 12 + 2 * 12),
}


@EACH
def test_the_number_of_parameters_is_the_formula(name):
    options, expected = PARAMETERS[name]
    assert count(build(name, 1000, **options)) == expected


@pytest.mark.parametrize("cutoffs", [[5, 5], [7, 3], [23], [30]])
def test_bands_must_ascend(cutoffs):
    with pytest.raises(ConfigError, match="cutoffs must ascend"):
        build("adaptive", cutoffs=cutoffs)


@double
@pytest.mark.parametrize("join", ["sum", "concat", "gate"])
def test_several_sources_are_joined_as_named(join):
    ours = build("sources", sources=["table", {"kind": "factorised", "width": 5}, "compositional"], join=join)
    vectors = [each.project(each(IDS)) for each in ours.sources]
    if join == "sum":
        expected = sum(vectors)
    elif join == "concat":  # W [a; b; c] = W_a a + W_b b + W_c c
        expected = sum(
            each @ part.T for each, part in zip(vectors, ours.join.linear.weight.split(12, dim=1), strict=True)
        )
    else:
        scores = torch.stack([each @ score for each, score in zip(vectors, ours.join.score, strict=True)]).exp()
        expected = sum(
            (score / scores.sum(dim=0))[..., None] * each for score, each in zip(scores, vectors, strict=True)
        )
    close(ours(IDS), expected)


def test_a_wrong_source_is_refused_in_the_recipe():
    with pytest.raises(ValidationError, match="did you mean 'table'"):
        ModelConfig(embedding={"kind": "sources", "sources": ["tabel"]})


def test_sources_survive_the_config_file():
    config = ModelConfig(embedding={"kind": "sources", "sources": ["table", {"kind": "hashed", "hashes": 3}]})
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


@double
@pytest.mark.parametrize(("channels", "image", "size"), [(1, 8, 2), (3, 6, 3), (2, 5, 5)])
def test_patches_are_a_convolution_whose_stride_is_its_width(channels, image, size):
    ours = Patches(0, 12, 0, image=image, size=size, channels=channels)
    weight = ours.projection.weight.view(12, channels, size, size)
    pixels = torch.randn(3, channels, image, image)
    expected = F.conv2d(pixels, weight, ours.projection.bias, stride=size).flatten(2).mT
    close(ours(pixels)[:, 1:], expected, 1e-12)
    close(ours(pixels)[:, 0], ours.first.expand(3, -1), 0)
    assert ours.length(pixels) == ours(pixels).shape[1] == (image // size) ** 2 + 1


def test_pictures_can_do_without_a_class_token():
    assert Patches(0, 12, 0, class_token=False)(PIXELS).shape == (3, 16, 12)


def test_a_vision_transformer_memorises_one_batch(tiny):
    model, labels = tiny(**VIT), torch.tensor([4, 0, 2])
    memorise(model, lambda: F.cross_entropy(model.logits(model(PIXELS, None)), labels))


def test_every_parameter_of_a_vision_transformer_moves(tiny):
    model = tiny(**VIT)
    all_move(model, F.cross_entropy(model.logits(model(PIXELS, None)), torch.tensor([4, 0, 2])))


@double
def test_a_batch_of_pictures_is_its_pictures(tiny):
    model, pixels = tiny(**VIT), PIXELS.double()
    for row in range(3):
        close(model(pixels, None)[row], model(pixels[row : row + 1], None)[0])


def test_pictures_of_another_size_are_refused(tiny):
    with pytest.raises(ModelError, match=r"found \(1, 9, 9\); expected \(1, 8, 8\)"):
        tiny(**VIT).encode(torch.randn(3, 1, 9, 9))
    with pytest.raises(ConfigError, match="must tile the image"):
        Patches(0, 12, 0, image=8, size=3)
    with pytest.raises(ValidationError, match="embedding patches cannot serve a decoder"):
        tiny(embedding="patches")


def test_a_quantised_table_is_off_by_half_a_scale_at_most():
    table, ours = torch.randn(1000, 12) * torch.logspace(-3, 3, 1000)[:, None], build("quantised", 1000)
    table[7] = 0.0
    ours.load(table)
    found = ours(torch.arange(1000)[None])[0]
    error = (found - table).abs()
    assert (error <= ours.scales[:, None] * 0.5 * (1 + 1e-4)).all()
    assert (error.amax(dim=1) > ours.scales * 0.1)[ours.codes.any(dim=1)].all()
    assert torch.equal(found[7], torch.zeros(12))
    assert ours.codes.abs().amax(dim=1)[table.any(dim=1)].eq(127).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_quantised_table_takes_a_byte_a_number_and_a_scale_a_row(dtype):
    ours = build("quantised", 1000).to(dtype)
    held = sum(each.nbytes for each in (*ours.parameters(), *ours.buffers()))
    assert held == 1000 * 12 + 1000 * dtype.itemsize


def test_the_codes_of_a_quantised_table_survive_saving(tiny):
    model, other = tiny(embedding="quantised", tie="none"), tiny(embedding="quantised", tie="none")
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(IDS, IDS), model(IDS, IDS))


def has_rows(embedding: Embedding) -> bool:
    """Whether one of its tensors is a row of numbers for each token, so that it can hold any vectors."""
    shapes = {each.shape for each in (*embedding.parameters(recurse=False), *embedding.buffers(recurse=False))}
    return (23, embedding.width) in shapes


@EACH
def test_learned_vectors_are_taken_over_or_refused(name):
    embedding = build(name)
    vectors = torch.randn(23, embedding.width)
    if not has_rows(embedding):
        with pytest.raises(ModelError, match=r"no row for each token.*load into a table"):
            embedding.load(vectors)
    else:
        embedding.load(vectors)
        torch.testing.assert_close(embedding(IDS), vectors[IDS], rtol=0, atol=vectors.abs().max().item() / 127)


def test_learned_vectors_of_another_shape_are_refused():
    with pytest.raises(ModelError, match=r"found \(23, 11\); expected \(23, 12\)"):
        build("table").load(torch.randn(23, 11))
