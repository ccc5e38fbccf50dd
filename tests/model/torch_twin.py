"""The modules of torch with our weights: which of their parameters is which of ours."""

import torch
from torch import Tensor, nn

from clearhead.model import Transformer
from clearhead.model.stack import Stack

ATTENTION = {
    "in_proj_weight": "projections.weight",
    "in_proj_bias": "projections.bias",
    "out_proj.weight": "output.weight",
    "out_proj.bias": "output.bias",
}
NORMS = {
    False: {"norm1": "attention_residual.norm", "norm2": "feedforward_residual.norm"},
    True: {"norm1": "attention_residual.norm", "norm2": "cross_residual.norm", "norm3": "feedforward_residual.norm"},
}


def layer_names(*, cross: bool) -> dict[str, str]:
    """Name of a parameter in torch's layer -> name in our block."""
    names = {f"self_attn.{theirs}": f"attention.{ours}" for theirs, ours in ATTENTION.items()}
    if cross:
        names |= {f"multihead_attn.{theirs}": f"cross.{ours}" for theirs, ours in ATTENTION.items()}
    modules = {"linear1": "feedforward.inner", "linear2": "feedforward.outer", **NORMS[cross]}
    return names | {f"{t}.{kind}": f"{o}.{kind}" for t, o in modules.items() for kind in ("weight", "bias")}


def pairs(ours: Stack, theirs: nn.Module) -> list[tuple[nn.Parameter, nn.Parameter]]:
    """Our parameters of a stack beside theirs; fails if one is left over on either side."""
    cross = isinstance(theirs, nn.TransformerDecoder)
    own, other = dict(ours.named_parameters()), dict(theirs.named_parameters())
    own.pop("embedding.table")
    matched = []
    for index in range(len(ours.blocks)):
        for their_name, our_name in layer_names(cross=cross).items():
            matched.append((own.pop(f"blocks.{index}.{our_name}"), other.pop(f"layers.{index}.{their_name}")))
    for kind in ("weight", "bias"):
        if f"last.{kind}" in own:
            matched.append((own.pop(f"last.{kind}"), other.pop(f"norm.{kind}")))
    assert not own
    assert not other
    return matched


def twin(model: Transformer) -> tuple[nn.Transformer, list[tuple[nn.Parameter, nn.Parameter]]]:
    """torch's encoder-decoder of the same sizes with copies of our weights, and the pairs of parameters."""
    config = model.config
    options = {
        "d_model": config.d_model,
        "nhead": config.heads,
        "dim_feedforward": config.d_ff,
        "dropout": 0.0,
        "activation": config.feedforward.kind,
        "batch_first": True,
        "norm_first": config.residual.kind == "pre",
    }
    norms = [nn.LayerNorm(config.d_model) if options["norm_first"] else None for _ in range(2)]
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**options), config.encoder_layers, norms[0], enable_nested_tensor=False
    )
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**options), config.decoder_layers, norms[1])
    theirs = nn.Transformer(
        custom_encoder=encoder, custom_decoder=decoder, d_model=config.d_model, nhead=config.heads, batch_first=True
    )
    matched = [*pairs(model.encoder, encoder), *pairs(model.decoder, decoder)]
    shake(model)
    copy(matched)
    return theirs, matched


def shake(model: nn.Module) -> None:
    """Move every parameter a little, so that biases and gains are not at 0 and 1."""
    with torch.no_grad():
        for each in model.parameters():
            each.add_(0.1 * torch.randn_like(each))


def copy(matched: list[tuple[nn.Parameter, nn.Parameter]]) -> None:
    """Give their parameters the values of ours."""
    with torch.no_grad():
        for own, other in matched:
            other.copy_(own)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    """Equal up to an absolute difference."""
    torch.testing.assert_close(found, expected, rtol=0.0, atol=tolerance)
