"""Groups of parameters: counted by closed forms, frozen and thawed by name."""

import pytest
import torch
from torch import nn

from clearhead.core.errors import ModelError, TrainingError
from clearhead.core.registry import Choice
from clearhead.data.batches import translation_batch
from clearhead.model import Transformer
from clearhead.model.accounting import parameters
from clearhead.model.inventory import Group, freeze, inventory, thaw
from clearhead.model.stack import STACKS
from clearhead.train.objectives import OBJECTIVES
from clearhead.train.optimizers import OPTIMIZERS, parameter_groups

KINDS = {
    "one table": {},
    "untied": {"tie": "none", "position": "learned", "residual": "pre", "projections": "separate"},
    "decoder-only": {"encoder_layers": 0, "position": "learned"},
    "encoder-only": {
        "decoder_layers": 0,
        "segments": 2,
        "embedding_norm": True,
        "norm": "batchnorm",
        "head": "mlm",
        "tie": "none",
    },
    "shared layers": {"layer_groups": 1, "feedforward": "swiglu"},
} | {stack: {"stack": stack, "decoder_layers": 0} for stack in STACKS.names()}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)
DECODER_ATTENTION = "decoder.*.attention"


def trained(model: nn.Module) -> set[str]:
    return {name for name, each in model.named_parameters() if each.requires_grad}


def learn(model: Transformer, updates: int = 3) -> None:
    """A few updates with weight decay on toy sentence pairs."""
    optimizer = OPTIMIZERS.build(Choice(kind="adamw", options={"weight_decay": 0.1}))(parameter_groups(model))
    objective = OBJECTIVES.build(Choice(kind="translation"))
    pairs = [[5, 6, 7], [8, 9], [10]], [[11, 12], [13, 14, 15], [16]]
    batch = translation_batch(*pairs, pad=0, bos=1, eos=2)
    for _ in range(updates):
        objective(model.train(), batch).value.backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.01
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def test_the_sizes_of_groups_are_their_closed_forms(tiny):
    """Two layers of width 12, inner width 20, 23 words."""
    norm, attention, feedforward = 2 * 12, 4 * (12 * 12 + 12), 2 * 12 * 20 + 20 + 12
    sizes = {name: group.parameters for name, group in inventory(tiny()).items()}
    both = {
        f"{side}.*.{name}": 2 * size
        for side in ("encoder", "decoder")
        for name, size in {
            "attention": attention,
            "feedforward": feedforward,
            "attention_residual": norm,
            "feedforward_residual": norm,
        }.items()
    }
    assert sizes == {
        **both,
        "decoder.*.cross": 2 * attention,
        "decoder.*.cross_residual": 2 * norm,
        "encoder.embedding": 23 * 12,
    }


@EACH_KIND
def test_groups_add_up_to_the_model_and_to_its_account(tiny, kind):
    model = tiny(**KINDS[kind])
    sizes = [group.parameters for group in inventory(model).values()]
    assert sum(sizes) == sum(each.numel() for each in model.parameters()) == sum(parameters(model.config).values())


@EACH_KIND
def test_every_group_freezes_itself_and_nothing_else(tiny, kind):
    model = tiny(**KINDS[kind])
    whole = inventory(model)
    for name, group in whole.items():
        freeze(model, [name])
        assert inventory(model) == {**whole, name: Group(group.parameters, 0)}
        thaw(model, [name])
        assert inventory(model) == whole


def test_a_star_stands_for_any_block(tiny):
    model = tiny()
    everything = trained(model)
    freeze(model, [DECODER_ATTENTION, "encoder.blocks.0.feedforward.inner.weight"])
    frozen = everything - trained(model)
    inside = {
        each for each in everything if each.startswith(("decoder.blocks.0.attention.", "decoder.blocks.1.attention."))
    }
    assert frozen == inside | {"encoder.blocks.0.feedforward.inner.weight"}


def test_one_of_the_three_projections_can_be_frozen_where_they_are_separate(tiny):
    model = tiny(projections="separate")
    everything = trained(model)
    freeze(model, ["*.projections.key"])
    frozen = everything - trained(model)
    assert len(frozen) == 2 * 6  # weight and bias of two encoder and four decoder attentions
    assert all(".projections.key." in each for each in frozen)


def test_a_shared_table_is_frozen_by_any_of_its_names(tiny):
    for name in ("encoder.embedding", "decoder.embedding.table", "head", "output"):
        model = tiny()
        freeze(model, [name])
        assert inventory(model)["encoder.embedding"].trained == 0


@pytest.mark.parametrize(
    "groups", [[DECODER_ATTENTION], ["encoder", "decoder.*.cross"], ["head"], ["*.weight", "*.table"]]
)
def test_what_is_frozen_gets_no_gradient_and_does_not_move(tiny, groups):
    model = tiny()
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    freeze(model, groups)
    learning = trained(model)
    learn(model)
    moved = {name for name, each in model.named_parameters() if not torch.equal(each, before[name])}
    assert moved == learning
    assert learning
    assert all(each.grad is None for each in model.parameters() if not each.requires_grad)


def test_a_frozen_part_changes_no_gradient_of_the_others(tiny):
    free, held = tiny(), tiny()
    held.load_state_dict(free.state_dict())
    freeze(held, [DECODER_ATTENTION, "head"])
    batch = translation_batch([[5, 6, 7], [8]], [[9], [10, 11]], pad=0, bos=1, eos=2)
    for model in (free, held):
        OBJECTIVES.build(Choice(kind="translation"))(model, batch).value.backward()
    for one, other in zip(free.parameters(), held.parameters(), strict=True):
        assert other.grad is None or torch.equal(one.grad, other.grad)


def test_thawed_groups_learn_again(tiny):
    model = tiny()
    everything = trained(model)
    freeze(model, ["encoder", "decoder"])
    thaw(model, [DECODER_ATTENTION])
    assert trained(model) == {each for each in everything if ".attention." in each and each.startswith("decoder.")}
    thaw(model, ["*"])
    assert trained(model) == everything


MISTAKES = {
    "decoder.*.atention": r"did you mean 'decoder\.\*\.attention'\?",
    "encodr": r"did you mean 'encoder'\?",
    "decoder.blocks.7.attention": r"did you mean 'decoder",
    "qqq": r"one of .*decoder\.\*\.cross",
}


@pytest.mark.parametrize("group", MISTAKES)
def test_a_wrong_group_is_refused_with_the_nearest_and_nothing_is_frozen(tiny, group):
    model = tiny()
    with pytest.raises(ModelError, match=MISTAKES[group]):
        freeze(model, ["encoder", group])
    assert trained(model) == {name for name, _ in model.named_parameters()}


def test_a_model_of_which_nothing_is_trained_has_no_optimiser(tiny):
    model = tiny()
    freeze(model, ["*"])
    with pytest.raises(TrainingError, match="every parameter is frozen"):
        parameter_groups(model)
