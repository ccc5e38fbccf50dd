"""transformers opens what we export, unmodified: the same logits, the same ids of a text, the same translations."""

import pytest
import torch

from clearhead.bundle import Bundle
from clearhead.bundle.exchange import export_model, import_model, witness
from clearhead.core.registry import Choice
from clearhead.generate import SearchConfig, search
from clearhead.model import ModelConfig
from clearhead.text import Tokenizer, train_tokenizer
from hf_models import BERT, LLAMA, MODELS, NATIVE, VOCAB, bundle_of, like, saved

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

AUTO = {
    "encoder-decoder": "AutoModelForSeq2SeqLM",
    "decoder-only": "AutoModelForCausalLM",
}
TEXTS = ["the cat sat", "a cat"]


@pytest.mark.parametrize("native", NATIVE)
def test_our_own_models_open_with_the_same_logits(tmp_path, native):
    changes, name = NATIVE[native]
    bundle = bundle_of(ModelConfig(**{**VOCAB, **changes}))
    done = export_model(bundle, tmp_path / "out")
    assert done.name == name
    assert witness(tmp_path / "out", name, done.architecture, bundle.model)["max_abs_logit_difference"] < 1e-5
    auto = getattr(transformers, AUTO[bundle.model.config.kind])
    opened, report = auto.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(opened).__name__ == name
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("name", MODELS)
def test_what_was_imported_goes_out_again_bit_for_bit(tmp_path, name):
    settings = next(iter(MODELS[name].values()))
    peer = saved(tmp_path / "in", name, settings)
    found = import_model(tmp_path / "in")
    done = export_model(found.bundle, tmp_path / "out")
    assert done.name == name
    again, report = getattr(transformers, name).from_pretrained(tmp_path / "out", output_loading_info=True)
    poolers = {each for each in report["missing_keys"] if "pooler" in each}  # a head that we leave out
    assert not set(report["missing_keys"]) - poolers
    assert not report["unexpected_keys"]
    before, after = peer.state_dict(), again.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if key not in poolers)


SIZES = {"byte_bpe": 270, "bpe": 30, "unigram": 20, "wordpiece": 30}


def trained(kind: str) -> Tokenizer:
    """A small vocabulary of that kind."""
    corpus = ["the cat sat on a mat", "a cat in the hat", "the mat is the cat's"] * 3
    return train_tokenizer(Choice(kind=kind, options={"vocab_size": SIZES[kind]}), corpus)


@pytest.mark.parametrize("kind", SIZES)
def test_the_tokenizer_comes_along(tmp_path, kind):
    tokenizer = trained(kind)
    vocab = {"source_vocab": tokenizer.vocab_size, "target_vocab": tokenizer.vocab_size, "pad": tokenizer.need("pad")}
    bundle = bundle_of(ModelConfig(**{**NATIVE["the paper's"][0], **vocab}))
    bundle.source = bundle.target = tokenizer
    export_model(bundle, tmp_path / "out")
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert [opened.encode(text, add_special_tokens=False) for text in TEXTS] == tokenizer.encode_batch(TEXTS)
    assert [opened.encode(text) for text in TEXTS] == [[*ids, tokenizer.eos] for ids in tokenizer.encode_batch(TEXTS)]
    assert opened.decode(tokenizer.encode("the cat")) == tokenizer.decode(tokenizer.encode("the cat"))
    assert (opened.pad_token_id, opened.eos_token_id) == (tokenizer.pad, tokenizer.eos)


def test_a_text_is_translated_as_we_translate_it(tmp_path):
    tokenizer = train_tokenizer("char", TEXTS)
    vocab = {"source_vocab": tokenizer.vocab_size, "target_vocab": tokenizer.vocab_size, "pad": tokenizer.need("pad")}
    bundle = bundle_of(ModelConfig(**{**NATIVE["the paper's"][0], **vocab}))
    bundle.source = bundle.target = tokenizer
    export_model(bundle, tmp_path / "out")
    peer = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in TEXTS:
        theirs = peer.generate(**opened(text, return_tensors="pt"), num_beams=1, max_new_tokens=9, do_sample=False)
        config = SearchConfig(beams=1, length_factor=0, length_extra=9)
        source = [*tokenizer.encode(text), tokenizer.eos]
        ours = search(bundle.model, [source], config, bos=tokenizer.need("bos"), eos=tokenizer.need("eos"))[0][0].tokens
        assert [each for each in theirs[0].tolist()[1:] if each != tokenizer.eos] == ours


