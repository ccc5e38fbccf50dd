"""Every mistake and every damage is one line with a remedy and an exit status; nothing that was there is lost."""

import contextlib
import io
import json
import os
import pickle
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from clearhead.cli.main import run
from clearhead.core.errors import UsageError
from clearhead.core.recipe import read_recipe
from clearhead.train import Recipe
from clearhead.train.folder import open_folder

BUNDLE = (
    "config.json",
    "model.safetensors",
    "source_tokenizer.json",
    "target_tokenizer.json",
    "generation_config.json",
)
LONG = "a" * 10_000


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


# --- texts that cannot be translated or learned from ---


@pytest.mark.parametrize("name", ["source", "target"])
@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"abc\n", "not aligned; found"),
        (b"abc\nde\xfff\n", "line 2: not UTF-8 text; found byte 0xff at position 2; convert"),
        (None, "no such file"),
    ],
)
def test_a_corpus_that_cannot_be_read_stops_a_training(call, recipe, tmp_path, name, split, content, complaint):
    if content is not None:
        (recipe.parent / "bad").write_bytes(content)
    wrong = f"data.{split}.{name}=bad"
    done = call("train", recipe, wrong, "--out", tmp_path / "run")
    assert done.status == 1
    assert complaint in done.complaint
    assert str(recipe.parent / "bad") in done.complaint


def test_after_a_mistake_in_the_recipe_the_same_folder_serves(call, recipe, tmp_path):
    assert call("train", recipe, "data.train.source=nowhere", "--out", tmp_path / "run").status == 1
    done = call("train", recipe, "train.updates=2", "--out", tmp_path / "run")
    assert done.status == 0
    assert "updates: 2\n" in (tmp_path / "run/recipe.yaml").read_text()


@pytest.mark.parametrize("content", ["", "\n\n\n"])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_corpus_without_a_pair_stops_a_training_before_it_begins(call, recipe, tmp_path, split, content):
    (recipe.parent / "blank").write_text(content)
    wrong = f"data.{split}={{kind: parallel, source: blank, target: blank}}"
    done = call("train", recipe, wrong, "--out", tmp_path / "run")
    assert done.status == 1
    assert "check the path and the columns" in done.complaint
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_missing_test_set_shows_before_the_training(call, recipe, tmp_path):
    wrong = "data.test={kind: tsv, file: nowhere.tsv}"
    assert "nowhere.tsv: no such file" in call("train", recipe, wrong, "--out", tmp_path / "run").complaint
    assert [each.name for each in (tmp_path / "run").iterdir()] == ["recipe.yaml"]


def test_pairs_that_are_all_dropped_stop_a_training(call, recipe, tmp_path):
    for _ in range(2):
        done = call("train", recipe, "data.filter.max_tokens=1", "--out", tmp_path / "run", "--resume")
        assert "no training pair is left; found 0 pairs; dropped 60" in done.complaint


def test_a_sentence_of_ten_thousand_tokens_is_dropped_from_the_training_data(call, recipe, tmp_path):
    for side in "ab":
        path = recipe.parent / f"train.{side}"
        path.write_text(path.read_text() + LONG + "\n")
    done = call("train", recipe, "train.updates=2", "--out", tmp_path / "run")
    assert done.status == 0
    assert "dropped 1 with more than 256 tokens" in done.err


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_sentence_beyond_the_reach_of_the_model_is_told_before_the_training(call, recipe, tmp_path, split):
    for side in "ab":
        path = recipe.parent / f"{split}.{side}"
        path.write_text(path.read_text() + LONG + "\n")
    wrong = ["model.position=learned", "data.filter.max_tokens=20000"]
    complaint = call("train", recipe, *wrong, "--out", tmp_path / "run").complaint
    assert "found 10,000 tokens; expected fewer than 64" in complaint
    assert ("valid.a, line 6" if split == "valid" else "data.train") in complaint
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_a_sentence_of_ten_thousand_tokens_is_named_by_its_line(call, finished, tmp_path):
    done = call("translate", finished, stdin=f"abc\n\n{LONG}\n".encode())
    assert "standard input, line 3: this sentence is longer" in done.complaint
    assert "sentence 2: this sentence is longer" in call("translate", finished, "abc", LONG).complaint
    (tmp_path / "p.tsv").write_text(f"abc\tcba\n{LONG}\tabc\n")
    assert (
        "p.tsv, line 2: this sentence is longer" in call("evaluate", finished, "--data", tmp_path / "p.tsv").complaint
    )


