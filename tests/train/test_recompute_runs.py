"""train.recompute gives the same run bit for bit for every part it has a meaning for; others are refused by name."""

import copy

import pytest
import torch
from sameness import same_run

from clearhead.core.errors import ConfigError
from clearhead.model import ModelConfig, Transformer
from clearhead.model.attention import ATTENTIONS
from clearhead.model.feedforward import FEEDFORWARDS
from clearhead.model.norm import NORMS
from clearhead.model.recompute import recompute
from clearhead.model.residual import RESIDUALS
from clearhead.model.stack import STACKS
from clearhead.train import run
from clearhead.train.fitting import require_recomputable

FAMILIES = {"attention": ATTENTIONS, "feedforward": FEEDFORWARDS, "norm": NORMS, "residual": RESIDUALS, "stack": STACKS}
EACH_PART = pytest.mark.parametrize(
    ("family", "kind"), [(family, kind) for family, registry in FAMILIES.items() for kind in registry.names()]
)
SIZES = {"decoder_layers": 0, "encoder_layers": 2, "d_model": 8, "heads": 2, "d_ff": 6, "length": 7, "head": "mlm"}
DROPS = {"dropout": 0.2, "feedforward_dropout": 0.2, "source_vocab": 23, "target_vocab": 23, "tie": "output"}


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    """The page of a run takes longer than these runs."""
    monkeypatch.setattr("clearhead.train.tasks.translation.write_report", lambda *given, **options: None)


def gradients(model: Transformer) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    ids = torch.randint(1, 23, (3, 7), generator=torch.Generator().manual_seed(2))
    model.logits(model.encode(ids).hidden).square().sum().backward()
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def config_of(family: str, kind: str) -> ModelConfig:
    """A small model with that part; a skip where the part is for another kind of model."""
    try:
        return ModelConfig(**{**SIZES, **DROPS, family: kind})
    except ConfigError as error:
        pytest.skip(str(error))


def has_meaning(config: ModelConfig) -> bool:
    return not config.norm_across_tokens and config.stack.kind not in ("gru", "lstm", "rnn")


@EACH_PART
def test_every_part_has_the_same_gradients_or_is_refused_by_name(family, kind):
    config = config_of(family, kind)
    if not has_meaning(config):
        with pytest.raises(ConfigError, match=kind):
            require_recomputable(config)
        return
    require_recomputable(config)
    plain = Transformer(config).train()
    again = copy.deepcopy(plain)
    recompute(again)
    one, other = gradients(plain), gradients(again)
    assert one.keys() == other.keys()
    for name, each in one.items():
        assert torch.equal(each, other[name]), name
    for (name, one), two in zip(plain.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(one, two), name


def test_a_run_that_recomputes_is_the_same_run(tiny, tmp_path):
    settings = ("model.dropout=0.3", "train.updates=4", "train.metric=loss", "train.log_every=1")
    run(tiny(*settings), tmp_path / "plain")
    run(tiny(*settings, "train.recompute=true"), tmp_path / "again")
    same_run(tmp_path / "plain", tmp_path / "again")


def test_a_recipe_without_meaning_is_refused_with_its_key(tiny):
    with pytest.raises(ConfigError, match=r"train\.recompute: norm batchnorm would count every batch twice"):
        tiny("train.recompute=true", "model.norm=batchnorm", "model.decoder_layers=1")
    with pytest.raises(ConfigError, match=r"train\.recompute: a stack of kind lstm has no blocks"):
        tiny("train.recompute=true", "model.stack=lstm")
