"""Greedy and beam search find what transformers' `generate` finds, on models imported from it."""

import pytest
import torch

from clearhead.bundle.exchange import import_model
from clearhead.generate import SearchConfig, search
from hf_models import MODELS, saved

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers
PAD, EOS, VOCAB, LIMIT = 1, 3, 23, 8

PAIRS = [
    ("GPT2LMHeadModel", "plain"),
    ("LlamaForCausalLM", "plain"),
    ("LlamaForCausalLM", "yarn"),
    ("MistralForCausalLM", "window"),
    ("MarianMTModel", "plain"),
    ("MarianMTModel", "three tables"),
    ("BartForConditionalGeneration", "plain"),
    ("T5ForConditionalGeneration", "plain"),
]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A function from an architecture to their model and ours, the same weights in float64."""
    known = {}

    def make(name: str, special: str):
        if (name, special) not in known:
            folder = tmp_path_factory.mktemp("model")
            theirs = saved(folder, name, MODELS[name][special])
            known[name, special] = theirs.double(), import_model(folder).bundle.model.double().eval()
        return known[name, special]

    return make


def inputs(theirs) -> tuple[list[list[int]], dict[str, torch.Tensor]]:
    """Texts, and the same as transformers wants them."""
    torch.manual_seed(4)
    reads = theirs.config.is_encoder_decoder
    texts = [torch.randint(4, VOCAB, (length,)).tolist() + [EOS] * reads for length in (2, 5, 1, 3)]
    width = max(map(len, texts))
    pads = [[PAD] * (width - len(each)) for each in texts]
    ids = torch.tensor([each + pad if reads else pad + each for each, pad in zip(texts, pads, strict=True)])
    return texts, {"input_ids": ids, "attention_mask": (ids != PAD).long()}


def compare(theirs, ours, config: SearchConfig, **settings: object) -> None:
    texts, batch = inputs(theirs)
    reads = theirs.config.is_encoder_decoder
    eos = PAD if reads else EOS  # our encoder-decoders never choose padding unless it is the end
    wanted = {"pad_token_id": PAD, "eos_token_id": eos, "forced_eos_token_id": None, "max_new_tokens": LIMIT}
    with torch.no_grad():
        expected = theirs.generate(
            **batch, **wanted, **settings, do_sample=False, output_scores=True, return_dict_in_generate=True
        )
    begun = 1 if reads else batch["input_ids"].shape[1]
    shown = [_until(eos, each[begun:]) for each in expected.sequences.tolist()]
    found = search(ours, texts, config, bos=theirs.config.decoder_start_token_id if reads else None, eos=eos)
    assert [each.tokens for hypotheses in found for each in hypotheses] == shown
    if config.beams > 1:
        scores = [each.score for hypotheses in found for each in hypotheses]
        torch.testing.assert_close(
            torch.tensor(scores), expected.sequences_scores, rtol=0.0, atol=1e-5, check_dtype=False
        )  # theirs are float32
    assert config.n_best == 1 or len(set(map(tuple, shown))) > 1


def _until(eos: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(eos)] if eos in tokens else tokens


@pytest.mark.parametrize(("name", "special"), PAIRS)
def test_greedy_search_is_theirs(both, name, special):
    compare(*both(name, special), SearchConfig(max_tokens=LIMIT))


@pytest.mark.parametrize(("name", "special"), PAIRS)
@pytest.mark.parametrize(("beams", "n_best", "alpha"), [(2, 1, 1.0), (4, 4, 0.6), (5, 3, 0.0), (3, 2, 2.0)])
def test_beam_search_is_theirs(both, name, special, beams, n_best, alpha):
    config = SearchConfig(beams=beams, n_best=n_best, length_penalty=alpha, max_tokens=LIMIT)
    settings = {"num_beams": beams, "num_return_sequences": n_best, "length_penalty": alpha}
    compare(*both(name, special), config, **settings)
