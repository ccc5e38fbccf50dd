"""A model's config as one level of keys and plain values, every default spelled out: what the maps are written in.

`norm: {kind: layernorm, epsilon: 1e-12}` becomes `norm.kind` and `norm.epsilon`; a null that stands for another
value (`kv_heads` for as many as `heads`) becomes that value. So two configs of the same model are equal here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import AfterValidator

from clearhead.core.registry import Choice, Registry
from clearhead.model import ModelConfig

Flat = dict[str, Any]


def flat(config: ModelConfig) -> Flat:
    """Every key with its meaning."""
    keys: Flat = {}
    for name, value in (dict(config) | _kernels(config)).items():
        keys |= _part(name, value) if isinstance(value, Choice) else {name: value}
    return keys | _resolved(config)


def unflat(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The nested mapping that ModelConfig reads; what `keys` leaves out is left to the defaults."""
    nested: dict[str, Any] = {}
    for key, value in keys.items():
        name, _, option = key.partition(".")
        if option:
            nested.setdefault(name, {"kind": ModelConfig.model_fields[name].default.kind})[option] = value
        else:
            nested[name] = value
    return nested


def neutral(key: str, keys: Mapping[str, Any]) -> Any:
    """The value of a key in a model that makes no use of it."""
    if key in NULL:
        return NULL[key](keys)
    name, _, option = key.partition(".")
    default = ModelConfig.model_fields[name].default
    if not option:
        return default
    return default.kind if option == "kind" else _defaults(name, keys[f"{name}.kind"])[option]


NULL: dict[str, Callable[[Mapping[str, Any]], Any]] = {  # what null stands for
    "kv_heads": lambda keys: keys["heads"],
    "d_head": lambda keys: keys["d_model"] // keys["heads"],
    "qkv_bias": lambda keys: keys["bias"],
    "source_vocab": lambda keys: keys["target_vocab"],
    "target_vocab": lambda keys: keys["source_vocab"],
}


def _kernels(config: ModelConfig) -> dict[str, Any]:
    """A kernel that computes the same as another in another way is said as that one; a repeated one is null."""
    own, crossing = _plain(config.attention), _plain(config.crossing)
    return {"attention": own, "cross_attention": None if crossing == own else crossing.kind}


def _plain(kernel: Choice) -> Choice:
    if kernel.kind != "tiled":
        return kernel
    return Choice(kind="dot", options={key: each for key, each in kernel.options.items() if key != "block"})


def _part(name: str, choice: Choice) -> Flat:
    options = {**_defaults(name, choice.kind), **choice.options}
    return {f"{name}.kind": choice.kind, **{f"{name}.{option}": value for option, value in options.items()}}


def _defaults(name: str, kind: str) -> dict[str, Any]:
    """The options of a part with their defaults; one that has no default counts as null."""
    options = _family(name).options(kind).values()
    return {each.name: None if each.default is each.empty else each.default for each in options}


def _family(name: str) -> Registry[Any]:
    """The family that a key of ModelConfig chooses from: the one that checks it."""
    checks = [each.func for each in ModelConfig.model_fields[name].metadata if isinstance(each, AfterValidator)]
    registry: Registry[Any] = next(check.__self__ for check in checks)  # type: ignore[union-attr]
    return registry


def _resolved(config: ModelConfig) -> Flat:
    """The keys whose value may be said in several ways, said in one."""
    keys = {key: getattr(config, key) for key in NULL}
    keys |= {key: NULL[key](dict(config) | keys) for key, value in keys.items() if value in (None, 0)}
    if config.kind == "decoder-only":
        keys["source_vocab"] = keys["target_vocab"]
    if config.kind != "encoder-decoder" and config.tie == "all":
        keys["tie"] = "output"
    if config.layer_groups and config.layer_groups >= max(config.encoder_layers, config.decoder_layers):
        keys["layer_groups"] = None
    return keys | _width(config)


def _width(config: ModelConfig) -> Flat:
    """Of a gated network: 2/3 of d_ff, rounded up to a multiple, is said as d_ff itself."""
    options = config.feedforward.options
    if not options.keys() & {"two_thirds", "multiple"}:
        return {}
    width, multiple = 2 * config.d_ff // 3 if options.get("two_thirds") else config.d_ff, options.get("multiple", 1)
    plain = {"feedforward.two_thirds": False, "feedforward.multiple": 1}
    return {"d_ff": -(-width // multiple) * multiple, **plain}