def test_a_long_line_far_down_is_named_by_its_line(call, finished, monkeypatch):
    monkeypatch.setattr("clearhead.cli.translate.CHUNK", 2)
    done = call("translate", finished, stdin=f"abc\nabc\nabc\n{LONG}\n".encode())
    assert "standard input, line 4:" in done.complaint
    assert done.out.count("\n") == 2


def test_undecodable_standard_input_is_named_by_its_line(call, finished):
    tokenizer = finished / "source_tokenizer.json"
    for command in (["translate", finished], ["tokenizer", "encode", tokenizer], ["tokenizer", "decode", tokenizer]):
        done = call(*command, stdin=b"5\n\xff\n")
        assert done.status == 1
        assert "standard input, line 2: not UTF-8 text; found byte 0xff at position 0; convert" in done.complaint


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"p.tsv": b""}, "no sentence pairs"),
        ({"p.tsv": b"\t\n"}, "no pair with a text on both sides"),
        ({"p.tsv": b"abc\n"}, "p.tsv, line 1: too few tab-separated columns"),
        ({"p.tsv": b"abc\tcba\n\xff\tc\n"}, "p.tsv, line 2: not UTF-8"),
        ({"p.jsonl": b'{"source": "a"}\n'}, "p.jsonl, line 1: not a pair"),
        ({"p.jsonl": b'{"source": "a", "targ'}, "p.jsonl, line 1: not JSON"),
        ({"p.tsv.gz": b"\x1f\x8b\x08cut"}, "p.tsv.gz, line 1: a damaged or truncated .gz file"),
        ({}, "no such file"),
    ],
)
def test_pairs_that_cannot_be_scored(call, finished, tmp_path, files, complaint):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert complaint in call("evaluate", finished, "--data", tmp_path / next(iter(files), "p.tsv")).complaint


def test_the_files_of_an_evaluation_must_have_equally_many_lines(call, finished, tmp_path):
    (tmp_path / "b").write_text("abc\n")
    done = call("evaluate", finished, "--source", finished.parent / "valid.a", "--target", tmp_path / "b")
    assert "not aligned; found 5 and 1 lines" in done.complaint


@pytest.mark.parametrize("given", [[], ["--source", "valid.a"], ["--data", "valid.a", "--source", "valid.a"]])
def test_an_evaluation_asks_which_pairs(call, finished, monkeypatch, given):
    monkeypatch.chdir(finished.parent)
    done = call("evaluate", finished, *given)
    assert done.status == 2
    assert "give either --source FILE and --target FILE, or --data FILE" in done.complaint


# --- recipes and options ---


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("model.positon=rope", "override model.positon: unknown key 'positon'; expected one of"),
        ("model.position=rop", "no position of kind 'rop'; expected one of .*did you mean 'rope'"),
        ("tokenizer.source=chra", "did you mean 'char'"),
        ("data.train.kind=parallell", "did you mean 'parallel'"),
        ("trian.updates=3", "did you mean 'train'"),
        ("train.updates=0", "override train.updates: input should be greater than 0"),
        ("train.device=abacus", "this device cannot be used here; found 'abacus'; use auto or cpu"),
        ("model.encoder_layers=0", "translation needs an encoder-decoder; found decoder-only; set"),
        ("updates", "an override is written key=value"),
    ],
)
def test_a_wrong_override_is_wrong_use(call, recipe, tmp_path, override, complaint):
    done = call("train", recipe, override, "--out", tmp_path / "run")
    assert done.status == 2
    assert re.search(complaint, done.complaint)


def test_an_unknown_key_in_the_file_names_file_line_and_nearest_key(call, recipe, tmp_path):
    recipe.write_text(recipe.read_text().replace("batch_tokens", "batch_tokenz"))
    done = call("train", recipe, "--out", tmp_path / "run")
    assert done.status == 2
    assert f"{recipe}, line 11, train.batch_tokenz: unknown key" in done.complaint
    assert "did you mean 'batch_tokens'?" in done.complaint
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_is_not_there_offers_those_that_are(call, tmp_path):
    done = call("train", "demmo", "--out", tmp_path / "run")
    assert done.status == 2
    assert "demmo: no such recipe; expected a YAML file, or one of chinese_novel," in done.complaint
    assert done.complaint.endswith("did you mean 'demo'?")


