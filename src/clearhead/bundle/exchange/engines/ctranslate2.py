"""CTranslate2 (OpenNMT): fast inference of translation models and decoders on processors and GPUs.

Its own specifications are filled with our tensors and saved by its own writer.
"""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from clearhead.bundle.bundle import Bundle
from clearhead.bundle.exchange.configs import obstacles, write_config
from clearhead.bundle.exchange.engines.base import FORMATS, Format, Verdict, library, refuse
from clearhead.bundle.exchange.engines.ctranslate2_shape import CTranslate2Shape, numbers
from clearhead.bundle.exchange.engines.ctranslate2_witness import continued, translated
from clearhead.bundle.exchange.weights import every_tensor
from clearhead.core.files import write_atomic
from clearhead.model import ModelConfig
from clearhead.text import Tokenizer

REMEDY = "export to onnx, train with a config that CTranslate2 can say, or use the model with Clearhead"


@FORMATS.register("ctranslate2")
class CTranslate2(Format):
    """A folder for `ctranslate2.Translator` or `ctranslate2.Generator`."""

    title = "CTranslate2"
    quantizations = ("float32", "float16", "int8")
    writes_with = ("ctranslate2",)
    runs_with = "ctranslate2"

    def require(self, bundle: Bundle, *, tokenizer: bool) -> None:
        refuse(self.title, obstacles(CTranslate2Shape(), bundle.model.config), REMEDY)

    def write(self, bundle: Bundle, folder: Path, quantization: str, *, tokenizer: bool) -> dict[str, Any]:
        spec = _spec(bundle.model.config)
        _fill(spec, bundle)
        _name_tokens(spec, bundle)
        spec.validate()
        spec.optimize(quantization=quantization)
        spec.save(str(folder))
        for name, each in bundle.tokenizers.items():
            each.save(folder / name)
        write_atomic(folder / "README.md", _card(bundle))
        return {"tokenizers": len(bundle.tokenizers)}

    def run(self, bundle: Bundle, folder: Path, quantization: str, *, tokenizer: bool) -> Verdict:
        said = translated if bundle.model.config.encoder_layers else continued
        return said(bundle, folder, quantization)


def _spec(config: ModelConfig) -> Any:
    """An empty specification of the right kind."""
    specs = library("ctranslate2.specs.transformer_spec")
    common, attention = library("ctranslate2.specs.common_spec"), library("ctranslate2.specs.attention_spec")
    settings = write_config(CTranslate2Shape(), config)
    settings["activation"] = common.Activation[settings["activation"]]
    if "rotary_scaling_type" in settings:
        settings["rotary_scaling_type"] = attention.RotaryScalingType[settings["rotary_scaling_type"]]
    decoder = specs.TransformerDecoderSpec(
        config.decoder_layers, with_encoder_attention=bool(config.encoder_layers), **settings
    )
    if not config.encoder_layers:
        return specs.TransformerDecoderModelSpec(decoder)
    return specs.TransformerSpec(specs.TransformerEncoderSpec(config.encoder_layers, **settings), decoder)


def _fill(spec: Any, bundle: Bundle) -> None:
    """Put every tensor and number into its place."""
    found = library("ctranslate2.specs.model_spec").index_spec
    model = bundle.model
    tensors = every_tensor(CTranslate2Shape(), model)
    plain = {name: each.float().cpu().clone().numpy() for name, each in tensors.items()}  # int8 is rounded in place
    for name, value in {**plain, **numbers(model.config)}.items():
        place, _, last = name.rpartition("/")
        setattr(found(spec, place), last, value)
    spec.config.layer_norm_epsilon = model.config.norm.options.get("epsilon", _epsilon(model.config))


def _epsilon(config: ModelConfig) -> float:
    return {"layernorm": 1e-5, "rmsnorm": 1e-6}[config.norm.kind]


def _name_tokens(spec: Any, bundle: Bundle) -> None:
    """Vocabularies as lists of tokens, and which of them begin and end a text."""
    config, settings = bundle.model.config, spec.config
    target = token_names(bundle.target if bundle.tokenizers else None, config.target_vocab or config.source_vocab)
    ids = {role: _role(bundle, role) for role in ("bos", "eos", "unk")}
    for role, index in ids.items():
        setattr(settings, f"{role}_token", target[config.pad if index is None else index])
    if not config.encoder_layers:
        spec.register_vocabulary(target)
        return
    source = token_names(bundle.source if bundle.tokenizers else None, config.source_vocab or config.target_vocab)
    spec.register_source_vocabulary(source)
    spec.register_target_vocabulary(target)
    settings.decoder_start_token = settings.bos_token
    settings.add_source_eos = _ends(bundle, source) == settings.eos_token


def token_names(tokenizer: Tokenizer | None, rows: int) -> list[str]:
    """One name for each row of a table, none of them twice; rows without a token get a name of their own."""
    known = {} if tokenizer is None else {index: token for token, index in tokenizer.vocabulary().items()}
    taken = set(known.values())
    free = (name for name in (f"<row {index}>" for index in count()) if name not in taken)
    return [known[row] if row in known else next(free) for row in range(rows)]


def _role(bundle: Bundle, role: str) -> int | None:
    known: dict[str, int] = bundle.history.get("token_ids", {})  # of a model that was imported without a tokenizer
    index: int | None = getattr(bundle.target, role) if bundle.tokenizers else known.get(role)
    return index


def _ends(bundle: Bundle, source: Sequence[str]) -> str | None:
    """The token after every source, if nothing else stands round it."""
    before, after = bundle.history.get("source_frame") or ([], [bundle.source.eos])
    return source[after[0]] if not before and len(after) == 1 and after[0] is not None else None


def _card(bundle: Bundle) -> str:
    title = bundle.history.get("name", "A Clearhead model")
    lines = [f"# {title}", "", "Exported by Clearhead for CTranslate2.", "", "```python", "import ctranslate2"]
    lines += ["from tokenizers import Tokenizer", ""] if bundle.tokenizers else [""]
    use = _translating if bundle.model.config.encoder_layers else _continuing
    return "\n".join([*lines, *use(bundle), "```", ""])


def _translating(bundle: Bundle) -> list[str]:
    lines = ['engine = ctranslate2.Translator("path/to/this/folder")']
    if not bundle.tokenizers:
        return [*lines, 'engine.translate_batch([["<row 5>", "<row 7>"]])']
    names = list(bundle.tokenizers)
    lines += [f'source = Tokenizer.from_file("path/to/this/folder/{names[0]}")']
    lines += [f'target = Tokenizer.from_file("path/to/this/folder/{names[-1]}")']
    lines += ['found = engine.translate_batch([source.encode("...", add_special_tokens=False).tokens])']
    return [*lines, "print(target.decode([target.token_to_id(each) for each in found[0].hypotheses[0]]))"]


def _continuing(bundle: Bundle) -> list[str]:
    lines = ['engine = ctranslate2.Generator("path/to/this/folder")']
    if not bundle.tokenizers:
        return [*lines, 'engine.generate_batch([["<row 5>", "<row 7>"]], max_length=20)']
    lines += [f'tokenizer = Tokenizer.from_file("path/to/this/folder/{next(iter(bundle.tokenizers))}")']
    lines += [
        'found = engine.generate_batch([tokenizer.encode("...", add_special_tokens=False).tokens], max_length=20)'
    ]
    return [*lines, "print(tokenizer.decode(found[0].sequences_ids[0]))"]