def test_two_tokenizers_come_along(tmp_path):
    source, target = train_tokenizer("char", ["abc"]), train_tokenizer("char", ["uvwxyz"])
    vocab = {"source_vocab": source.vocab_size, "target_vocab": target.vocab_size}
    bundle = bundle_of(ModelConfig(**{**NATIVE["the paper's"][0], **vocab, "tie": "output"}))
    bundle.source, bundle.target = source, target
    export_model(bundle, tmp_path / "out")
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    decodes = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", subfolder="target_tokenizer")
    assert opened.encode("cab", add_special_tokens=False) == source.encode("cab")
    assert decodes.decode(target.encode("xyz"), skip_special_tokens=True) == target.decode(target.encode("xyz"))


def test_an_encoder_puts_cls_and_sep_round_a_text(tmp_path):
    tokenizer = trained("wordpiece")
    bundle = bundle_of(like("BertForMaskedLM", {**BERT, "vocab_size": tokenizer.vocab_size}))
    bundle.source = bundle.target = tokenizer
    export_model(bundle, tmp_path / "out")
    opened = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer.encode("the cat")
    assert opened.encode("the cat") == [tokenizer.cls, *ids, tokenizer.sep]
    pair = opened("the cat", "a cat")
    assert pair["token_type_ids"].count(1) == len(tokenizer.encode("a cat")) + 1
    assert import_model(tmp_path / "out").bundle.source == tokenizer


@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.txt"])
def test_the_tokenizer_of_a_bert_is_imported(tmp_path, files):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", "a"]
    saved(tmp_path, "BertForMaskedLM", {**BERT, "pad_token_id": 0})
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    peer = transformers.BertTokenizer(vocab=str(tmp_path / "vocab.txt"))
    if files == "tokenizer.json":
        (tmp_path / "vocab.txt").unlink()
        peer.save_pretrained(tmp_path)
    found = import_model(tmp_path)
    assert found.notes == ()
    ours = found.bundle.source
    assert ours.encode("The cats sat, a CAT") == peer.encode("The cats sat, a CAT", add_special_tokens=False)
    assert (ours.pad, ours.cls, ours.sep, ours.mask) == (0, 2, 3, 4)
    found.bundle.save(tmp_path / "ours")
    assert Bundle.load(tmp_path / "ours").source == ours


def test_the_tokenizer_of_a_gpt2_is_imported(tmp_path):
    tokenizer = trained("byte_bpe")
    settings = {**MODELS["GPT2LMHeadModel"]["plain"], "vocab_size": tokenizer.vocab_size}
    saved(tmp_path, "GPT2LMHeadModel", settings)
    tokenizer.backend.model.save(str(tmp_path))
    found = import_model(tmp_path)
    text = "the cat, a mat"
    assert found.bundle.target.encode(text) == transformers.GPT2Tokenizer.from_pretrained(tmp_path).encode(text)


def test_a_sentencepiece_tokenizer_is_converted(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "corpus").write_text("the cat sat on a mat\na cat and a hat\n" * 20)
    model = tmp_path / "m/tokenizer"
    model.parent.mkdir()
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus"),
        model_prefix=str(model),
        vocab_size=40,
        model_type="bpe",
        byte_fallback=False,
        minloglevel=2,
        hard_vocab_limit=False,
    )
    size = sentencepiece.SentencePieceProcessor(model_file=f"{model}.model").vocab_size()
    saved(model.parent, "LlamaForCausalLM", {**LLAMA, "vocab_size": size})
    found = import_model(model.parent)
    text = "the cat and a mat"
    assert found.notes == ()
    peer = transformers.AutoTokenizer.from_pretrained(model.parent)
    assert found.bundle.target.encode(text) == peer.encode(text, add_special_tokens=False)
