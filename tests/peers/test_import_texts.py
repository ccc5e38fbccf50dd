"""Texts of imported translators: the ids of transformers' own tokenizers, and the translations of their models."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clearhead.apply import Model, load
from clearhead.bundle.exchange import export_model, import_model
from clearhead.data.sources import Pair
from clearhead.generate import SearchConfig
from clearhead.text import read_pieces
from clearhead.train.validation import Translations
from hf_models import SEQUENCE, saved

transformers = pytest.importorskip("transformers")
sentencepiece = pytest.importorskip("sentencepiece")
pytestmark = pytest.mark.peers

ENGLISH = ["the cat sat on a mat", "where are the dogs of this house?", "five quick boxing wizards jump", "a big café"]
GERMAN = ["die Katze saß auf der Matte", "wo sind die Hunde?", "fünf Boxer jagen über große Höfe", "ein Café"]
TEXTS = [
    "the cat sat",
    "  two   cats\tand\na hat ",
    "",
    "   ",
    "a ﬁne ｗｏｒｄ",  # folded by the rules in the file
    "cafe\u0301",
    "日本 the",
    "wo saß die Katze",
    "x\u200by…½",
    ">>fra<< the cat",
]


def opus(folder: Path) -> Path:
    """A folder as OPUS-MT has them: two models of SentencePiece, one table of ids."""
    folder.mkdir()
    table = ["</s>", "<unk>", ">>fra<<"]
    for side, corpus in (("target", GERMAN), ("source", ENGLISH)):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus * 5),
            model_prefix=str(folder / side),
            vocab_size=70,
            character_coverage=1.0,
            hard_vocab_limit=False,
            minloglevel=2,
        )
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
        table += [each.text for each in read_pieces(folder / f"{side}.spm").pieces[3:]]
    ids = {text: index for index, text in enumerate(dict.fromkeys([*table, "<pad>"]))}
    (folder / "vocab.json").write_text(json.dumps(ids))
    pad = ids["<pad>"]
    settings = {"vocab_size": len(ids), "pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0}
    saved(folder, "MarianMTModel", {**SEQUENCE, **settings, "forced_eos_token_id": 0, "bad_words_ids": [[pad]]})
    say_much(folder, eos=0)
    return folder


def say_much(folder: Path, eos: int) -> None:
    """Make the end of a text improbable, so that there is something to compare."""
    tensors = load_file(folder / "model.safetensors")
    tensors["final_logits_bias"][0, eos] = -50.0
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return opus(tmp_path_factory.mktemp("opus") / "theirs")


@pytest.mark.parametrize("side", ["source", "target"])
def test_model_files_are_read_as_sentencepiece_reads_them(folder, side):
    ours, theirs = read_pieces(folder / f"{side}.spm"), sentencepiece.SentencePieceProcessor()
    theirs.load(str(folder / f"{side}.spm"))
    places = range(len(theirs))
    assert [each.text for each in ours.pieces] == [theirs.id_to_piece(place) for place in places]
    assert [each.score for each in ours.pieces] == [theirs.get_score(place) for place in places]
    assert [each.type == 3 for each in ours.pieces] == [theirs.is_control(place) for place in places]
    assert len(ours.charsmap) > 1000  # nmt_nfkc


def test_ids_and_texts_of_an_opus_model_are_those_of_its_own_tokenizer(folder):
    peer = transformers.MarianTokenizer.from_pretrained(folder)
    imported = import_model(folder)
    assert imported.notes == ()
    source, target = imported.bundle.source, imported.bundle.target
    assert source.encode_batch(TEXTS) == [peer(text)["input_ids"][:-1] for text in TEXTS]
    assert target.encode_batch(TEXTS) == [peer(text_target=text)["input_ids"][:-1] for text in TEXTS]
    assert [peer(text)["input_ids"][-1] for text in TEXTS] == [source.eos] * len(TEXTS)
    every = [[index] for index in range(len(peer)) if index != 2] + [list(range(3, 30)), source.encode("日本 the cat")]
    theirs = [peer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) for ids in every]
    assert target.decode_batch(every) == theirs


def test_two_unknown_characters_in_a_row_are_where_we_differ(folder):
    """Theirs joins a run of them into one <unk>; ours gives the other side's characters their ids, as for one alone."""
    peer, ours = transformers.MarianTokenizer.from_pretrained(folder), import_model(folder).bundle.source
    assert ours.encode("ß") == peer("ß")["input_ids"][:-1]
    ids = json.loads((folder / "vocab.json").read_text())
    assert peer("üß")["input_ids"][1:-1] == [ids["<unk>"]]
    assert ours.encode("üß")[1:] == [ids["ü"], ids["ß"]]


