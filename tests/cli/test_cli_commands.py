"""Every command does what its help says, on standard output, and nothing else."""

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import clearhead
from clearhead.cli import options
from clearhead.cli.main import main
from clearhead.data import catalog

SHIPPED = sorted(each.stem for each in (Path(options.__file__).parent.parent / "recipes").glob("*.yaml"))
KEYS = "bleu bleu_signature chrf bleu_tokenized_lowercased loss perplexity sentences sentences_per_second"


def test_training_leaves_a_model_and_says_so_on_standard_error(call, recipe, tmp_path):
    done = call("train", recipe, "train.updates=6", "--out", tmp_path / "run")
    assert (done.status, done.out) == (0, "")
    assert "bundle written to" in done.err
    assert (tmp_path / "run/report.html").exists()


def test_a_text_gives_a_line_and_standard_error_stays_empty(call, finished):
    done = call("translate", finished, "abc", "fed")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("\n") == 2


def test_lines_in_are_lines_out_in_their_order(call, finished):
    done = call("translate", finished, stdin="\ufeffabc\r\n\n   \nfed\nabc".encode())
    lines = done.out.split("\n")
    assert (done.status, done.err, len(lines)) == (0, "", 6)
    assert lines[1:3] == ["", ""]
    assert lines[0] == lines[4] != ""
    assert lines[:4:3] == call("translate", finished, "abc", "fed").out.splitlines()


def test_no_line_in_is_no_line_out(call, finished):
    assert call("translate", finished) == type(call("translate", finished))(0, "", "")


def test_more_lines_than_fit_in_one_go(call, finished, monkeypatch):
    monkeypatch.setattr("clearhead.cli.translate.CHUNK", 2)
    assert call("translate", finished, stdin=b"abc\nfed\nabc\nfed\nabc\n").out.count("\n") == 5


def test_the_best_translations_stand_in_columns(call, finished):
    columns = call("translate", finished, "abc", "--n-best", 3).out.rstrip("\n").split("\t")
    assert len(columns) == len(set(columns)) == 3
    assert call("translate", finished, "abc", "--beams", 3).out == columns[0] + "\n"


def test_any_setting_of_the_search_can_be_given(call, finished):
    from clearhead import load
    from clearhead.generate import SearchConfig

    method = "{kind: minimum_risk, sharpness: 0}"
    found = call("translate", finished, "abc", "--beams", 4, "--search", f"method={method}", "--json").out
    config = SearchConfig(beams=4, method={"kind": "minimum_risk", "sharpness": 0.0})
    [[(text, expected)]] = load(finished).n_best(["abc"], config)
    [told] = json.loads(found)["sentences"][0]["translations"]
    assert (told["text"], told["score"]) == (text, pytest.approx(expected.score))


def test_one_beam_is_greedy_search(call, finished):
    from clearhead.generate import SearchConfig

    greedy = SearchConfig(beams=1, length_extra=5)
    assert call("translate", finished, "abc", "--beams", 1).out.splitlines() == clearhead.load(finished).translate(
        ["abc"], greedy
    )


