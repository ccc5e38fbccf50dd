"""Models that must begin with a certain token, such as a language, translate as transformers' `generate` does."""

import json

import pytest
import torch

from clearhead.apply import Model, Wish
from clearhead.bundle import Bundle
from clearhead.bundle.exchange import import_model
from clearhead.core.errors import TokenizerError
from clearhead.generate import SamplingConfig, SearchConfig
from hf_models import MODELS, saved

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers
PAD, EOS, LANGUAGE, LIMIT = 1, 3, 7, 9
TEXTS = ["a b c", "d", "e f g h a", "h h"]
LETTERS = {"<pad>": 1, "<s>": 2, "</s>": 3, "<unk>": 0, "<lang>": LANGUAGE}
LETTERS |= dict(zip("abcdefgh", [4, 5, 6, 8, 9, 10, 11, 12], strict=True))
LETTERS |= {f"w{place}": place for place in range(13, 23)}
EACH = pytest.mark.parametrize("name", ["MBartForConditionalGeneration", "BartForConditionalGeneration"])


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A function from an architecture to their model and ours in float32, words and a forced language included."""
    known = {}

    def make(name: str):
        if name not in known:
            folder = tmp_path_factory.mktemp("model")
            backend = transformers.PreTrainedTokenizerFast(tokenizer_object=words(), **roles())
            theirs = saved(folder, name, MODELS[name]["plain"])
            theirs.final_logits_bias[0, PAD] = -1e4  # theirs takes its share of the probability before it forbids it
            theirs.final_logits_bias[0, EOS] -= 2.0  # so that there is something to compare
            theirs.save_pretrained(folder)
            backend.save_pretrained(folder)
            path = folder / "generation_config.json"
            told = {**json.loads(path.read_text()), "forced_bos_token_id": LANGUAGE, "forced_eos_token_id": None}
            path.write_text(json.dumps(told))
            known[name] = theirs, Model(import_model(folder).bundle)
        return known[name]

    return make


def words():
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    backend = Tokenizer(models.WordLevel(LETTERS, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens([AddedToken(each, special=True) for each in LETTERS if each.startswith("<")])
    return backend


def roles():
    return {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def sources(bundle: Bundle) -> tuple[list[list[int]], dict[str, torch.Tensor]]:
    before, after = bundle.source_frame
    ids = [[*before, *bundle.source.encode(each), *after] for each in TEXTS]
    width = max(map(len, ids))
    batch = torch.tensor([each + [PAD] * (width - len(each)) for each in ids])
    return ids, {"input_ids": batch, "attention_mask": (batch != PAD).long()}


def generated(theirs, bundle: Bundle, **settings: object):
    """What their library writes, and the scores; never padding, as ours."""
    _, batch = sources(bundle)
    never = {"bad_words_ids": [[PAD]], "forced_bos_token_id": LANGUAGE, "forced_eos_token_id": None}
    settings = {"max_new_tokens": LIMIT, "pad_token_id": PAD, "eos_token_id": EOS, "max_length": None, **settings}
    with torch.no_grad():
        return theirs.generate(**batch, **never, **settings, do_sample=False, output_scores=True,
                               return_dict_in_generate=True)  # fmt: skip


def written(tokens: list[int]) -> list[int]:
    assert tokens[1] == LANGUAGE
    return _until_end(tokens[2:])


@EACH
@pytest.mark.parametrize(("beams", "n_best", "alpha"), [(1, 1, 1.0), (4, 4, 1.0), (3, 2, 2.0), (2, 2, 0.0)])
def test_searches_begin_with_the_forced_token(both, name, beams, n_best, alpha):
    theirs, ours = both(name)
    found = generated(theirs, ours.bundle, num_beams=beams, num_return_sequences=n_best, length_penalty=alpha)
    config = SearchConfig(beams=beams, n_best=n_best, length_penalty=alpha, max_tokens=LIMIT)
    hypotheses = [each for one in ours.n_best(TEXTS, config) for _, each in one]
    assert [each.tokens for each in hypotheses] == [written(each) for each in found.sequences.tolist()]
    assert any(each.tokens for each in hypotheses)
    if beams > 1:
        scores = torch.tensor([each.score for each in hypotheses])
        torch.testing.assert_close(scores, found.sequences_scores, rtol=0.0, atol=1e-5)


@EACH
def test_the_engine_begins_with_the_forced_token(both, name):
    theirs, ours = both(name)
    found = generated(theirs, ours.bundle, num_beams=1)
    wish = Wish(max_tokens=LIMIT - 1, sampling=SamplingConfig(temperature=0.0))
    answers = [each.completion.tokens for (each,) in ours.complete(TEXTS, wish)]
    assert answers == [written(each) for each in found.sequences.tolist()]
    assert answers == [found[0][1].tokens for found in ours.n_best(TEXTS, SearchConfig(max_tokens=LIMIT))]


@EACH
def test_another_token_may_be_forced(both, name):
    theirs, known = both(name)
    ours = Model(Bundle(**vars(known.bundle)))
    ours.begin_with("w13")
    _, batch = sources(ours.bundle)
    settings = {"max_new_tokens": LIMIT, "pad_token_id": PAD, "eos_token_id": EOS, "forced_eos_token_id": None}
    with torch.no_grad():
        found = theirs.generate(**batch, **settings, forced_bos_token_id=13, bad_words_ids=[[PAD]], num_beams=3)
    texts = ours.n_best(TEXTS, SearchConfig(beams=3, max_tokens=LIMIT))
    assert [[13, *each[0][1].tokens] for each in texts] == [_until_end(each[1:]) for each in found.tolist()]
    with pytest.raises(TokenizerError, match="no token 'xx_XX' in this vocabulary"):
        ours.begin_with("xx_XX")
    assert known.bundle.history["token_ids"]["forced_bos"] == LANGUAGE


def _until_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(EOS)] if EOS in tokens else tokens


@EACH
def test_it_matters(both, name):
    _, ours = both(name)
    forced = ours.bundle.history["token_ids"]["forced_bos"]
    config, free = SearchConfig(beams=2, max_tokens=LIMIT), Model(Bundle(**vars(ours.bundle)))
    free.bundle.history = {**ours.bundle.history, "token_ids": {}}
    assert forced == LANGUAGE
    assert free.translate(TEXTS, config) != ours.translate(TEXTS, config)
