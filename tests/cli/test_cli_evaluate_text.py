"""clearhead evaluate for models that are no translators: one command, the scores of their kind."""

import json

import pytest

LM = """
tokenizer: {{joint: char}}
data: {{folder: {folder}, train: {{kind: text, file: a.txt}}, valid: {{kind: text, file: a.txt}}}}
model: {{encoder_layers: 0, decoder_layers: 1, d_model: 8, heads: 2, d_ff: 8, length: 16, tie: output}}
objective: causal
train: {{updates: 2, batch_tokens: 64, precision: float32, threads: 1, device: cpu}}
"""


@pytest.fixture
def language_model(call, tmp_path, monkeypatch):
    """The folder of a tiny language model."""
    monkeypatch.setattr("clearhead.train.tasks.base.write_report", lambda *given, **options: None)
    (tmp_path / "a.txt").write_text("abc cab\n" * 40)
    (tmp_path / "lm.yaml").write_text(LM.format(folder=tmp_path) + "")
    call("train", tmp_path / "lm.yaml", "data.reading={kind: packed, length: 16}", "--out", tmp_path / "run")
    return tmp_path / "run"


def test_a_language_model_is_scored_on_text_files_and_folders(call, language_model, tmp_path):
    (tmp_path / "b.jsonl").write_text('{"body": "abc"}\n{"body": "cab cab"}\n')
    done = call("evaluate", language_model, "--data", tmp_path / "b.jsonl", "--set", "text=body", "--json")
    scores = json.loads(done.out.splitlines()[-1])
    assert done.status == 0
    assert scores["bytes"] == 10
    assert scores["predicted_tokens"] == scores["tokens"] == 12
    whole = call("evaluate", language_model, "--data", tmp_path / "a.txt", "--set", "document=line", "--json")
    assert json.loads(whole.out.splitlines()[-1])["perplexity"] > 1


def test_mistakes_are_one_line(call, language_model, tmp_path):
    assert "give --data PATH" in call("evaluate", language_model).complaint
    assert "no such file" in call("evaluate", language_model, "--data", tmp_path / "no.txt").complaint
    wrong = call("evaluate", language_model, "--data", tmp_path / "a.txt", "--set", "documents=line")
    assert "corpus 'text' has no option 'documents'" in wrong.complaint
