"""The recorder sees every attention and changes nothing."""

import pytest
import torch

from clearhead.core.errors import ModelError
from clearhead.model import AttentionMask, ModelConfig, Transformer
from clearhead.model.attention import ATTENTIONS, Dot
from clearhead.model.attention.base import Kernel
from clearhead.model.position import POSITIONS, UNRELATED
from clearhead.model.recorder import EVERYTHING, Record, Tap, recording
from clearhead.model.residual import RESIDUALS

DECODING = [name for name in ATTENTIONS.names() if ATTENTIONS.get(name).any_mask]  # never list a family by hand
EACH_KERNEL = pytest.mark.parametrize("attention", DECODING)
SIZES = {"d_model": 12, "heads": 2, "d_ff": 20, "length": 16, "source_vocab": 23, "target_vocab": 23}
VALID = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)


def tiny(*, encoder: int = 2, decoder: int = 2, **options) -> Transformer:
    torch.manual_seed(5)
    return Transformer(ModelConfig(encoder_layers=encoder, decoder_layers=decoder, **SIZES, **options)).eval()


def of_kernel(attention: str, **options) -> Transformer:
    """A model of a kernel, with dot products where it cannot read another sequence."""
    crossing = {} if ATTENTIONS.get(attention).crosses else {"cross_attention": "dot"}
    return tiny(attention=attention, **crossing, **options)


def ids(length: int) -> torch.Tensor:
    return torch.randint(1, 23, (3, length), generator=torch.Generator().manual_seed(length))


def translate(model: Transformer) -> torch.Tensor:
    return model.decode(ids(7), model.encode(ids(5), VALID))


def hooks(model: Transformer) -> int:
    return sum(len(each._forward_hooks) for each in model.modules())


@EACH_KERNEL
def test_every_attention_has_a_name(attention):
    model = of_kernel(attention)
    with torch.inference_mode(), recording(model) as record:
        translate(model)
    shapes = {name: tuple(record[name].shape) for name in record}
    assert shapes == {
        **{f"encoder.blocks.{i}.attention": (3, 2, 5, 5) for i in (0, 1)},
        **{f"decoder.blocks.{i}.attention": (3, 2, 7, 7) for i in (0, 1)},
        **{f"decoder.blocks.{i}.cross": (3, 2, 7, 5) for i in (0, 1)},
    }


@EACH_KERNEL
def test_the_rows_are_distributions_over_the_visible_keys(attention):
    model = of_kernel(attention)
    with recording(model) as record:
        translate(model)
    for name in record:
        weights = record[name]
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
        assert not weights.requires_grad
    assert not record["decoder.blocks.1.attention"].triu(1).any()  # the future
    for name in ("encoder.blocks.0.attention", "decoder.blocks.1.cross"):
        hidden = ~VALID[:, None, None, :].expand_as(record[name])
        assert not record[name][hidden].any()  # padding
        assert record[name][~hidden].all()


@EACH_KERNEL
@pytest.mark.parametrize("training", [False, True])
def test_the_output_is_the_same_bit_for_bit(attention, training):
    rate = 0.2 if ATTENTIONS.get(attention).drops else 0.0
    model = of_kernel(attention, dropout=0.2, attention_dropout=rate).train(training)
    outputs = []
    for context in (torch.enable_grad(), recording(model), torch.enable_grad()):
        torch.manual_seed(1)
        with context:
            outputs.append(translate(model))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_the_weights_are_those_that_mix_the_values():
    """With values that are unit vectors the kernel's output is the weights themselves."""
    kernel = Dot(2, 5, 0.0).eval()
    query, key = torch.randn(2, 3, 2, 5, 5).unbind(0)
    with recording(kernel) as record:
        mixed = kernel(query, key, torch.eye(5).expand(3, 2, 5, 5), AttentionMask(causal=True), UNRELATED)
    torch.testing.assert_close(record[""], mixed)


@pytest.mark.parametrize(("encoder", "decoder"), [(2, 0), (0, 2)])
def test_models_with_one_stack(encoder, decoder):
    model = tiny(encoder=encoder, decoder=decoder)
    with recording(model) as record:
        _ = model.encode(ids(5)) if encoder else model.decode(ids(5))
    side = "encoder" if encoder else "decoder"
    assert list(record) == [f"{side}.blocks.0.attention", f"{side}.blocks.1.attention"]


def test_no_hook_is_left():
    model = tiny()
    with recording(model) as record:
        assert hooks(model) == 6
    assert hooks(model) == 0
    translate(model)
    assert not record.calls


def test_no_hook_is_left_after_an_exception():
    model = tiny()
    with pytest.raises(IndexError), recording(model):
        model.encode(torch.tensor([[99]]))  # an id outside the vocabulary
    assert hooks(model) == 0


