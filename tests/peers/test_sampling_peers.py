"""Sampler steps are the logits processors and warpers of transformers."""

import pytest
import torch
from torch.testing import assert_close

from clearhead.generate.sampling import Chooser, SamplingConfig

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers
process = transformers.generation.logits_process
VOCAB, EOS, PROMPT = 23, 2, [1, 5, 5, 9]

PAIRS = {
    "temperature": lambda value: process.TemperatureLogitsWarper(value),
    "top_k": lambda value: process.TopKLogitsWarper(value),
    "top_p": lambda value: process.TopPLogitsWarper(value),
    "min_p": lambda value: process.MinPLogitsWarper(value),
    "typical": lambda value: process.TypicalLogitsWarper(value),
    "repetition_penalty": lambda value: process.RepetitionPenaltyLogitsProcessor(value),
    "bad_words": lambda value: process.NoBadWordsLogitsProcessor([list(each) for each in value], eos_token_id=EOS),
    "logit_bias": lambda value: process.SequenceBiasLogitsProcessor([[[token], bias] for token, bias in value.items()]),
}
SETTINGS = [
    {"temperature": 0.3},
    {"temperature": 2.5},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 23},
    {"top_p": 0.1},
    {"top_p": 0.9},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"typical": 0.2},
    {"typical": 0.95},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"bad_words": [[4], [5, 9, 6], [9, 3], [9, 9]]},
    {"logit_bias": {3: 1.5, 8: -2.0}},
    {"logit_bias": {3: 1.5}, "repetition_penalty": 1.3, "bad_words": [[4]], "temperature": 0.7},
    {"repetition_penalty": 1.3, "temperature": 0.7, "top_k": 9, "top_p": 0.8, "min_p": 0.05, "typical": 0.9},
]
ORDER = ["logit_bias", "repetition_penalty", "bad_words", "temperature", "top_k", "top_p", "min_p", "typical"]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_distribution_is_theirs(settings):
    for seed in range(30):
        torch.manual_seed(seed)
        given = torch.randn(VOCAB, dtype=torch.float64) * 2
        one = Chooser(SamplingConfig(**settings), PROMPT, vocab=VOCAB, eos=EOS)
        tokens, scores = torch.tensor([PROMPT]), given[None].clone()
        for token in (5, 9):  # the state of the request goes on
            one.advance(token)
            tokens = torch.cat([tokens, torch.tensor([[token]])], dim=1)
        for name in ORDER:
            if name in settings:
                scores = PAIRS[name](settings[name])(tokens, scores)
        assert_close(one.probabilities(given), scores[0].softmax(0), rtol=0.0, atol=1e-12)
