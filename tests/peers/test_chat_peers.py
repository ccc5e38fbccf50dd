"""Prompts of conversations are those of transformers' `apply_chat_template`, and a model's template comes with it."""

import json

import pytest

from clearhead.apply import ChatTemplate
from clearhead.bundle.exchange import import_model
from clearhead.text import ByteBpeKind, ByteKind
from hf_models import LLAMA, saved

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.peers

MARKS = ("<|turn|>", "<|close|>", "[ask]", "[/ask]")
TEMPLATES = {
    "turns": """{% for m in messages %}
{{ '<|turn|>' + m['role'] + '\\n' + m['content'] + '<|close|>' + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|turn|>assistant\\n' }}{% endif %}""",
    "questions": """{{ bos_token }}
{% for m in messages %}
    {% if m.role == 'user' %}
[ask] {{ m.content | trim }} [/ask]
    {%- else %}
 {{ m.content }}{{ eos_token }}
    {%- endif %}
{% endfor %}""",
    "loop": """{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}
{% generation %}{{ m.role }}{% endgeneration %} {% endfor %}""",
    "last": "{{ messages | length }}: {{ messages[-1].content | upper }} {{ messages | tojson }}",
}
TALKS = [
    [{"role": "user", "content": "Hello there"}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  Why is 你 here? 😀 "},
        {"role": "assistant", "content": "Because.\nSo it is."},
        {"role": "user", "content": "Ah"},
    ],
]


@pytest.fixture(params=[ByteKind, ByteBpeKind])
def both(request):
    """A tokenizer of ours and the same as one of transformers."""
    words = ["Hello there, why is it so? Because so it is. Be brief."] * 20
    options = {} if request.param is ByteKind else {"vocab_size": 285}
    ours = request.param(extra_tokens=MARKS, **options).train(words)
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=type(ours.backend).from_str(ours.to_json()),
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    return ours, theirs


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("talk", TALKS, ids=["short", "long"])
def test_the_prompt_is_that_of_transformers(both, name, talk):
    ours, theirs = both
    options = {"chat_template": TEMPLATES[name], "add_generation_prompt": True}
    template = ChatTemplate(ours, TEMPLATES[name])
    assert template.text(talk) == theirs.apply_chat_template(talk, tokenize=False, **options)
    expected = theirs.apply_chat_template(talk, tokenize=True, return_dict=False, **options)
    assert template.prompt(talk) == expected


@pytest.mark.parametrize("where", ["file", "settings", "named"])
def test_an_import_takes_the_template_along(tmp_path, where):
    saved(tmp_path, "LlamaForCausalLM", {**LLAMA, "vocab_size": 265})
    ByteKind(extra_tokens=MARKS).train().save(tmp_path)
    settings = {"settings": TEMPLATES["turns"], "named": [{"name": "default", "template": TEMPLATES["turns"]}]}
    if where == "file":
        (tmp_path / "chat_template.jinja").write_text(TEMPLATES["turns"])
    else:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": settings[where]}))
    assert import_model(tmp_path).bundle.history["chat_template"] == TEMPLATES["turns"]