def test_an_opus_model_translates_as_transformers_does(folder, tmp_path):
    imported = import_model(folder)
    imported.bundle.save(tmp_path / "ours")
    model = load(tmp_path / "ours")
    assert (model.bundle.source, model.bundle.target) == (imported.bundle.source, imported.bundle.target)
    assert_same_translations(model, folder, transformers.MarianTokenizer.from_pretrained(folder))


def test_an_opus_model_goes_out_with_both_tokenizers(folder, tmp_path):
    before = import_model(folder).bundle
    export_model(before, tmp_path / "out")
    after = import_model(tmp_path / "out").bundle
    assert (after.source, after.target, after.history) == (before.source, before.target, before.history)
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert [opened.encode(text) for text in TEXTS[:2]] == [[*before.source.encode(text), 0] for text in TEXTS[:2]]


def bart(folder: Path) -> transformers.BartTokenizer:
    """A folder as BART's are, with a toy vocabulary; returns its tokenizer."""
    special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
    letters = {text: index + 5 for index, text in enumerate("acehtsĠ")}
    (folder / "vocab.json").write_text(json.dumps({**special, **letters, "Ġt": 12, "he": 13}))
    (folder / "merges.txt").write_text("#version: 0.2\nĠ t\nh e\n")
    settings = {**SEQUENCE, "vocab_size": 14, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    saved(folder, "BartForConditionalGeneration", {**settings, "forced_eos_token_id": 2})
    say_much(folder, eos=2)
    return transformers.BartTokenizer.from_pretrained(folder)


def test_the_loss_of_bart_is_that_of_sources_as_its_own_tokenizer_frames_them(tmp_path):
    """A pair of another length each, so that padding is looked at too; nats per token of both together."""
    peer, pairs = bart(tmp_path), [Pair("the cat", "a the", ""), Pair("a", "tact she", "")]
    bundle, model = import_model(tmp_path).bundle, transformers.BartForConditionalGeneration.from_pretrained(tmp_path)
    total, count = 0.0, 0
    for each in pairs:
        source, target = (torch.tensor([peer.encode(text)]) for text in (each.source, each.target))
        labels = target[:, 1:]  # a target of ours begins with decoder_start_token_id alone
        with torch.inference_mode():
            total += model(input_ids=source, labels=labels).loss.item() * labels.numel()
        count += labels.numel()
    held = Translations.read(pairs, bundle.source, bundle.target, "en", bundle.source_frame)
    assert held.loss(bundle.model)["loss"] == pytest.approx(total / count, abs=1e-4)
    bare = Translations.read(pairs, bundle.source, bundle.target, "en")
    assert abs(bare.loss(bundle.model)["loss"] - total / count) > 1e-3
    found = Model(bundle).translate([each.source for each in pairs], SearchConfig(beams=1))
    assert held.translate(bundle.model, SearchConfig(beams=1)) == found


@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.json and merges.txt"])
def test_a_source_of_bart_begins_as_its_own_tokenizer_says(tmp_path, files):
    peer = bart(tmp_path)
    if files == "tokenizer.json":
        peer.save_pretrained(tmp_path)
        for each in ("vocab.json", "merges.txt"):
            (tmp_path / each).unlink(missing_ok=True)
    found = import_model(tmp_path)
    before, after = found.bundle.history["source_frame"]
    assert [[*before, *found.bundle.source.encode(each), *after] for each in ("the cat", "a")] == [
        peer.encode(each) for each in ("the cat", "a")
    ]
    assert_same_translations(Model(found.bundle), tmp_path, peer)
    export_model(found.bundle, tmp_path / "out")
    assert import_model(tmp_path / "out").bundle.history == found.bundle.history
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out").encode("the cat") == peer.encode("the cat")


def assert_same_translations(model: Model, folder: Path, tokenizer) -> None:
    """Greedy, ten tokens, theirs and ours."""
    peer = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    search = model.search.model_copy(update={"beams": 1, "n_best": 1, "length_factor": 0.0, "length_extra": 10})
    pad = peer.config.pad_token_id
    for text in ("the cat", "a cat that sat"):
        settings = {"num_beams": 1, "max_new_tokens": 10, "do_sample": False, "bad_words_ids": [[pad]]}
        settings |= {"forced_bos_token_id": None, "forced_eos_token_id": None}
        theirs = peer.generate(**tokenizer(text, return_tensors="pt"), **settings)[0].tolist()[1:]
        ours = model.n_best([text], search)[0][0][1].tokens
        assert len(ours) >= 8
        assert ours[:8] == theirs[:8]
