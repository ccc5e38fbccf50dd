"""Their config.json to a ModelConfig and back, by the rules of an architecture."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from clearhead.bundle.bundle import damaged
from clearhead.bundle.exchange.architecture import Architecture
from clearhead.bundle.exchange.flat import Flat, flat, neutral, unflat
from clearhead.bundle.exchange.rules import Rule
from clearhead.core.errors import BundleError
from clearhead.model import ModelConfig


def read_config(architecture: Architecture, theirs: Mapping[str, Any], where: Path) -> ModelConfig:
    """The config of our model of the same function; a BundleError names what has no counterpart."""
    keys: Flat = {}
    try:
        for rule in architecture.rules:
            keys |= rule.read(theirs)
        return ModelConfig.model_validate(unflat(keys))
    except BundleError as error:
        raise BundleError(error.what, where=where, found=error.found, expected=error.expected) from None
    except ValidationError as error:
        raise damaged(error, where) from None
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError("damaged config", where=where, found=f"{type(error).__name__}: {error}") from None


def write_config(architecture: Architecture, config: ModelConfig) -> dict[str, Any]:
    """Their config.json of our model, without the names of library and class.

    Raises:
        BundleError: their architecture has no word for something; only where `obstacles` finds something.
    """
    theirs: dict[str, Any] = {}
    for rule in architecture.rules:
        theirs |= rule.write(flat(config))
    return theirs


def obstacles(architecture: Architecture, config: ModelConfig) -> list[str]:
    """Why an architecture cannot say a model; nothing if it can."""
    keys = flat(config)
    reasons = [reason for rule in architecture.rules if (reason := _obstacle(rule, keys))]
    told = {key for rule in architecture.rules for key in rule.ours}
    for key in keys.keys() - told:
        if keys[key] != neutral(key, keys):
            reasons.append(f"it has no {key} (found {keys[key]})")
    return sorted(reasons)


def _obstacle(rule: Rule, keys: Flat) -> str | None:
    try:
        rule.write(keys)
    except BundleError as error:
        details = {"found": error.found, "expected": error.expected}
        told = ", ".join(f"{name} {value}" for name, value in details.items() if value is not None)
        return f"{error.what} ({told})" if told else error.what
    except KeyError as error:
        return f"it needs {error.args[0]}"
    return None