def test_what_looks_like_an_option_is_text_after_two_dashes(finished, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["clearhead", "translate", str(finished), "--", "--debug"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert capsys.readouterr().out.count("\n") == 1


@pytest.fixture(scope="session")
def pairs(tmp_path_factory, finished):
    folder = tmp_path_factory.mktemp("pairs")
    sides = [(finished.parent / f"valid.{each}").read_text().splitlines() for each in "ab"]
    (folder / "v.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in zip(*sides, strict=True)))
    rows = "".join(json.dumps({"source": a, "target": b}) + "\n" for a, b in zip(*sides, strict=True))
    (folder / "v.jsonl").write_text(rows)
    (folder / "v.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    return folder


def test_evaluation_scores_pairs_from_any_file_alike(call, finished, pairs, tmp_path):
    base = finished.parent
    ways = [["--source", base / "valid.a", "--target", base / "valid.b"]]
    ways += [["--data", pairs / name] for name in ("v.tsv", "v.jsonl", "v.jsonl.gz")]
    found = []
    for way in ways:
        done = call("evaluate", finished, *way, "--json", "--output", tmp_path / "deep/er/out.txt")
        assert (done.status, done.err) == (0, "")
        scores = json.loads(done.out.splitlines()[-1])
        assert list(scores)[:8] == KEYS.split()
        assert scores.pop("sentences_per_second") > 0
        found.append((scores, (tmp_path / "deep/er/out.txt").read_text()))
    assert all(each == found[0] for each in found)
    assert found[0][0]["sentences"] == found[0][1].count("\n") == 5
    history = json.loads((finished / "config.json").read_text())["history"]
    assert found[0][0]["loss"] == pytest.approx(history["valid_loss"])


def test_evaluation_keeps_empty_lines_and_counts_them(call, finished, tmp_path):
    (tmp_path / "p.tsv").write_text("abc\tcba\n\tabc\nabc\t\n\t\n")
    done = call("evaluate", finished, "--data", tmp_path / "p.tsv", "--output", tmp_path / "out", "--json")
    assert json.loads(done.out.splitlines()[-1])["sentences"] == 4
    lines = (tmp_path / "out").read_text().split("\n")
    assert lines[1] == lines[3] == ""
    assert len(lines) == 5


@pytest.mark.parametrize("kind", ["byte_bpe", "char", "wordpiece"])
def test_a_tokenizer_is_trained_and_text_comes_back(call, finished, tmp_path, kind):
    size = [] if kind == "char" else ["--set", "vocab_size=" + ("270" if kind == "byte_bpe" else "25")]
    corpus = [finished.parent / "train.a", finished.parent / "train.b"]
    done = call("tokenizer", "train", *corpus, "--out", tmp_path / "t/k.json", "--kind", kind, *size)
    assert (done.status, done.out) == (0, "")
    text = b"abc\nfed\n\nfade\n"
    ids = call("tokenizer", "encode", tmp_path / "t/k.json", stdin=text).out
    assert ids.count("\n") == 4
    assert call("tokenizer", "decode", tmp_path / "t/k.json", stdin=ids.encode()).out.encode() == text
    first = ids.splitlines()[0].split()
    assert call("tokenizer", "decode", tmp_path / "t/k.json", *first).out == "abc\n"
    pieces = call("tokenizer", "encode", tmp_path / "t/k.json", "abc", "--pieces").out.split()
    assert len(pieces) == len(first)


def test_corpora_are_listed_and_described(call, finished):
    names = [each["name"] for each in json.loads(call("data", "list", "--json").out.splitlines()[-1])["datasets"]]
    assert "multi30k" in names
    for name in names:
        facts = json.loads(call("data", "describe", name, "--json").out.splitlines()[-1])
        assert facts["name"] == name
        assert facts["licence"]
    facts = json.loads(call("data", "describe", finished.parent / "train.a", "--json").out.splitlines()[-1])
    assert facts["lines"] == 60


def test_a_corpus_is_fetched_from_a_local_folder(call, tmp_path, monkeypatch):
    text = b"abc\ndef\n"
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/train.txt.gz").write_bytes(gzip.compress(text))
    file = {"name": "train.txt", "url": "train.txt.gz", "bytes": len(text), "lines": 2}
    file["sha256"] = hashlib.sha256(text).hexdigest()
    about = {"name": "mine", "title": "t", "task": "t", "languages": ("en",), "kind": "download"}
    record = catalog.Dataset(**about, licence="l", citation="c", base_url="https://example.invalid", files=(file,))
    monkeypatch.setattr(catalog, "catalog", lambda: [record])
    done = call("data", "get", "mine", "--base-url", tmp_path / "mirror", "--out", tmp_path / "data")
    assert done.out == f"{tmp_path / 'data/train.txt'}\n"
    assert (tmp_path / "data/train.txt").read_bytes() == text


def test_info_tells_what_is_in_a_model(call, finished):
    facts = json.loads(call("info", finished, "--json").out.splitlines()[-1])
    model = clearhead.load(finished).bundle.model
    assert facts["kind"] == "encoder-decoder"
    assert facts["d_model"] == 16
    assert facts["parameters"] == sum(each.numel() for each in model.parameters())
    assert facts["updates"] == 30


@pytest.mark.parametrize("name", SHIPPED)
def test_info_tells_what_a_shipped_recipe_would_build(call, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a folder of that name is not the recipe
    for spelled in (f"{name}.yaml", f"recipes/{name}.yaml"):
        done = call("info", spelled, "model.d_ff=17", "--json")
        assert (done.status, done.err) == (0, "")
        assert json.loads(done.out.splitlines()[-1])["d_ff"] == 17


def test_a_recipe_of_ones_own_comes_before_a_shipped_one(call, recipe, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{SHIPPED[0]}.yaml").write_text(recipe.read_text())
    assert json.loads(call("info", f"{SHIPPED[0]}.yaml", "--json").out.splitlines()[-1])["d_model"] == 16
    assert "no such recipe" in call("info", f"elsewhere/{SHIPPED[0]}.yaml").complaint


def test_env_tells_versions_and_machine(call):
    facts = json.loads(call("env", "--json").out.splitlines()[-1])
    assert facts["clearhead"] == clearhead.__version__
    assert facts["float32_gflops"] > 0


def test_the_version(call):
    assert call("--version").out == f"clearhead {clearhead.__version__}\n"


def test_help_of_every_command_answers_without_torch(tmp_path):
    script = """
import sys
from typer.main import get_command
from clearhead.cli.main import app, run

def paths(command, path):
    yield path
    for name, each in getattr(command, "commands", {}).items():
        yield from paths(each, [*path, name])

for path in paths(get_command(app), []):
    assert run([*path, "--help"]) == 0, path
heavy = {"torch", "numpy", "tokenizers", "sacrebleu", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Usage: clearhead") >= 14


def test_python_m_clearhead_is_the_command(tmp_path):
    command = [sys.executable, "-m", "clearhead", "translate", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "clearhead: nowhere: no such folder; give the folder of a run or of a bundle\n"
