"""JSON that a schema describes."""

import json
from typing import Any

from clearhead.generate.sampling.constraints.base import CONSTRAINTS
from clearhead.generate.sampling.constraints.guided import Guided


@CONSTRAINTS.register("json_schema")
class JsonSchema(Guided):
    """The output is one JSON value that the schema allows; {} allows every value.

    Args:
        schema: a JSON schema as a mapping.
        spaces: whether the model may put spaces and line breaks between the parts.
    """

    def __init__(self, *, schema: dict[str, Any], spaces: bool = False) -> None:
        self.schema, self.spaces = schema, spaces

    def grammar(self, library: Any) -> str:
        layout = {"whitespace_flexible": self.spaces}
        text: str = library.LLMatcher.grammar_from_json_schema(json.dumps(self.schema), layout)
        return text