@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "byte_bpe", "bpe"])
def test_a_vocabulary_larger_than_the_corpus_allows(call, recipe, tmp_path, kind):
    wrong = f"tokenizer.source={{kind: {kind}, vocab_size: 50000}}"
    complaint = call("train", recipe, wrong, "--out", tmp_path / "run").complaint
    assert "tokenizer.source: the corpus is too small for this vocabulary; found vocab_size 50,000" in complaint
    assert "set vocab_size to" in complaint
    train = ["tokenizer", "train", recipe.parent / "train.a", "--out", tmp_path / "t.json"]
    complaint = call(*train, "--kind", kind, "--set", "vocab_size=50000").complaint
    assert "train.a: the corpus is too small" in complaint
    assert not (tmp_path / "t.json").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["translat"], "clearhead: no such command 'translat'; did you mean 'translate'"),
        (["translate"], "clearhead translate: missing argument 'MODEL'; see clearhead translate --help"),
        (["translate", "MODEL", "abc", "--beams", "0"], "--beams"),
        (["translate", "MODEL", "abc", "--bims", "2"], "no such option: --bims"),
        (["translate", "MODEL", "abc", "--n-best", "3", "--beams", "2"], "n_best must not exceed beams"),
        (["translate", "MODEL", "abc", "--length-penalty", "nan"], "--length-penalty: input should be"),
        (
            ["translate", "MODEL", "abc", "--search", "beams=3"],
            "--search beams: this has an option of its own; use --beams",
        ),
        (
            ["translate", "MODEL", "abc", "--search", "methd=beam"],
            "--search methd: no such setting; did you mean 'method'",
        ),
        (["translate", "MODEL", "abc", "--search", "method=bean"], "did you mean 'beam'"),
        (["translate", "MODEL", "abc", "--search", "method"], "--search: not an option; found 'method'"),
        (["translate", "MODEL", "abc", "--stream", "--search", "method=beam"], "leave --stream or --search out"),
        (["translate", "MODEL", "abc", "--device", "abacus"], "use auto or cpu"),
        (["info", "MODEL", "model.d_model=3"], "a trained model cannot be changed"),
        (["tokenizer", "encode", "MODEL", "abc"], "this model has two tokenizers"),
        (["tokenizer", "decode", "MODEL/source_tokenizer.json", "x"], "invalid value for 'ID'"),
        (["tokenizer", "decode", "nowhere", "1"], "nowhere: no such file"),
        (["tokenizer", "train", "nowhere", "--out", "t.json"], "nowhere: no such file"),
        (["tokenizer", "train", "MODEL/config.json", "--out", "t.json", "--kind", "chr"], "did you mean 'char'"),
        (["tokenizer", "train", "MODEL/config.json", "--out", "t.json", "--set", "x"], "expected name=value"),
        (["tokenizer", "train", "MODEL/config.json", "--out", "t.json", "--set", "vocab_size=["], "name=value"),
        (["tokenizer", "train", "MODEL/config.json", "--out", "t.json", "--set", "vocab=9"], "did you mean 'vocab_s"),
        (["evaluate", "MODEL", "--data", "MODEL"], "a folder, not a file"),
        (["evaluate", "MODEL", "--data", "MODEL/config.json", "--output", "."], "a folder, not a file"),
        (["env", "more"], "unexpected extra argument"),
    ],
)
def test_wrong_use_is_one_line_and_status_two(call, finished, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MODEL").symlink_to(finished)
    if "--output" in arguments:
        (tmp_path / "p.tsv").write_text("a\tb\n")
        arguments = [*arguments[:3], "p.tsv", *arguments[4:]]
    done = call(*arguments)
    assert done.status == 2
    assert complaint in done.complaint


def test_token_ids_outside_the_vocabulary_are_named_by_their_line(call, finished):
    tokenizer = finished / "source_tokenizer.json"
    for wrong, complaint in (
        (b"5 900", "an id outside the vocabulary; found 900"),
        (b"5 x", "not token ids; found 5 x"),
    ):
        done = call("tokenizer", "decode", tokenizer, stdin=b"5\n" + wrong + b"\n")
        assert f"standard input, line 2: {complaint}" in done.complaint


def test_a_data_set_that_is_not_known_or_not_there(call, tmp_path):
    assert "did you mean 'multi30k'?" in call("data", "get", "multi30").complaint
    done = call("data", "get", "multi30k", "--base-url", tmp_path / "empty", "--out", tmp_path / "out")
    assert "the file is not there; check the base URL" in done.complaint
    assert "nor a data set of that name" in call("data", "describe", tmp_path / "nowhere").complaint


# --- models ---


@pytest.mark.parametrize("harm", ["missing", "empty", "truncated", "garbage", "a folder", "other JSON", "pickle"])
@pytest.mark.parametrize("name", BUNDLE)
def test_a_damaged_model_is_told_by_file_and_remedy(call, bundle, name, harm):
    path = bundle / name
    content = path.read_bytes()
    path.unlink()
    if harm == "a folder":
        path.mkdir()
    elif harm != "missing":
        contents = {"empty": b"", "truncated": content[: len(content) // 2], "garbage": bytes(range(256)) * 9}
        contents |= {"other JSON": b'{"a": [1]}', "pickle": pickle.dumps(content)}
        path.write_bytes(contents[harm])
    done = call("translate", bundle, "abc")
    assert done.status == 1
    assert done.out == ""
    assert name in done.complaint
    assert done.complaint.count("; ") >= 1


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda path: None, "no such folder; give the folder of a run or of a bundle"),
        (lambda path: path.write_text("x"), "a file, not the folder of a model; give"),
        (lambda path: path.mkdir(), "no model in this folder: there is no config.json; give"),
    ],
)
def test_what_is_no_model_folder(call, tmp_path, make, complaint):
    make(tmp_path / "model")
    for command in (["translate", "abc"], ["evaluate", "--data", __file__]):
        done = call(command[0], tmp_path / "model", *command[1:])
        assert done.status == 1
        assert complaint in done.complaint or "columns" in done.complaint


