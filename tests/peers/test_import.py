"""Whatever transformers saves, we compute: logits of random models of every architecture, weights in every layout."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from clearhead.bundle import Bundle
from clearhead.bundle.exchange import ARCHITECTURES, export_model, import_model, witness
from clearhead.bundle.exchange.peer import TOLERANCE
from clearhead.core.errors import BundleError
from hf_models import LLAMA, MODELS, SEQUENCE, saved

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

EACH = pytest.mark.parametrize(
    ("name", "special"), [(name, special) for name in ARCHITECTURES.names() for special in MODELS.get(name, ["-"])]
)


@EACH
def test_logits_are_those_of_transformers(tmp_path, name, special):
    peer = saved(tmp_path, name, MODELS[name][special])
    found = import_model(tmp_path)
    assert found.name == name
    difference = witness(tmp_path, name, found.architecture, found.bundle.model)["max_abs_logit_difference"]
    assert difference < 1e-5
    with torch.inference_mode():
        batch = found.architecture.batch(found.bundle.model.config)
        ours, told = found.architecture.answer(found.bundle.model, batch)
        theirs = getattr(peer(**batch.arguments(found.architecture.reads)), found.architecture.answers)
    assert (theirs - ours)[told].abs().max() < 1e-5  # of the model in memory, not only of its files
    assert ours[told].std() > 0.1


@EACH
def test_a_bundle_of_it_is_the_same_model(tmp_path, name, special):
    saved(tmp_path / "theirs", name, MODELS[name][special])
    found = import_model(tmp_path / "theirs")
    found.bundle.save(tmp_path / "ours")
    loaded = Bundle.load(tmp_path / "ours")
    assert loaded.model.config == found.bundle.model.config
    batch = found.architecture.batch(loaded.model.config)
    with torch.inference_mode():
        before, after = (found.architecture.answer(each.model, batch)[0] for each in (found.bundle, loaded))
    assert torch.equal(before, after)


def test_the_next_sentence_scores_of_bert(tmp_path):
    peer = saved(tmp_path, "BertForPreTraining", MODELS["BertForPreTraining"]["plain"])
    found = import_model(tmp_path)
    batch = found.architecture.batch(found.bundle.model.config)
    with torch.inference_mode():
        theirs = peer(**batch.arguments("input_ids")).seq_relationship_logits
        hidden = found.bundle.model.encode(batch.source, batch.source_valid, segments=batch.segments).hidden
        ours = found.bundle.model.head.pairs(hidden)
    assert (theirs - ours).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["MarianMTModel", "LlamaForCausalLM"])
def test_weights_in_many_files_are_one_model(tmp_path, name):
    settings = MODELS[name]["plain"]
    saved(tmp_path / "one", name, settings)
    saved(tmp_path / "many", name, settings, max_shard_size="4KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    one, many = (import_model(tmp_path / each).bundle.model.state_dict() for each in ("one", "many"))
    assert all(torch.equal(one[key], many[key]) for key in one)


def test_a_shard_that_is_not_there_is_named(tmp_path):
    saved(tmp_path, "LlamaForCausalLM", LLAMA, max_shard_size="4KB")
    gone = sorted(tmp_path.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(BundleError, match=rf"{gone.name}: no such file"):
        import_model(tmp_path)


def test_bfloat16_weights_become_float32(tmp_path):
    saved(tmp_path, "LlamaForCausalLM", LLAMA)
    tensors = {key: each.bfloat16() for key, each in load_file(tmp_path / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = import_model(tmp_path)
    assert found.bundle.model.output.dtype == torch.float32
    assert witness(tmp_path, found.name, found.architecture, found.bundle.model)["max_abs_logit_difference"] < 1e-5


def test_what_begins_and_ends_a_target_is_kept(tmp_path):
    saved(tmp_path, "MarianMTModel", SEQUENCE)
    assert import_model(tmp_path).bundle.history["token_ids"] == {"pad": 1, "eos": 3, "bos": 1}


@pytest.mark.parametrize("name", ["BartForConditionalGeneration", "MBartForConditionalGeneration"])
def test_a_forced_first_token_comes_and_goes(tmp_path, name):
    theirs = saved(tmp_path / "in", name, {**SEQUENCE, "decoder_start_token_id": 3})
    theirs.generation_config.forced_bos_token_id = 5
    theirs.generation_config.save_pretrained(tmp_path / "in")
    bundle = import_model(tmp_path / "in").bundle
    assert bundle.history["token_ids"] == {"pad": 1, "eos": 3, "bos": 3, "forced_bos": 5}
    bundle.save(tmp_path / "ours")
    export_model(Bundle.load(tmp_path / "ours"), tmp_path / "out")
    back = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").generation_config
    for key in ("forced_bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(back, key) == getattr(theirs.generation_config, key), key
    assert import_model(tmp_path / "out").bundle.history == bundle.history


def test_a_wrong_weight_is_found_out(tmp_path):
    saved(tmp_path, "LlamaForCausalLM", LLAMA)
    found = import_model(tmp_path)
    with torch.no_grad():
        found.bundle.model.decoder.blocks[0].feedforward.gate.weight[3, 4] += 1
    with pytest.raises(BundleError, match=f"transformers has other logits; found .*; expected at most {TOLERANCE:g}"):
        witness(tmp_path, found.name, found.architecture, found.bundle.model)


def test_old_names_are_understood(tmp_path):
    saved(tmp_path / "new", "BertForMaskedLM", MODELS["BertForMaskedLM"]["plain"])
    saved(tmp_path / "gpt2", "GPT2LMHeadModel", MODELS["GPT2LMHeadModel"]["plain"])
    shutil.copytree(tmp_path / "new", tmp_path / "old")
    tensors = load_file(tmp_path / "new/model.safetensors")
    old = {key.replace("LayerNorm.weight", "LayerNorm.gamma"): each for key, each in tensors.items()}
    old |= {"cls.seq_relationship.weight": torch.ones(2, 12), "bert.embeddings.position_ids": torch.arange(17)}
    save_file(old, tmp_path / "old/model.safetensors", metadata={"format": "pt"})
    new, same = (import_model(tmp_path / each).bundle.model.state_dict() for each in ("new", "old"))
    assert all(torch.equal(new[key], same[key]) for key in new)
    bare = {
        key.removeprefix("transformer."): each for key, each in load_file(tmp_path / "gpt2/model.safetensors").items()
    }
    save_file(bare, tmp_path / "gpt2/model.safetensors", metadata={"format": "pt"})
    found = import_model(tmp_path / "gpt2")
    assert (
        witness(tmp_path / "gpt2", found.name, found.architecture, found.bundle.model)["max_abs_logit_difference"]
        < 1e-5
    )


def test_old_words_for_rotary_positions_are_understood(tmp_path):
    scaling = {"type": "linear", "factor": 3.0}
    saved(
        tmp_path,
        "LlamaForCausalLM",
        {**LLAMA, "rope_parameters": {**scaling, "rope_type": "linear", "rope_theta": 500.0}},
    )
    new = import_model(tmp_path).bundle.model.config
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_theta": 500.0, "rope_scaling": scaling}))
    assert import_model(tmp_path).bundle.model.config == new
