"""A packed model is the model that it was made from: for every product, every kind of model, alone and in a batch."""

import pytest
import torch
from torch import nn

from clearhead.core.errors import ConfigError, ModelError
from clearhead.core.registry import Choice
from clearhead.generate import DenseCache, SearchConfig, search
from clearhead.model import OPEN
from clearhead.model.packing import PRODUCTS, packed
from clearhead.model.packing.int8 import Int8
from clearhead.model.packing.plain import Plain

EACH = pytest.mark.parametrize("name", PRODUCTS.names())
KINDS = pytest.mark.parametrize("layers", [(2, 2), (0, 2), (2, 0)], ids=str)


def logits(model, cached: bool = False):
    torch.manual_seed(5)
    source, target = torch.randint(1, 23, (3, 7)), torch.randint(1, 23, (3, 5))
    memory = model.encode(source) if model.config.encoder_layers else None
    if not model.config.decoder_layers:
        return model.logits(memory.hidden)
    if not cached:
        return model.logits(model.decode(target, memory))
    cache, found = DenseCache(model.config.decoder_layers), []
    for place in range(5):
        options = {"positions": torch.full((1, 1), place), "mask": OPEN, "cache": cache}
        found.append(model.logits(model.decode(target[:, place : place + 1], memory, **options)))
    return torch.cat(found, dim=1)


@EACH
@KINDS
@torch.inference_mode()
def test_a_packed_model_computes_the_same(tiny, name, layers):
    model = tiny(encoder_layers=layers[0], decoder_layers=layers[1], feedforward="swiglu")
    expected = logits(model)
    found = logits(packed(model, Choice(kind=name)))
    within = 1e-5 if PRODUCTS.get(name).exact else 0.05 * float(expected.abs().max())
    torch.testing.assert_close(found, expected, atol=within, rtol=0)
    assert PRODUCTS.get(name).exact or not torch.equal(found, expected)


@EACH
@pytest.mark.parametrize("projections", ["fused", "separate"])
@torch.inference_mode()
def test_every_product_of_a_decoder_is_packed(tiny, name, projections):
    reader = packed(tiny(projections=projections), Choice(kind=name))
    logits(reader)
    assert not any(type(each) is nn.Linear for each in reader.modules())
    products = [each for each in reader.modules() if isinstance(each, PRODUCTS.get(name))]
    inside = 2 * (6 if projections == "separate" else 4) + 2 * (10 if projections == "separate" else 7)
    assert len(products) == inside + 1


@EACH
@torch.inference_mode()
def test_with_a_cache_as_without(tiny, name):
    reader = packed(tiny(), Choice(kind=name))
    torch.testing.assert_close(logits(reader, cached=True), logits(reader), atol=1e-5, rtol=0)


@EACH
@torch.inference_mode()
def test_a_text_is_the_same_alone_and_among_others(tiny, name):
    reader = packed(tiny(), Choice(kind=name))
    torch.manual_seed(3)
    sources = [torch.randint(4, 23, (length,)).tolist() for length in (7, 3, 5, 7, 1)]
    config = SearchConfig(beams=3, max_tokens=9)
    together = search(reader, sources, config, bos=2, eos=3)
    alone = [search(reader, [each], config, bos=2, eos=3)[0] for each in sources]
    assert [each[0].tokens for each in together] == [each[0].tokens for each in alone]


@EACH
def test_the_model_stays_as_it_is_and_shares_what_is_not_packed(tiny, name):
    model = tiny()
    before = {key: each.clone() for key, each in model.state_dict().items()}
    kinds = [type(each) for each in model.modules()]
    reader = packed(model, Choice(kind=name))
    assert reader.decoder.embedding.table is model.decoder.embedding.table
    assert kinds == [type(each) for each in model.modules()]
    assert all(torch.equal(before[key], each) for key, each in model.state_dict().items())


@pytest.mark.parametrize("rows", [1, 3, 17])
@pytest.mark.parametrize(("outputs", "inputs"), [(13, 32), (1, 1), (40, 5), (70, 64), (147, 7)])
def test_int8_is_the_rounded_product_computed_in_whole_numbers(rows, outputs, inputs):
    torch.manual_seed(1)
    weight, bias, hidden = torch.randn(outputs, inputs), torch.randn(outputs), torch.randn(rows, 2, inputs)
    product = Int8(weight, bias)
    steps = weight.abs().amax(1, keepdim=True) / 127
    own = hidden.abs().amax(-1, keepdim=True) / 127
    expected = ((hidden / own).round() * own).double() @ ((weight / steps).round() * steps).double().T + bias
    torch.testing.assert_close(product(hidden).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("outputs", [1, 13, 16, 40, 70, 147])
@pytest.mark.parametrize("inputs", [1, 5, 64])
def test_float32_is_the_product_and_a_row_is_the_same_among_any_others(outputs, inputs):
    torch.manual_seed(1)
    weight, bias, hidden = torch.randn(outputs, inputs), torch.randn(outputs), torch.randn(23, inputs)
    product = Plain(weight, bias)
    expected = hidden.double() @ weight.double().T + bias
    with torch.inference_mode():
        alone = torch.cat([product(each[None]) for each in hidden])
        torch.testing.assert_close(alone.double(), expected, atol=1e-5, rtol=1e-5)
        for rows in range(2, 24):
            assert not product.compiled.ready or torch.equal(product(hidden[:rows]), alone[:rows])


def test_int8_of_zeros_is_the_bias():
    product = Int8(torch.zeros(5, 8), torch.arange(5.0))
    assert torch.equal(product(torch.zeros(2, 3, 8)), torch.arange(5.0).expand(2, 3, 5))


def test_a_model_in_training_is_refused(tiny):
    with pytest.raises(ModelError, match=r"training mode.*eval"):
        packed(tiny().train())


def test_an_unknown_product_is_refused(tiny):
    with pytest.raises(ConfigError, match="int8"):
        packed(tiny(), Choice(kind="int7"))
