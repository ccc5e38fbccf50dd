"""A bundle comes back as it was saved, and no damage or kill makes another model of it."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clearhead.bundle import Bundle
from clearhead.core.errors import BundleError, StorageError
from clearhead.model import Transformer
from clearhead.model.attention.heads import remove_heads

EACH_KIND = pytest.mark.parametrize("kind", ["encoder-decoder", "encoder-only", "decoder-only"])


def answers(bundle: Bundle) -> torch.Tensor:
    """Logits of a fixed input, whatever the kind."""
    tokens = torch.tensor([[5, 6, 7, 5, 6], [6, 6, 5, 7, 5]])
    target = None if bundle.model.config.kind == "encoder-only" else tokens
    source = None if bundle.model.config.kind == "decoder-only" else tokens
    with torch.inference_mode():
        return bundle.model.logits(bundle.model(source, target))


def same(left: Bundle, right: Bundle) -> bool:
    """Whether two bundles are one model: sizes, logits bit for bit, tokenizers, settings, history."""
    return (
        left.model.config == right.model.config
        and torch.equal(answers(left), answers(right))
        and (left.source, left.target) == (right.source, right.target)
        and (left.search, left.history) == (right.search, right.history)
    )


@EACH_KIND
@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("tie", ["none", "output"])
def test_what_is_loaded_is_what_was_saved(make, tmp_path, kind, joint, tie):
    if kind != "encoder-decoder" and not joint:
        tie = "none"
    bundle = make(kind, joint=joint, tie=tie)
    bundle.save(tmp_path / "one")
    loaded = Bundle.load(tmp_path / "one")
    assert same(bundle, loaded)
    assert not loaded.model.training
    assert (loaded.source is loaded.target) == joint


@EACH_KIND
@pytest.mark.parametrize("position", ["sinusoidal", "rope", "alibi"])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_a_model_without_some_heads_comes_back_so(make, tmp_path, kind, position, kv_heads):
    bundle = make(kind, heads=4, kv_heads=kv_heads, d_model=24, position=position)
    with_all, side = answers(bundle), "decoder" if kind == "decoder-only" else "encoder"
    remove_heads(bundle.model, {f"{side}.blocks.0.attention": [0, 1]})
    remove_heads(bundle.model, {f"{side}.blocks.1.attention": [2, 3]})
    if kv_heads == 4:
        remove_heads(bundle.model, {f"{side}.blocks.0.attention": [1]})  # it was the last one
    assert not torch.equal(answers(bundle), with_all)
    bundle.save(tmp_path / "one")
    loaded = Bundle.load(tmp_path / "one")
    assert same(bundle, loaded)
    first = loaded.model.config.removed_heads[f"{side}.blocks.0.attention"]
    assert first == ((0, 1, 3) if kv_heads == 4 else (0, 1))
    loaded.save(tmp_path / "two")
    assert same(bundle, Bundle.load(tmp_path / "two"))


def test_heads_that_cannot_be_missing_are_named(make, tmp_path):
    bundle = make(heads=4)
    bundle.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"]["removed_heads"] = {"encoder.blocks.7.attention": [1]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"no attention 'encoder\.blocks\.7\.attention'"):
        Bundle.load(tmp_path)


def test_saving_again_writes_the_same_bytes(make, tmp_path):
    make().save(tmp_path / "one")
    Bundle.load(tmp_path / "one").save(tmp_path / "two")
    names = sorted(each.name for each in (tmp_path / "one").iterdir())
    assert names == sorted(each.name for each in (tmp_path / "two").iterdir())
    assert names == ["README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_tied_table_is_stored_once_and_stays_tied(make, tmp_path):
    bundle = make(tie="all")
    bundle.save(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    tables = [name for name, each in stored.items() if len(each) == bundle.target.vocab_size]
    assert len(tables) == 1
    assert sum(each.numel() for each in stored.values()) >= sum(each.numel() for each in bundle.model.parameters())
    model = Bundle.load(tmp_path).model
    assert len(list(model.parameters())) == len(list(bundle.model.parameters()))
    with torch.no_grad():
        model.output[6] += 1
    assert torch.equal(model.encoder.embedding.table[6], model.output[6])


def test_other_files_of_the_folder_are_left_alone(make, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoints").mkdir()
    make().save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "checkpoints").is_dir()


def test_a_model_with_two_tokenizers_may_replace_one_with_a_single_one_and_the_reverse(make, tmp_path):
    for joint in (True, False, True):
        bundle = make(joint=joint)
        bundle.save(tmp_path)
        assert same(Bundle.load(tmp_path), bundle)
    assert not (tmp_path / "source_tokenizer.json").exists()


class Killed(BaseException):
    """Unlike an Exception, nothing in the code under test may expect it."""


@pytest.mark.parametrize("joint", [True, False])
def test_a_kill_at_any_step_of_a_save_leaves_the_old_model_or_the_new_one(make, tmp_path, monkeypatch, joint):
    old, new = make(joint=joint), make(joint=not joint, seed=6, d_ff=28)
    steps, outcomes = 0, set()
    while True:
        folder = tmp_path / str(steps)
        old.save(folder)
        with monkeypatch.context() as patch:
            killed = save_and_kill(patch, new, folder, steps)
        loaded = Bundle.load(folder)
        assert same(loaded, old) or same(loaded, new), f"a mixture after {steps} steps"
        outcomes.add(same(loaded, new))
        if not killed:
            break
        old.save(folder)
        assert same(Bundle.load(folder), old)
        assert not list(folder.glob(".bundle*"))
        steps += 1
    assert outcomes == {True, False}


def save_and_kill(patch: pytest.MonkeyPatch, bundle: Bundle, folder: Path, steps: int) -> bool:
    """Save, and stop for good at the renaming or deletion of that number; False if there were fewer."""
    left = [steps]

    def guarded(plain):
        def step(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return plain(*arguments, **options)

        return step

    for name in ("replace", "unlink", "rmdir"):
        patch.setattr(Path, name, guarded(getattr(Path, name)))
    try:
        bundle.save(folder)
    except Killed:
        return True
    return False


def test_a_full_disk_leaves_the_old_model_and_one_line(make, tmp_path, monkeypatch):
    old, new = make(), make(seed=6)
    old.save(tmp_path / "one")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match=r"one: cannot write: no space left on device; make room"):
            new.save(tmp_path / "one")
    assert same(Bundle.load(tmp_path / "one"), old)
    assert not list((tmp_path / "one").glob(".*"))


def test_a_file_where_the_folder_should_be_is_refused(make, tmp_path):
    (tmp_path / "one").write_text("mine")
    with pytest.raises(StorageError, match="a file stands where a folder is needed"):
        make().save(tmp_path / "one")
    assert (tmp_path / "one").read_text() == "mine"


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize("write", [lambda path: torch.save(Bomb(), path), lambda path: path.write_bytes(PICKLE)])
def test_a_pickle_is_refused_and_never_executed(make, tmp_path, write):
    make().save(tmp_path)
    write(tmp_path / "model.safetensors")
    with pytest.raises(BundleError, match="not a safetensors file"):
        Bundle.load(tmp_path)


PICKLE = pickle.dumps(Bomb())


def harm_weights(change) -> object:
    def harm(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors, sorted(tensors)[0])
        save_file(tensors, folder / "model.safetensors")

    return harm


def harm_json(name: str, **changes) -> object:
    def harm(folder: Path) -> None:
        document = json.loads((folder / name).read_text()) | changes
        (folder / name).write_text(json.dumps(document))

    return harm


HARMS = {
    "a tensor is missing": harm_weights(lambda tensors, name: tensors.pop(name)),
    "a tensor is unknown; found more": harm_weights(lambda tensors, name: tensors.update(more=torch.ones(2))),
    "has another shape": harm_weights(lambda tensors, name: tensors.update({name: torch.ones(2, 3)})),
    "has another number format": harm_weights(lambda tensors, name: tensors.update({name: tensors[name].int()})),
    "found model_type 'bert'": harm_json("config.json", model_type="bert"),
    "update with pip": harm_json("config.json", format=99),
    "config.json, format: damaged": harm_json("config.json", format="new"),
    "config.json, history: damaged": harm_json("config.json", history=None),
    "config.json, model: damaged": harm_json("config.json", model=[]),
    "config.json, tokenizers: damaged": harm_json("config.json", tokenizers=["../mine"]),
    "d_model is not divisible by heads": harm_json("config.json", model={"d_model": 7}),
    "config.json, dmodel: unknown key": harm_json("config.json", model={"dmodel": 7}),
}


@pytest.mark.parametrize("complaint", HARMS)
def test_damage_is_told_in_one_line_with_a_remedy(make, tmp_path, complaint):
    make().save(tmp_path)
    HARMS[complaint](tmp_path)
    with pytest.raises(BundleError, match=complaint.replace("'", ".")) as caught:
        Bundle.load(tmp_path)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_the_tokenizer_of_another_model_is_refused(make, tmp_path):
    make(joint=False).save(tmp_path / "one")
    make(source_vocab=40, target_vocab=40).target.save(tmp_path / "one/source_tokenizer.json")
    with pytest.raises(BundleError, match="the source tokenizer is not this model's"):
        Bundle.load(tmp_path / "one")


def test_a_vocabulary_padded_to_a_round_number_is_welcome(make, tmp_path):
    bundle = make(source_vocab=64, target_vocab=64)
    bundle.save(tmp_path)
    assert same(Bundle.load(tmp_path), bundle)


def test_a_bundle_written_before_tokenizers_were_listed_opens(make, tmp_path):
    for joint in (True, False):
        bundle = make(joint=joint)
        bundle.save(tmp_path / str(joint))
        config = tmp_path / str(joint) / "config.json"
        document = json.loads(config.read_text())
        del document["tokenizers"]
        config.write_text(json.dumps(document))
        assert same(Bundle.load(tmp_path / str(joint)), bundle)


def test_the_card_tells_kind_sizes_and_scores(make, tmp_path):
    bundle = make()
    bundle.history |= {"test_bleu": 41.234}
    bundle.save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "encoder-decoder: 2 + 1 layers" in card
    assert "| test bleu | 41.23 |" in card


def test_half_precision_weights_are_read_into_a_full_model(make, tmp_path):
    bundle = make()
    bundle.save(tmp_path)
    tensors = {name: each.half() for name, each in load_file(tmp_path / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors")
    loaded = Bundle.load(tmp_path)
    assert isinstance(loaded.model, Transformer)
    torch.testing.assert_close(answers(loaded), answers(bundle), atol=0.02, rtol=0.02)
