"""clearhead info and clearhead verify: what they print is what they measured, and how they end."""

import json

import pytest

import clearhead
from clearhead.model.mask import AttentionMask
from clearhead.train.checks import CHECKS


def last(done):
    return json.loads(done.out.splitlines()[-1])


def test_info_of_a_model_adds_up_to_its_parameters(call, finished):
    facts = last(call("info", finished, "--json"))
    model = clearhead.load(finished).bundle.model
    components = facts["components"].values()
    assert sum(each["parameters"] for each in components) == sum(each.numel() for each in model.parameters())
    assert facts["total"]["parameters"] == facts["parameters"]
    for name in ("forward_flops", "backward_flops", "activation_bytes", "cache_bytes", "optimizer_bytes"):
        assert facts["total"][name] == pytest.approx(sum(each[name] for each in components))
        assert facts["total"][name] > 0
    assert facts["total"]["backward_flops"] == 2 * facts["total"]["forward_flops"]
    assert facts["total"]["cache_bytes"] == 4 * 2 * 16 * 2  # float32; keys and values; d_model; self and cross
    assert facts["at_length"] == 64


def test_info_prints_a_table_by_component(call, finished):
    table = call("info", finished).out.partition("for each token of 64")[2].splitlines()[1:]
    assert "forward FLOPs" in table[0]
    names = "embedding attention cross feedforward norm head in"
    assert [line.split()[0] for line in table[1:]] == names.split()
    assert len({len(line) for line in table}) == 1


def test_attention_costs_more_in_a_longer_text(call, recipe):
    short, long = (last(call("info", recipe, "--length", length, "--json"))["components"] for length in (8, 16))
    assert (
        long["attention"]["forward_flops"] - short["attention"]["forward_flops"] == 2 * 4 * 8 * 16
    )  # 4 d for each key
    assert long["feedforward"] == short["feedforward"]


@pytest.mark.parametrize(("optimizer", "states"), [("adam", 2), ("adamw", 2)])
def test_info_knows_what_an_optimiser_keeps(call, recipe, optimizer, states):
    total = last(call("info", recipe, f"train.optimizer={optimizer}", "--json"))["total"]
    assert total["optimizer_bytes"] == 4 * states * total["parameters"]


def test_a_right_model_is_verified(call, finished):
    done = call("verify", finished, "--json")
    assert (done.status, done.err) == (0, "")
    result = last(done)
    assert result["failed"] == 0
    assert result["passed"] == len(result["checks"])
    names = [each["name"] for each in (*result["checks"], *result["skipped"])]
    assert sorted(names) == CHECKS.names()
    for each in result["checks"]:
        assert each["passed"]
        assert 0 <= each["largest_difference"] <= each["tolerance"]
    assert all(each["reason"] for each in result["skipped"])
    assert done.out.count("holds") == result["passed"]


def test_a_wrong_model_is_found_out_and_the_exit_status_says_so(call, finished, monkeypatch):
    monkeypatch.setattr(AttentionMask, "padded", lambda mask, valid: mask)
    done = call("verify", finished, "--json")
    assert done.status == 1
    result = last(done)
    failed = {each["name"] for each in result["checks"] if not each["passed"]}
    assert "padding_inert" in failed
    assert result["failed"] == len(failed) == done.out.count("BROKEN")


def test_what_is_no_model_is_told_in_one_line(call, tmp_path):
    assert "no such folder" in call("verify", tmp_path / "nowhere").complaint
