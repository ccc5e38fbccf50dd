"""Constraints of the output: JSON schemas, regular expressions, grammars."""

from clearhead.generate.sampling.constraints.base import CONSTRAINTS, Constraint, Matcher
from clearhead.generate.sampling.constraints.grammar import Grammar
from clearhead.generate.sampling.constraints.json_schema import JsonSchema
from clearhead.generate.sampling.constraints.regex import Regex

__all__ = ["CONSTRAINTS", "Constraint", "Grammar", "JsonSchema", "Matcher", "Regex"]
