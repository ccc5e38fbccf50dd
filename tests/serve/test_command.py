"""clearhead serve, as it is started."""

import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from clearhead.cli.main import run
from clearhead.core.errors import UsageError
from clearhead.serve.config import ServeConfig
from clearhead.serve.hall import Hall
from clearhead.serve.server import listen
from servers import tiny_model


@pytest.fixture
def folder(tmp_path):
    tiny_model("translator").bundle.save(tmp_path / "letters")
    return tmp_path / "letters"


def test_it_serves_until_it_is_told_to_stop(folder):
    command = [sys.executable, "-m", "clearhead", "serve", f"mine={folder}", "--port", "0", "--languages", "mine=a-b"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "CLEARHEAD_API_KEY": "k"}, **pipes) as process:
        said = process.stdout.readline()
        assert said.startswith("serving mine at http://127.0.0.1:")
        found = said.split()[-1]
        assert httpx.get(f"{found}/languages").status_code == 401
        key = {"Authorization": "Bearer k"}
        assert httpx.get(f"{found}/languages", headers=key).json()[0]["targets"] == ["b"]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert errors == ""


def test_a_port_that_is_taken_is_one_line(folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", str(folder), "--port", str(port)]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"clearhead: 127.0.0.1:{port}: cannot listen there; found address already in use")
    assert message.count("\n") == 1


def test_an_address_of_another_machine_is_refused():
    with pytest.raises(UsageError, match="cannot listen there"):
        listen(ServeConfig(host="192.0.2.1"))
    with pytest.raises(UsageError, match="cannot listen there"):
        listen(ServeConfig(host="no such host"))


@pytest.mark.parametrize(
    "wrong", [["--languages", "mine"], ["--cache", "none"], ["--timeout", "-1"], ["--port", "99999"]]
)
def test_wrong_options_are_one_line(folder, capsys, wrong):
    assert run(["serve", str(folder), *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_what_is_missing_is_one_line(folder, capsys, monkeypatch, tmp_path):
    assert run(["serve", str(folder), "--runs", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert run(["serve", str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err
    monkeypatch.setattr("clearhead.cli.serve.find_spec", lambda name: None if name == "uvicorn" else name)
    assert run(["serve", str(folder)]) == 2
    assert capsys.readouterr().err == "clearhead: serving needs uvicorn; pip install 'clearhead[serve]'\n"


def test_models_have_names_of_their_own(folder):
    with pytest.raises(UsageError, match="two models of one name"):
        Hall.open([str(folder), str(folder)])
    with pytest.raises(UsageError, match="no model to serve"):
        Hall.open([])
    hall = Hall.open([str(folder), f"other={folder}"])
    assert list(hall.models) == ["letters", "other"]
    assert hall.find(None).name == "letters"


def test_a_server_that_others_reach_without_a_key_says_so(folder, capsys, monkeypatch):
    monkeypatch.setattr("clearhead.serve.server.run", lambda *arguments: None)
    run(["serve", str(folder), "--host", "0.0.0.0", "--port", "0"])
    assert "warning: anybody who reaches" in capsys.readouterr().err
    run(["serve", str(folder), "--host", "0.0.0.0", "--port", "0", "--api-key", "k"])
    assert capsys.readouterr().err == ""