def test_a_run_that_has_not_ended_says_how_to_go_on(call, recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.yaml").write_text(recipe.read_text())
    assert "continue it with clearhead train --resume" in call("translate", tmp_path / "run", "abc").complaint


# --- folders and disks ---


def test_a_finished_run_is_not_overwritten(call, finished, recipe):
    before = snapshot(finished)
    done = call("train", finished.parent / "tiny.yaml", "--out", finished)
    assert done.status == 2
    assert "already holds a run; add --resume" in done.complaint
    done = call("train", finished.parent / "tiny.yaml", "train.updates=40", "--out", finished, "--resume")
    assert done.status == 1
    assert "recipe.yaml, train.updates: the recipe is not the one this run began with; found 40" in done.complaint
    assert snapshot(finished) == before


def test_files_of_another_origin_are_not_taken_for_a_run(call, recipe, bundle, tmp_path):
    (tmp_path / "project/data").mkdir(parents=True)
    (tmp_path / "project/data/mine.txt").write_text("mine")
    for folder in (bundle, tmp_path / "project"):
        before = snapshot(folder)
        for options in ([], ["--resume"]):
            done = call("train", recipe, "--out", folder, *options)
            assert done.status == 2
            assert "a run would overwrite what it holds" in done.complaint
        assert snapshot(folder) == before


def test_two_runs_at_once_in_one_folder_are_refused(call, recipe, tmp_path):
    plan = read_recipe(recipe, [], Recipe)
    with open_folder(plan, tmp_path / "run", resume=False):
        for options in ([], ["--resume"]):
            done = call("train", recipe, "--out", tmp_path / "run", *options)
            assert done.status == 2
            assert "another process is at work in this folder" in done.complaint
    with open_folder(plan, tmp_path / "run", resume=True):
        pass


def test_a_recipe_from_before_a_key_existed_is_the_same_recipe(recipe, tmp_path):
    plan = read_recipe(recipe, [], Recipe)
    (tmp_path / "run/data").mkdir(parents=True)
    (tmp_path / "run/recipe.yaml").write_text(recipe.read_text())  # none of the defaults
    with open_folder(plan, tmp_path / "run", resume=True):
        pass
    with pytest.raises(UsageError), open_folder(plan, tmp_path / "run", resume=False):
        pass


@pytest.mark.parametrize("out", ["file", "file/run"])
def test_a_file_where_a_folder_is_needed(call, recipe, finished, tmp_path, out):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "p.tsv").write_text("abc\tcba\n")
    commands = [
        ["train", recipe, "--out", tmp_path / out],
        ["tokenizer", "train", recipe, "--kind", "char", "--out", tmp_path / out / "t.json"],
        ["evaluate", finished, "--data", tmp_path / "p.tsv", "--output", tmp_path / out / "out"],
        ["data", "get", "multi30k", "--out", tmp_path / out],
    ]
    for command in commands:
        done = call(*command)
        assert done.status == 1
        assert "a file stands where a folder is needed: choose another path" in done.complaint
    assert (tmp_path / "file").read_text() == "mine"


