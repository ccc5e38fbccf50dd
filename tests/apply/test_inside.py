"""What is seen inside a model is what the model does: attention by its formula, words by its head, heads by loops."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from clearhead.apply.heads import summaries
from clearhead.apply.inside import LONGEST, Inside
from clearhead.apply.twin import twin
from clearhead.core.errors import ClearheadError, ConfigError, DataError, ModelError, TokenizerError
from clearhead.model.recorder import recording
from clearhead.text import NO_TOKENIZER
from clearhead.text.config import train_tokenizer
from engine_models import models as every_model

EACH_KIND = pytest.mark.parametrize("kind", ["encoder-decoder", "encoder-only", "decoder-only"])
VOCAB = train_tokenizer("byte", ["irrelevant"]).vocab_size
TEXT = "ab ac"


def weights_by_formula(model, tokens):
    """Attention of the first layer of a decoder, from the embeddings on: loops over heads and queries."""
    attention, config = model.decoder.blocks[0].attention, model.config
    hidden = model.decoder.embedding_sum(model.decoder.embedding(tokens), torch.arange(tokens.shape[1])[None])
    query, key, _ = attention.projections.all(hidden)
    length, found = tokens.shape[1], np.zeros((config.heads, tokens.shape[1], tokens.shape[1]))
    for head in range(config.heads):
        for place in range(length):
            scores = [float(query[0, head, place] @ key[0, head, other]) for other in range(place + 1)]
            powers = [math.exp(each / math.sqrt(config.sizes.d_head)) for each in scores]
            found[head, place, : place + 1] = np.array(powers) / sum(powers)
    return found


def test_attention_is_that_of_the_formula(make):
    model = make("decoder-only", position="sinusoidal")
    look = Inside(model).look(TEXT)
    with torch.inference_mode():
        expected = weights_by_formula(model.bundle.model, torch.tensor([[each.id for each in look.decoder]]))
    np.testing.assert_allclose(look.attention[0].weights, expected, atol=6e-5)  # four digits


@EACH_KIND
def test_the_last_layer_of_the_lens_is_the_model(make, kind):
    model = make(kind)
    look = Inside(model).look(TEXT, "xy" if kind == "encoder-decoder" else None)
    source = torch.tensor([[each.id for each in look.encoder]])
    read = torch.tensor([[each.id for each in look.decoder or look.encoder]])
    shares = model.logits(read, source if kind == "encoder-decoder" else None)[0].softmax(dim=-1)
    best, which = shares[:, :VOCAB].topk(5, dim=-1)
    np.testing.assert_array_equal(look.lens.ids[-1], which.numpy())
    np.testing.assert_allclose(look.lens.probabilities[-1], best.numpy(), atol=1e-5)
    np.testing.assert_allclose(look.lens.final[-1], best[:, 0].numpy(), atol=1e-5)
    assert look.lens.layers == list(range(len(look.lens.layers)))


def test_an_earlier_layer_is_a_model_that_ends_there(make):
    whole = make("decoder-only", decoder_layers=3, residual="pre")
    look = Inside(whole).look(TEXT)
    model = whole.bundle.model
    read = torch.tensor([[each.id for each in look.decoder]])
    for layers in (1, 2):
        short = twin(model)
        del short.decoder.blocks[layers:]
        with torch.inference_mode():
            shares = short.logits(short.decode(read))[0].softmax(dim=-1)
        np.testing.assert_array_equal(look.lens.ids[layers][:, 0], shares.argmax(dim=-1).numpy())
        np.testing.assert_allclose(look.lens.probabilities[layers][:, 0], shares.amax(dim=-1).numpy(), atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("crosses", [True, False])
def test_a_head_in_numbers_is_what_loops_count(causal, crosses):
    draws = np.random.default_rng(3)
    weights = draws.dirichlet(np.ones(5), size=(2, 5))
    if causal:
        weights = np.tril(weights)
        weights /= weights.sum(axis=-1, keepdims=True)
    for head, found in zip(weights, summaries(weights, causal=causal, crosses=crosses), strict=True):
        rows = range(1 if causal else 0, 5)
        entropy = [-sum(w * math.log(w) for w in head[i] if w > 0) for i in rows]
        assert found.entropy == pytest.approx(np.mean(entropy), abs=1e-4)
        assert found.peak == pytest.approx(np.mean([max(head[i]) for i in rows]), abs=1e-4)
        assert found.first == pytest.approx(np.mean([head[i][0] for i in rows]), abs=1e-4)
        if crosses:
            assert found.previous is found.itself is found.distance is None
            continue
        far = [sum(head[i][j] * abs(i - j) for j in range(5)) for i in rows]
        before = [head[i][i - 1] if i else 0.0 for i in rows]
        assert found.distance == pytest.approx(np.mean(far), abs=1e-4)
        assert found.previous == pytest.approx(np.mean(before), abs=1e-4)
        assert found.itself == pytest.approx(np.mean([head[i][i] for i in rows]), abs=1e-4)


def test_heads_without_weight_have_no_entropy():
    (found,) = summaries(np.zeros((1, 3, 3)), causal=False, crosses=False)
    assert (found.entropy, found.peak, found.distance) == (0.0, 0.0, 0.0)


def test_an_alignment_is_the_cross_attention_that_chose_each_token(make):
    model = make()
    found = Inside(model).alignment("abc", "xyz")
    bundle = model.bundle
    source = torch.tensor([[*bundle.source.encode("abc"), bundle.source.need("eos")]])
    read = torch.tensor([[bundle.target.need("bos"), *bundle.target.encode("xy")]])
    with torch.inference_mode(), recording(bundle.model) as record:
        bundle.model.decode(read, bundle.model.encode(source))
    expected = [record[f"decoder.blocks.{layer}.cross"][0].mean(dim=0) for layer in range(len(found.layers))]
    for layer, each in zip(found.layers, expected, strict=True):
        np.testing.assert_allclose(layer, each.numpy(), atol=1e-4)
    assert [each.text for each in found.output] == ["x", "y", "z"]
    assert [each.kind for each in found.source] == ["text", "text", "text", "special"]


def test_a_look_is_not_seen_by_others_nor_does_it_see_them(make):
    model = make("decoder-only")
    inside, others = Inside(model), []
    with recording(model.bundle.model) as record:
        inside.look(TEXT)
        others.append(len(record.calls))
    stop, plain = threading.Event(), model.bundle.model

    def busy():
        while not stop.is_set():
            with torch.inference_mode():
                plain.decode(torch.randint(5, 99, (2, 9)))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        looks = [inside.look(TEXT) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    assert others == [0]
    assert all(np.array_equal(each.attention[0].weights, looks[0].attention[0].weights) for each in looks)


def test_many_may_look_at_the_same_time(make):
    inside, texts = Inside(make("decoder-only")), ["ab ac", "b", "acab bca", "cc a"] * 5
    alone = [inside.look(text) for text in texts[:4]]
    with ThreadPoolExecutor(4) as pool:
        looks = list(pool.map(inside.look, texts))
    for number, each in enumerate(looks):
        assert len(each.attention) == len(alone[number % 4].attention)
        for left, right in zip(each.attention, alone[number % 4].attention, strict=True):
            np.testing.assert_array_equal(left.weights, right.weights)


def test_a_twin_has_the_same_weights_and_no_more(make):
    model = make().bundle.model
    other = twin(model)
    assert {id(each) for each in other.parameters()} == {id(each) for each in model.parameters()}
    assert not {id(each) for each in other.modules()} & {id(each) for each in model.modules()}


PARTS = [pytest.param(config, id=special) for special, config in every_model() if not special.startswith("llama")]


@pytest.mark.parametrize("config", PARTS)
def test_every_part_can_be_looked_at(make, config):
    sizes = {"source_vocab": VOCAB, "target_vocab": VOCAB, "dropout": 0.0}
    try:
        model = make(config.kind, **{**config.model_dump(mode="json"), **sizes})
    except ConfigError:
        pytest.skip("no model has these parts together")
    if any(each.embedding.reads != "tokens" for name, each in model.bundle.model.named_children() if "coder" in name):
        with pytest.raises(ModelError, match="not text"):
            Inside(model)
        return
    look = Inside(model).look("abc", "xy" if config.kind == "encoder-decoder" else None)
    assert all(np.isfinite(each.weights).all() for each in look.attention)
    assert all(each.weights.shape == (config.heads, *each.weights.shape[1:]) for each in look.attention)
    assert look.lens is None or np.isfinite(look.lens.probabilities).all()
    assert all(np.isfinite(each.values).all() for each in look.pictures)
    assert (look.keeping is None) == (config.kind == "encoder-only")


def test_shared_layers_are_seen_each_time_they_run(make):
    look = Inside(make("decoder-only", decoder_layers=3, layer_groups=1)).look(TEXT)
    assert [each.layer for each in look.attention] == [1, 2, 3]
    assert look.lens.layers == [0, 1, 2, 3]


def test_the_positions_are_drawn_as_the_scheme_says(make):
    table, likeness = Inside(make("decoder-only")).look("a").pictures
    assert (table.kind, likeness.kind) == ("added", "likeness")
    angle = 3 / 10_000 ** (2 / 12)
    assert table.values[0, 3, 2:4] == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-6)
    assert likeness.values[0].diagonal() == pytest.approx(np.ones(64), abs=1e-5)
    (bias,) = Inside(make("decoder-only", position="alibi")).look("a").pictures
    assert bias.values.shape == (2, 64, 64)
    assert bias.values[0, 9, 2] == pytest.approx(-7 * 2**-4)
    rotated, _ = Inside(make("decoder-only", position="rope")).look("a").pictures
    assert rotated.values[0, 0] == pytest.approx(np.ones(6))
    assert Inside(make("decoder-only", position="none")).look("a").pictures == []


def test_the_cache_grows_by_keys_and_values(make):
    keeping = Inside(make()).look("abc", "x").keeping
    assert keeping.per_token == 2 * 12 * 4 * make().bundle.model.config.decoder_layers
    assert keeping.source == 4 * keeping.per_token  # three bytes and the end of the sentence


def test_an_encoder_decoder_without_a_target_reads_its_own_translation(make):
    model = make()
    look = Inside(model).look("abc")
    text = model.translate(["abc"])[0]
    assert [each.id for each in look.decoder[1:]] == model.bundle.target.encode(text)


def test_a_hidden_word_is_one_token(make):
    model = make("encoder-only")
    ids = [each.id for each in Inside(model).look("ab <mask> c").encoder]
    tokenizer = model.bundle.target
    assert [*tokenizer.encode("ab "), tokenizer.mask, *tokenizer.encode(" c")] == ids[-6:]
    assert tokenizer.mask not in [each.id for each in Inside(make()).look("a <mask>").encoder]


@pytest.mark.parametrize(("text", "complaint"), [("", "no token"), ("a" * 500, "too long to look inside; found")])
def test_what_cannot_be_looked_at_is_told(make, text, complaint):
    for kind in ("encoder-decoder", "encoder-only"):
        with pytest.raises(DataError, match=complaint):
            Inside(make(kind)).look(text)


def test_the_limit_falls_with_the_number_of_heads(make):
    assert Inside(make("decoder-only", length=999)).limit == LONGEST
    assert Inside(make("decoder-only", length=999, d_model=120, heads=60, decoder_layers=3)).limit == 149
    assert Inside(make("decoder-only", position="learned")).limit == 40


def test_models_that_cannot_are_refused_with_a_reason(make):
    with pytest.raises(ModelError, match="does not look from one text at another"):
        Inside(make("decoder-only")).alignment("a", "b")
    with pytest.raises(DataError, match="no token in the output"):
        Inside(make()).alignment("a", "")
    nameless = make("decoder-only")
    nameless.bundle.source = nameless.bundle.target = NO_TOKENIZER
    with pytest.raises(TokenizerError, match="without a tokenizer"):
        Inside(nameless)
    broken = make("decoder-only")
    with torch.no_grad():
        next(broken.bundle.model.decoder.blocks[0].parameters()).fill_(math.nan)
    with pytest.raises(ClearheadError, match="numbers that are none"):
        Inside(broken).look("a")


@EACH_KIND
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("position", ["sinusoidal", "rope", "alibi"])
def test_other_number_formats_are_looked_at_alike(make, kind, dtype, position):
    expected = Inside(make(kind, position=position)).look(TEXT, "xy" if kind == "encoder-decoder" else None)
    model = make(kind, position=position)
    model.bundle.model.to(dtype)
    look = Inside(model).look(TEXT, "xy" if kind == "encoder-decoder" else None)
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-3
    for found, known in zip(look.attention, expected.attention, strict=True):
        np.testing.assert_allclose(found.weights, known.weights, atol=tolerance)
    np.testing.assert_allclose(look.lens.final[-1], expected.lens.final[-1], atol=tolerance)
    for found, known in zip(look.pictures, expected.pictures, strict=True):
        np.testing.assert_allclose(found.values, known.values, atol=0.1 * np.abs(known.values).max())
    if look.keeping is not None:
        assert look.keeping.per_token * 4 == expected.keeping.per_token * dtype.itemsize
