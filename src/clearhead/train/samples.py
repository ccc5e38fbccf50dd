"""A few words from a language model, to read while it trains."""

import torch

from clearhead.model import Transformer
from clearhead.text import Tokenizer

TOKENS = 80
TEMPERATURE = 0.8


@torch.inference_mode()
def sampled_text(model: Transformer, tokenizer: Tokenizer, *, tokens: int = TOKENS, seed: int = 0) -> str:
    """Text that a decoder-only model draws token by token after bos, until eos; the same for the same seed."""
    draws = torch.Generator().manual_seed(seed)
    ids = [tokenizer.need("bos")]
    device = next(model.parameters()).device
    while len(ids) <= tokens:
        seen = torch.tensor([ids[-model.config.length :]], device=device)  # (1, length)
        logits = model.logits(model.decode(seen)[:, -1])[0].float().cpu()  # (vocab,)
        ids.append(int(torch.multinomial((logits / TEMPERATURE).softmax(dim=-1), 1, generator=draws)))
        if ids[-1] == tokenizer.eos:
            break
    return tokenizer.decode(ids)