def test_a_recording_inside_a_recording_fills_its_own_record():
    model = tiny()
    with recording(model) as outer:
        translate(model)
        with recording(model) as inner:
            translate(model)
    assert {len(calls) for calls in inner.calls.values()} == {1}
    assert {len(calls) for calls in outer.calls.values()} == {2}
    for name in inner:
        assert torch.equal(inner[name], outer.calls[name][1])


def test_another_tap_needs_no_change():
    model = tiny()
    mixed = Tap(at=Kernel, name=lambda path: f"{path}.mixed", take=lambda module, inputs, output: output)
    with recording(model, taps=(mixed,)) as record:
        translate(model)
    assert record["encoder.blocks.0.attention.kernel.mixed"].shape == (3, 2, 5, 6)


def test_a_wrong_name_is_told():
    model = tiny()
    with recording(model) as record:
        translate(model)
        translate(model)
    with pytest.raises(ModelError, match=r"'decoder.blocks.0.crss'.*did you mean 'decoder.blocks.0.cross'"):
        record["decoder.blocks.0.crss"]
    with pytest.raises(ModelError, match="2 calls"):
        record["decoder.blocks.0.cross"]


def everything(**options) -> tuple[Transformer, Record]:
    model = tiny(**options)
    with torch.no_grad(), recording(model, EVERYTHING) as record:
        translate(model)
    return model, record


@pytest.mark.parametrize("residual", RESIDUALS.names())
def test_everything_is_seen_by_layer_and_head(residual):
    _, record = everything(residual=residual, kv_heads=1)
    for side, length in (("encoder", 5), ("decoder", 7)):
        assert record[f"{side}.embedding"].shape == (3, length, 12)
        assert record[f"{side}.last"].shape == (3, length, 12)
        for layer in (0, 1):
            block = f"{side}.blocks.{layer}"
            shapes = {
                f"{block}.attention": (3, 2, length, length),
                f"{block}.attention.scores": (3, 2, length, length),
                f"{block}.attention.queries": (3, 2, length, 6),
                f"{block}.attention.keys": (3, 1, length, 6),
                f"{block}.attention.values": (3, 1, length, 6),
                f"{block}.attention.mixed": (3, 2, length, 6),
                f"{block}.attention_residual": (3, length, 12),
                f"{block}.feedforward_residual.norm": (3, length, 12),
                block: (3, length, 12),
            }
            assert {name: tuple(record[name].shape) for name in shapes} == shapes
    assert record["decoder.blocks.1.cross.scores"].shape == (3, 2, 7, 5)


@EACH_KERNEL
@torch.no_grad()
def test_what_is_seen_is_what_is_computed(attention):
    """Each quantity gives the next one by the formulas of the paper."""
    model, record = everything(attention=attention, cross_attention="dot", residual="pre")
    block, name = model.decoder.blocks[1], "decoder.blocks.1"
    weights, values, mixed = (record[f"{name}.attention{each}"] for each in ("", ".values", ".mixed"))
    torch.testing.assert_close(weights @ values, mixed)
    if f"{name}.attention.scores" in list(record):
        future = torch.ones(7, 7, dtype=torch.bool).triu(1)
        expected = record[f"{name}.attention.scores"].masked_fill(future, -torch.inf).softmax(dim=-1)
        seen = weights.sum(dim=-1) > 0
        visible = weights > 0  # a kernel may see less than the causal rule allows
        if bool((visible | future).all()):
            torch.testing.assert_close(weights[seen], expected[seen])
    joined = block.attention.output(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(record["decoder.blocks.0"] + joined, record[f"{name}.attention_residual"])
    before, after = record[f"{name}.cross_residual"], record[name]
    torch.testing.assert_close(before + block.feedforward(record[f"{name}.feedforward_residual.norm"]), after)
    torch.testing.assert_close(model.decoder.last(after), record["decoder.last"])


@pytest.mark.parametrize("attention", ATTENTIONS.names())
def test_every_kernel_is_seen_in_an_encoder(attention):
    model = tiny(attention=attention, decoder=0)
    with torch.no_grad(), recording(model, EVERYTHING) as record:
        model.encode(ids(5), VALID)
    weights, values, mixed = (record[f"encoder.blocks.1.attention{each}"] for each in ("", ".values", ".mixed"))
    torch.testing.assert_close(weights @ values, mixed)


@pytest.mark.parametrize("position", POSITIONS.names())
def test_queries_and_keys_are_seen_with_their_positions(position):
    model = tiny(encoder=0, position=position)
    with torch.no_grad(), recording(model, EVERYTHING) as record:
        model.decode(ids(7))
    at = "decoder.blocks.1.attention"
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    weights = record[f"{at}.scores"].masked_fill(future, -torch.inf).softmax(dim=-1)
    torch.testing.assert_close(weights, record[at])


def test_everything_leaves_the_output_as_it_was():
    model = tiny()
    expected = translate(model)
    with recording(model, EVERYTHING):
        assert torch.equal(translate(model), expected)
    assert hooks(model) == 0
