"""Text in, text out: the order, the number and the independence of the texts; logits as the model gives them."""

import json

import pytest
import torch

import clearhead
from clearhead.apply import Model, load
from clearhead.core.errors import BundleError, ConfigError, DataError, ModelError, TokenizerError
from clearhead.generate import SearchConfig

EACH_KIND = pytest.mark.parametrize("kind", ["encoder-decoder", "encoder-only", "decoder-only"])
TEXTS = ["ab", "", "你好,世界", "a much longer text than that", "   ", "é😀", "ab", "\u3000", "x"]


def test_many_at_once_are_translated_as_one_by_one(make):
    model = make()
    together = model.translate(TEXTS)
    assert together == [model.translate([each])[0] for each in TEXTS]
    assert together[0] == together[6]
    assert model.translate(TEXTS[::-1]) == together[::-1]
    assert model.translate([]) == []


def test_white_space_is_translated_to_nothing_though_it_has_tokens(make):
    model = make()
    assert model.bundle.source.encode("   ")
    outputs = model.translate(["", "   ", "\u3000\n\t", "a"])
    assert outputs[:3] == ["", "", ""]
    assert outputs[3] != ""


def test_n_best_are_different_best_first_and_begin_with_the_translation(make):
    model = make()
    search = SearchConfig(beams=3, n_best=3, length_extra=5, length_factor=0.0)
    for found, best in zip(model.n_best(TEXTS[:3], search), model.translate(TEXTS[:3], search), strict=True):
        assert found[0][0] == best
        scores = [each.score for _, each in found]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(each.tokens) for _, each in found}) == len(found)


def test_progress_counts_the_sentences(make):
    seen: list[int] = []
    make().n_best(["a", "b", "c"], progress=seen.append)
    assert seen[-1] == 3


def test_lone_surrogates_and_control_characters_are_survived(make):
    assert len(make().translate(["a\ud800b", "\x00", "a\u2028b"])) == 3


@pytest.mark.parametrize("wrong", [[3], [None], ["a", b"b"]])
def test_what_is_no_text_is_refused(make, wrong):
    with pytest.raises(TokenizerError, match="only text can be encoded"):
        make().translate(wrong)


def test_one_string_is_not_a_list_of_texts(make):
    with pytest.raises(DataError, match=r"pass \[text\]"):
        make().translate("abc")


def test_a_text_that_is_too_long_is_named_by_its_place(make):
    with pytest.raises(DataError, match=r"text 3: .* longer .* found 10,000 tokens; expected fewer than 40; split it"):
        make().translate(["a", "b", "c" * 10_000])
    assert len(make().translate(["c" * 39])) == 1


@pytest.mark.parametrize("kind", ["encoder-only", "decoder-only"])
def test_other_kinds_do_not_translate(make, kind):
    with pytest.raises(ModelError, match=f"this model is {kind}: it does not translate"):
        make(kind).translate(["a"])


@EACH_KIND
def test_logits_are_those_of_the_model(make, kind):
    model = make(kind)
    tokens, source = torch.randint(5, 200, (3, 7)), torch.randint(5, 200, (3, 4))
    plain = model.bundle.model
    with torch.no_grad():
        if kind == "encoder-decoder":
            expected = plain.logits(plain.decode(tokens, plain.encode(source)))
        else:
            expected = plain.logits(plain.encode(tokens).hidden if kind == "encoder-only" else plain.decode(tokens))
    found = model.logits(tokens, source if kind == "encoder-decoder" else None)
    assert found.shape == (3, 7, plain.config.target_vocab)
    assert torch.equal(found, expected)
    assert not found.requires_grad


@EACH_KIND
def test_a_source_is_given_where_the_model_reads_one_and_nowhere_else(make, kind):
    tokens = torch.randint(5, 200, (1, 3))
    with pytest.raises(ModelError, match=f"it is {kind}; (pass source=|leave source out)"):
        make(kind).logits(tokens, None if kind == "encoder-decoder" else tokens)


def test_a_saved_model_answers_as_before(make, tmp_path):
    model = make()
    model.bundle.save(tmp_path)
    loaded = clearhead.load(tmp_path)
    assert isinstance(loaded, Model)
    assert loaded.translate(TEXTS) == model.translate(TEXTS)
    tokens = torch.randint(5, 200, (2, 3))
    assert torch.equal(loaded.logits(tokens, tokens), model.logits(tokens, tokens))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"beams": 0}, "beams: input should be greater than 0; found 0"),
        ({"beens": 2}, "beens: unknown key"),
        ({"n_best": 9}, "n_best must not exceed beams"),
    ],
)
def test_wrong_search_settings_name_file_and_key(make, tmp_path, settings, complaint):
    make().bundle.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(BundleError, match=f"generation_config.json.*{complaint}"):
        load(tmp_path)


def test_a_device_that_is_not_there_is_refused(make):
    with pytest.raises(ConfigError, match="use auto or cpu"):
        Model(make().bundle, device="abacus")