def fills_up(patch: pytest.MonkeyPatch, number: int) -> None:
    """From the synchronisation of that number on, the disk is full."""
    plain, left = os.fsync, [number]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        plain(descriptor)

    patch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("number", [0, 4, 14, 75])
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    call, finished, recipe, tmp_path, monkeypatch, number
):
    with monkeypatch.context() as patch:
        fills_up(patch, number)
        done = call("train", recipe, "--out", tmp_path / "run")
    assert done.status == 1
    assert "cannot write: no space left on device; " in done.complaint
    assert ".tmp" not in done.complaint
    assert not list((tmp_path / "run").rglob(".*"))
    assert call("train", recipe, "--out", tmp_path / "run", "--resume").status == 0
    same = (tmp_path / "run/model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()
    assert same


def test_a_disk_that_is_almost_full_is_noticed_before_a_checkpoint(call, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    assert "not enough disk space for a checkpoint" in call("train", recipe, "--out", tmp_path / "run").complaint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("command", [["translate", "MODEL", "abc"], ["info", "MODEL"], ["data", "list"], ["--help"]])
def test_standard_output_on_a_full_disk(call, finished, monkeypatch, capsys, command):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        status = run([str(finished) if each == "MODEL" else each for each in command])
        monkeypatch.undo()
    assert status == 1
    assert capsys.readouterr().err == "clearhead: standard output: no space left on device\n"


@pytest.mark.parametrize("command", [["translate", "MODEL"], ["info", "MODEL"], ["tokenizer", "encode", "TOKENIZER"]])
def test_a_reader_that_has_gone_is_no_news(finished, monkeypatch, capsys, command):
    read, write = os.pipe()
    os.close(read)
    names = {"MODEL": str(finished), "TOKENIZER": str(finished / "source_tokenizer.json")}
    pipe = os.fdopen(write, "w")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"abc\n" * 2_000)))
    monkeypatch.setattr(sys, "stdout", pipe)
    status = run([names.get(each, each) for each in command])
    monkeypatch.undo()
    with contextlib.suppress(BrokenPipeError):
        pipe.close()
    assert (status, capsys.readouterr().err) == (1, "")


# --- what nobody thought of ---


def test_an_unforeseen_failure_is_one_line_too_and_a_traceback_with_debug(call, finished, monkeypatch):
    def broken(*arguments, **options):
        raise KeyError("a\nb")

    monkeypatch.setattr("clearhead.apply.load", broken)
    done = call("translate", finished, "abc")
    assert done.status == 1
    assert "KeyError" in done.complaint
    assert "add --debug" in done.complaint
    done = call("translate", finished, "abc", debug=True)
    assert done.status == 1
    assert done.err.startswith("Traceback")
    assert "in broken" in done.err


def test_debug_shows_the_traceback_of_a_users_mistake(call, tmp_path):
    done = call("translate", tmp_path / "nowhere", "abc", debug=True)
    assert done.err.startswith("Traceback")
    assert done.err.splitlines()[-1].startswith("clearhead: ")


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")]
)
def test_too_little_memory_names_what_to_lower(call, finished, monkeypatch, error):
    def load(*arguments, **options):
        raise error

    monkeypatch.setattr("clearhead.apply.load", load)
    assert "out of memory; train with a smaller train.batch_tokens" in call("translate", finished, "abc").complaint


def test_a_loss_that_is_not_finite_stops_the_training(call, recipe, tmp_path):
    done = call("train", recipe, "train.learning_rate=1e30", "train.clip=0", "--out", tmp_path / "run")
    assert done.status == 1
    assert "not finite at update" in done.complaint
    assert "lower train.learning_rate" in done.complaint


def test_metrics_of_a_failed_scoring_are_never_printed_as_json(call, finished, tmp_path):
    (tmp_path / "p.tsv").write_text("")
    assert call("evaluate", finished, "--data", tmp_path / "p.tsv", "--json").out == ""
    assert json.loads(call("data", "list", "--json").out.splitlines()[-1])
