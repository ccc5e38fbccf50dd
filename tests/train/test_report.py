"""The page of a run: complete, safe, self-contained, and there for every kind of run."""

import json
import random
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from clearhead.bundle import Bundle
from clearhead.core.recipe import write_recipe
from clearhead.core.registry import Choice
from clearhead.data.sources import Pair
from clearhead.model import ModelConfig, Transformer
from clearhead.text import TOKENIZERS, Tokenizer
from clearhead.text.readable import Piece, readable
from clearhead.train.pictures import POINTS, Curve, chart, heat
from clearhead.train.recipe import Recipe
from clearhead.train.report import LONGEST, charts, report_of, scores, spread, write_report

DRAW = random.Random(7)
SYLLABLES = ["ka", "lo", "min", "tar", "ves", "qu", "pel", "or", "ith", "sun", "dra"]
WORDS = ["".join(DRAW.choices(SYLLABLES, k=DRAW.randint(1, 4))) for _ in range(500)]
TEXTS = [
    *["a cat sees the dog", "the dog sees a cat", "我看见一只猫。", "一只猫看见我。", "x < y & z"] * 4,
    *(" ".join(DRAW.choices(WORDS, k=8)) for _ in range(200)),
]
EACH_KIND = pytest.mark.parametrize("kind", TOKENIZERS.names())  # never list a family by hand
VOID = {"meta", "img", "br"}
HISTORY = {
    "name": "a-run",
    "updates": 1200,
    "training_seconds": 185.0,
    "weights": "average of the last 5 checkpoints",
    "valid_loss": 1.25,
    "valid_perplexity": 3.49034,
    "valid_bleu": 31.256,
    "valid_bleu_signature": "nrefs:1|tok:13a",
    "valid_chrf": 50.5,
    "test_loss": 1.5,
    "test_bleu": 30.0,
    "test_bleu_signature": "nrefs:1|tok:13a",
}


