"""What goes out comes back as it was, what has no word there is refused with the reason, and no damage passes."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clearhead.bundle import Bundle
from clearhead.bundle.exchange import ARCHITECTURES, export_model, fitting, import_model
from clearhead.bundle.exchange.configs import obstacles, read_config, write_config
from clearhead.bundle.exchange.flat import flat
from clearhead.bundle.exchange.rules import STORED
from clearhead.bundle.weights import weights_of
from clearhead.core.errors import BundleError, StorageError, TokenizerError
from clearhead.model import ModelConfig
from clearhead.text import train_tokenizer
from hf_models import MODELS, NATIVE, ROTARY, TRANSLATOR, VOCAB, bundle_of, like

EACH = pytest.mark.parametrize("name", ARCHITECTURES.names())
EACH_NATIVE = pytest.mark.parametrize("native", NATIVE)


def assert_same(left: Bundle, right: Bundle) -> None:
    """One model: config, weights bit for bit, tokenizers, settings of a search, history."""
    assert left.model.config == right.model.config
    mine, yours = weights_of(left.model), weights_of(right.model)
    assert mine.keys() == yours.keys()
    assert all(torch.equal(mine[key], yours[key]) for key in mine)
    assert (left.source, left.target) == (right.source, right.target)
    assert (left.search, left.history) == (right.search, right.history)


@EACH
def test_every_architecture_comes_back_exactly(tmp_path, name):
    for special, settings in MODELS[name].items():
        bundle = bundle_of(like(name, settings))
        bundle.history["architecture"] = name
        if name.startswith("T5"):  # theirs has one table for source and target, even where the output has its own
            with torch.no_grad():
                bundle.model.decoder.embedding.table.copy_(bundle.model.encoder.embedding.table)
        exported = export_model(bundle, tmp_path / special)
        assert exported.name == name
        found = import_model(tmp_path / special)
        assert_same(found.bundle, bundle)


@EACH_NATIVE
def test_our_own_models_come_back_exactly(tmp_path, native):
    changes, name = NATIVE[native]
    bundle = bundle_of(ModelConfig(**{**VOCAB, **changes}))
    assert export_model(bundle, tmp_path / "out").name == name
    assert_same(import_model(tmp_path / "out").bundle, bundle)


def test_an_unknown_spelling_is_read_from_their_words_alone(tmp_path):
    changes, _ = NATIVE["llama, features in pairs"]
    bundle = bundle_of(ModelConfig(**{**VOCAB, **changes}))
    export_model(bundle, tmp_path / "out")
    path = tmp_path / "out/config.json"
    about = json.loads(path.read_text())
    del about["clearhead"]
    path.write_text(json.dumps(about))
    found = import_model(tmp_path / "out").bundle.model
    assert found.config.position.options.get("layout", "halves") == "halves"
    tokens = torch.randint(23, (3, 7))
    with torch.inference_mode():
        ours, theirs = (each.logits(each.decode(tokens)) for each in (bundle.model, found))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_spelling_that_no_longer_fits_gives_way(tmp_path):
    bundle = bundle_of(ModelConfig(**{**VOCAB, **NATIVE["mistral"][0]}))
    export_model(bundle, tmp_path / "out")
    path = tmp_path / "out/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sliding_window": 5}))
    assert import_model(tmp_path / "out").bundle.model.config.window == 5


@pytest.mark.parametrize("joint", [True, False])
def test_tokenizers_and_their_roles_come_back(tmp_path, joint):
    source = train_tokenizer("char", ["abcdefg hij"])
    target = source if joint else train_tokenizer("char", ["uvwxyz"])
    sizes = {"source_vocab": source.vocab_size, "target_vocab": target.vocab_size}
    bundle = bundle_of(ModelConfig(**{**TRANSLATOR, **sizes, "tie": "all" if joint else "output"}))
    bundle.source, bundle.target = source, target
    export_model(bundle, tmp_path / "out")
    found = import_model(tmp_path / "out").bundle
    assert_same(found, bundle)
    assert (found.source is found.target) == joint


REFUSED = {
    r"position\.kind must be (rope|learned)": {**ROTARY, "position": "alibi", "feedforward": "swiglu"},
    "it has no window": {**TRANSLATOR, "window": 3},
    r"feedforward\.kind cannot be gelu_tanh \(expected one of swiglu": {
        **ROTARY,
        "position": "rope",
        "feedforward": "gelu_tanh",
        "kv_heads": 1,
    },
    "it has no kv_heads": {**TRANSLATOR, "kv_heads": 1},
    "it has no d_head": {**TRANSLATOR, "d_head": 5},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_no_architecture_says_is_refused_with_the_reason(tmp_path, reason):
    bundle = bundle_of(ModelConfig(**{**VOCAB, **REFUSED[reason]}))
    with pytest.raises(BundleError, match=rf"no architecture of transformers computes this model; .*({reason})"):
        export_model(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@EACH
def test_every_key_of_a_config_is_told_or_refused(name):
    """A key that no rule knows must have its neutral value: nothing is lost without a word."""
    config = like(name, next(iter(MODELS[name].values())))
    architecture = ARCHITECTURES.get(name)()
    assert obstacles(architecture, config) == []
    told = {key for rule in architecture.rules for key in rule.ours}
    for key, other in {"window": 3, "layer_groups": 1, "segments": 2, "embedding_norm": True}.items():
        if key not in told and flat(config)[key] != other:
            changed = config.model_copy(update={key: other})
            assert obstacles(architecture, changed), key


@EACH
def test_their_words_say_the_same_when_read_again(name):
    for settings in MODELS[name].values():
        architecture, config = ARCHITECTURES.get(name)(), like(name, settings)
        written = json.loads(json.dumps(write_config(architecture, config)))
        again = read_config(architecture, {**written, STORED: {"lm_head.weight"}}, Path("here"))
        assert json.loads(json.dumps(write_config(architecture, again))) == written
        assert obstacles(architecture, again) == []


def test_a_place_that_is_taken_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match="there is something in this place already; name a new folder"):
        export_model(bundle_of(ModelConfig(**{**VOCAB, **TRANSLATOR})), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]


@pytest.fixture
def exported(tmp_path):
    """A folder of theirs that a test may harm."""
    export_model(bundle_of(ModelConfig(**{**VOCAB, **NATIVE["llama"][0]})), tmp_path / "out")
    return tmp_path / "out"


def test_a_missing_extra_or_misshapen_tensor_is_named(exported):
    path = exported / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.self_attn.k_proj.weight"
    others = {key: each for key, each in tensors.items() if key != name}
    for changed, message in (
        (others, rf"a tensor is missing; found {name}"),
        ({**tensors, "model.layers.2.extra": torch.ones(2)}, r"a tensor is not known; found model\.layers\.2\.extra"),
        (
            {**tensors, name: torch.ones(5, 12)},
            rf"the tensor {name} has another shape; found \(5, 12\); expected \(6, 12\)",
        ),
    ):
        save_file(changed, path)
        with pytest.raises(BundleError, match=message):
            import_model(exported)


def test_an_unknown_architecture_is_named(exported):
    path = exported / "config.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({**about, "architectures": ["LlamaForCausalML"]}))
    with pytest.raises(BundleError, match=r"not known; found LlamaForCausalML; .*did you mean 'LlamaForCausalLM'\?"):
        import_model(exported)
    path.write_text(
        json.dumps({key: each for key, each in about.items() if key not in ("architectures", "model_type")})
    )
    with pytest.raises(BundleError, match="model_type None and no architectures"):
        import_model(exported)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pretraining_tp", 2, "pretraining_tp has no counterpart in Clearhead; found 2; expected 1"),
        ("hidden_act", "relu6", "hidden_act is not known; found relu6; expected one of silu"),
        ("hidden_size", -3, "d_model"),
        ("hidden_size", "wide", "d_model"),
        ("rope_parameters", {"rope_type": "longrope"}, "this scaling of rotary positions is not known; found longrope"),
    ],
)
def test_a_config_that_says_what_we_cannot_is_refused(exported, key, value, message):
    path = exported / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(BundleError, match=message):
        import_model(exported)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_pickled_weights_are_refused_unless_allowed(exported):
    tensors = load_file(exported / "model.safetensors")
    (exported / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"no weights in this folder; expected model\.safetensors"):
        import_model(exported)
    torch.save(tensors, exported / "pytorch_model.bin")
    with pytest.raises(BundleError, match=r"the weights are pickled, and a pickle can run code; .*--allow-pickle"):
        import_model(exported)
    found = import_model(exported, allow_pickle=True).bundle
    assert_same(found, bundle_of(found.model.config))


@pytest.mark.parametrize("content", [pickle.dumps(Bomb()), b"not a pickle", pickle.dumps([1, 2])])
def test_even_an_allowed_pickle_builds_nothing_but_tensors(exported, content):
    (exported / "model.safetensors").unlink()
    (exported / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(BundleError, match=r"pytorch_model\.bin: not (weights that can be read|a table of tensors)"):
        import_model(exported, allow_pickle=True)


def test_an_index_may_not_lead_elsewhere(exported):
    (exported / "model.safetensors").rename(exported.parent / "elsewhere.safetensors")
    index = exported / "model.safetensors.index.json"
    for document, message in (
        ({"weight_map": {"a": "../elsewhere.safetensors"}}, "may name only files beside it; found ../elsewhere"),
        ({"weight_map": 3}, "damaged index"),
        ([], "damaged index"),
    ):
        index.write_text(json.dumps(document))
        with pytest.raises(BundleError, match=message):
            import_model(exported)


def test_a_tied_table_that_is_stored_twice_must_be_one(tmp_path):
    bundle = bundle_of(ModelConfig(**{**VOCAB, **NATIVE["gpt2"][0]}))
    export_model(bundle, tmp_path / "out")
    path = tmp_path / "out/model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["transformer.wte.weight"].clone()}, path)
    assert_same(import_model(tmp_path / "out").bundle, bundle)
    save_file({**tensors, "lm_head.weight": tensors["transformer.wte.weight"] + 1}, path)
    with pytest.raises(
        BundleError, match=r"lm_head\.weight and transformer\.wte\.weight differ, though the config ties"
    ):
        import_model(tmp_path / "out")


def test_two_tables_do_not_become_one(tmp_path):
    t5 = like("T5ForConditionalGeneration", MODELS["T5ForConditionalGeneration"]["version 1.1"])
    with pytest.raises(BundleError, match="two tables of this model differ, and theirs is one"):
        export_model(bundle_of(t5), tmp_path / "out")


def test_a_model_without_a_tokenizer_gives_logits_and_says_why_it_reads_no_text(exported, tmp_path):
    imported = import_model(exported)
    assert "imported without a tokenizer" in imported.notes[0]
    imported.bundle.save(tmp_path / "ours")
    loaded = Bundle.load(tmp_path / "ours")
    assert loaded.tokenizers == {}
    assert loaded.model.logits(loaded.model.decode(torch.randint(23, (2, 5)))).shape == (2, 5, 23)
    for use in (
        lambda: loaded.source.encode("abc"),
        lambda: loaded.target.need("eos"),
        lambda: loaded.source.decode([1]),
    ):
        with pytest.raises(TokenizerError, match="this model came without a tokenizer: it reads no text; give it ids"):
            use()


def test_the_nearest_architecture_is_named_first():
    config = ModelConfig(**{**VOCAB, **NATIVE["gpt2"][0], "window": 3})
    with pytest.raises(BundleError, match=r"nearest is GPT2LMHeadModel, but it has no window \(found 3\)"):
        fitting(config)
