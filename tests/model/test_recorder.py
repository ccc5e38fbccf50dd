"""The recorder sees every attention and changes nothing."""

import pytest
import torch

from clearhead.core.errors import ModelError
from clearhead.model import AttentionMask, ModelConfig, Transformer
from clearhead.model.attention import ATTENTIONS, Dot
from clearhead.model.attention.base import Kernel
from clearhead.model.recorder import Tap, recording

EACH_KERNEL = pytest.mark.parametrize("attention", ATTENTIONS.names())  # never list a family by hand
SIZES = {"d_model": 12, "heads": 2, "d_ff": 20, "length": 16, "source_vocab": 23, "target_vocab": 23}
VALID = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)


def tiny(*, encoder: int = 2, decoder: int = 2, **options) -> Transformer:
    torch.manual_seed(5)
    return Transformer(ModelConfig(encoder_layers=encoder, decoder_layers=decoder, **SIZES, **options)).eval()


def ids(length: int) -> torch.Tensor:
    return torch.randint(1, 23, (3, length), generator=torch.Generator().manual_seed(length))


def translate(model: Transformer) -> torch.Tensor:
    return model.decode(ids(7), model.encode(ids(5), VALID))


def hooks(model: Transformer) -> int:
    return sum(len(each._forward_hooks) for each in model.modules())


@EACH_KERNEL
def test_every_attention_has_a_name(attention):
    model = tiny(attention=attention)
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
    model = tiny(attention=attention)
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
    model = tiny(attention=attention, dropout=0.2, attention_dropout=0.2).train(training)
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
        mixed = kernel(query, key, torch.eye(5).expand(3, 2, 5, 5), AttentionMask(causal=True), None)
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