class Page(HTMLParser):
    """Checks that elements nest, and collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data + "\n"


@cache
def tokenizer(kind: str = "char") -> Tokenizer:
    """One tokenizer of each kind, in a size that the corpus allows to all."""
    options = {"vocab_size": 265} if "vocab_size" in TOKENIZERS.options(kind) else {}
    return TOKENIZERS.build(Choice(kind=kind, options=options)).train(TEXTS)


def bundle(source: Tokenizer, target: Tokenizer, *, layers: int = 2, **history) -> Bundle:
    torch.manual_seed(3)
    sizes = {"encoder_layers": layers, "decoder_layers": layers, "d_model": 12, "heads": 3, "d_ff": 16, "tie": "output"}
    vocab = {"source_vocab": source.vocab_size, "target_vocab": target.vocab_size, "pad": target.need("pad")}
    search = {"beams": 2, "length_factor": 0.5, "length_extra": 6}
    return Bundle(Transformer(ModelConfig(**sizes, **vocab)).eval(), source, target, search, HISTORY | history)


def pairs(*sources: str) -> list[Pair]:
    return [Pair(each, "the reference", "a file") for each in sources]


def metrics(folder: Path, *, valid: bool = True) -> None:
    lines = [
        {"kind": "train", "update": i, "loss": 9 - i / 50, "nll": 8 - i / 50, "learning_rate": i / 1e5,
         "gradient_norm": 1.0, "tokens_per_second": 5000.0}
        for i in range(50, 301, 50)
    ]  # fmt: skip
    if valid:
        lines += [{"kind": "valid", "update": i, "loss": 7 - i / 60, "bleu": i / 10} for i in (100, 200, 300)]
    text = "".join(json.dumps(each) + "\n" for each in lines)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")


def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_says_what_the_run_was(tmp_path):
    metrics(tmp_path)
    chars = tokenizer()
    text = page(write_report(tmp_path, bundle(chars, chars), pairs("the cat", "the dog"), "seed: 42\n")).text
    for expected in (
        "a-run", "encoder-decoder, 2 + 2 layers", "1,200", "3 min 05 s", "average of the last 5 checkpoints",
        "31.26", "30.00", "50.50", "3.490", "nrefs:1|tok:13a", "5,000 target tokens per second", "seed: 42",
        "nats per token", "updates", "the reference", "Cross-attention of decoder layer 1", torch.__version__,
    ):  # fmt: skip
        assert expected in text, expected


def test_the_page_asks_nobody_for_anything(tmp_path):
    metrics(tmp_path)
    chars = tokenizer()
    path = write_report(tmp_path, bundle(chars, chars), pairs("the cat"))
    html, shown = path.read_text(encoding="utf-8"), page(path)
    assert "://" not in html
    assert "url(//" not in html
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(shown.tags)
    addresses = [value for name, value in shown.attributes if name in ("src", "href", "xlink:href", "srcset", "action")]
    assert addresses
    assert all(each.startswith(("data:image/png;base64,", "#")) for each in addresses)
    assert path.stat().st_size < 600_000


def test_every_text_is_escaped(tmp_path):
    (chars, evil) = tokenizer(), '<script>alert("x")</script> & <b>'
    hostile = bundle(chars, chars, name=evil, weights=evil, valid_bleu_signature=evil)
    shown = page(write_report(tmp_path, hostile, [Pair(evil, evil, evil)], recipe=evil))
    assert not {"script", "b"} & set(shown.tags)
    assert shown.text.count(evil) >= 6


@EACH_KIND
def test_each_kind_of_tokenizer_makes_readable_maps(kind, tmp_path):
    both = tokenizer(kind)
    shown = page(write_report(tmp_path, bundle(both, both), pairs("a cat sees 我", "我看见一只猫。")))
    assert shown.text.count("head 3") == 2
    assert shown.text.count("layer 2\n") == 2
    assert "Ġ" not in shown.text
    assert "</w>" not in shown.text


def test_two_tokenizers_and_chinese_text(tmp_path):
    source, target = tokenizer("byte_bpe"), tokenizer("char")
    html = write_report(tmp_path, bundle(source, target), pairs("我看见一只猫。")).read_text(encoding="utf-8")
    assert "我看见一只猫。" in html
    assert f"{target.vocab_size} and {source.vocab_size} tokens" in html


def test_tokens_are_shown_as_text():
    in_bytes = tokenizer("byte")
    shown = readable(in_bytes, in_bytes.encode("猫 a\n", eos=True))
    assert shown == [
        *(Piece(each, "bytes") for each in ("E7", "8C", "AB")),
        *(Piece(each) for each in ("␣", "a", "⏎")),
        Piece("<eos>", "special"),
    ]
    assert Piece("猫").wide
    assert not Piece("␣cat").wide


def test_a_map_has_a_row_for_each_output_token_and_a_column_for_each_source_token(tmp_path):
    chars = tokenizer()
    html = write_report(tmp_path, bundle(chars, chars), pairs("我看见")).read_text(encoding="utf-8")
    table = re.search(r'<table class="map">.*?</table>', html, re.DOTALL)[0]
    columns, rows = re.findall(r'<th scope="col"[^>]*>([^<]*)', table), re.findall(r"<tr><th scope=.row", table)
    assert columns == ["我", "看", "见", "&lt;eos&gt;"]
    assert len(rows) == int(0.5 * 4) + 6  # an untrained model writes to its limit
    assert table.count("<td") == 1 + len(columns) * len(rows)


def test_long_sentences_are_cut_in_maps(tmp_path):
    chars = tokenizer()
    html = write_report(tmp_path, bundle(chars, chars), pairs("the dog sees a cat " * 5)).read_text(encoding="utf-8")
    assert "only the first tokens are shown" in html
    assert html.count('<th scope="col" class="') == 1 + LONGEST  # one of them heads the table of translations


@pytest.mark.parametrize("content", [None, "", '{"kind": "train", "upda'])
def test_a_run_without_metrics(content, tmp_path):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content, encoding="utf-8")
    chars = tokenizer()
    shown = page(write_report(tmp_path, bundle(chars, chars)))
    assert "no metrics" in shown.text
    assert "svg" not in shown.tags


def test_a_run_without_validation(tmp_path):
    metrics(tmp_path, valid=False)
    chars = tokenizer()
    plain = Bundle(bundle(chars, chars).model, chars, chars)
    shown = page(write_report(tmp_path, plain, pairs("the cat")))
    assert shown.tags.count("svg") == 3
    assert "no scores" in shown.text
    assert "BLEU" not in shown.text
    assert tmp_path.name in shown.text  # a run without a name has that of its folder


@pytest.mark.parametrize(("encoder", "decoder"), [(1, 0), (0, 1)])
def test_a_model_that_does_not_translate_has_a_page(encoder, decoder, tmp_path):
    chars = tokenizer()
    config = ModelConfig(
        encoder_layers=encoder, decoder_layers=decoder, d_model=12, heads=3, source_vocab=50, target_vocab=50
    )
    shown = page(write_report(tmp_path, Bundle(Transformer(config).eval(), chars, chars), pairs("the cat")))
    assert config.kind in shown.text
    assert "Reference" not in shown.text


def test_the_page_of_a_finished_run(tmp_path, capsys):
    folder, chars = tmp_path / "run", tokenizer()
    (tmp_path / "pairs.tsv").write_text("the cat\t猫\nthe dog\t狗\n", encoding="utf-8")
    data = {"folder": str(tmp_path), "train": {"kind": "tsv", "file": "pairs.tsv"}}
    data["valid"] = data["train"]
    recipe = Recipe.model_validate({"tokenizer": {"joint": "char"}, "data": data})
    bundle(chars, chars).save(folder)
    (folder / "recipe.yaml").write_text(write_recipe(recipe), encoding="utf-8")
    shown = page(report_of(folder))
    assert "狗" in shown.text
    assert "file: pairs.tsv" in shown.text
    (tmp_path / "pairs.tsv").unlink()
    assert "狗" not in page(report_of(folder)).text
    assert "without sample translations" in capsys.readouterr().err


def test_a_lone_surrogate_does_not_stop_the_page(tmp_path):
    chars = tokenizer()
    assert "the ? cat" in page(write_report(tmp_path, bundle(chars, chars), pairs("the \ud800 cat"))).text


def test_scores_only_of_what_was_scored():
    assert scores({"updates": 5}) == {}
    assert scores({"valid_loss": 1.0, "test_bleu": 20.0}) == {
        "BLEU": {"valid": "–", "test": "20.00"},
        "Loss (nats per token)": {"valid": "1.0000", "test": "–"},
    }


def test_samples_are_evenly_spread():
    numbered = [Pair(str(i), "", "") for i in range(40)]
    assert [each.source for each in spread(numbered, 4)] == ["0", "10", "20", "30"]
    assert spread(numbered[:3], 4) == numbered[:3]
    assert spread([], 4) == []


def test_unsmoothed_training_has_one_line():
    line = {"kind": "train", "update": 50, "loss": 2.0, "nll": 2.0}
    (only,) = charts([line])
    assert "smoothed" not in only.svg
    (only,) = charts([{**line, "nll": 1.5}])
    assert "smoothed" in only.svg


def test_long_curves_stay_small_and_keep_their_end():
    values = [1 / (1 + i) for i in range(10 * POINTS)]
    drawn = chart("Loss", "nats", [Curve("training", range(len(values)), values)]).svg
    assert len(drawn) < 40_000
    assert "currentColor" in drawn
    assert "font-family" not in drawn


def test_a_picture_has_one_pixel_a_weight():
    drawn = heat("head 1", torch.eye(5)[:3])
    assert (drawn.rows, drawn.columns) == (3, 5)
    assert len(drawn.uri) < 400
