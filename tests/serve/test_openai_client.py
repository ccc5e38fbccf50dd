"""The official client of OpenAI, unmodified, against a real server."""

import json
import math

import pytest
import torch

from clearhead.apply import Completer, Wish
from clearhead.apply.completing import opening
from clearhead.apply.embedding import embed
from clearhead.generate import SamplingConfig

openai = pytest.importorskip("openai")
SAID = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
END = 3


@pytest.fixture
def writer(hall):
    return hall.find("writer").model


def expected(model, prompt, **changes):
    """What a second engine answers to a text."""
    wish = Wish(**changes)
    completer = Completer(model.bundle)
    return completer.complete([completer.request(prompt, wish)], wish)[0]


def test_the_models_are_listed_in_the_order_they_were_named(client):
    listed = list(client.models.list())
    assert [each.id for each in listed] == ["writer", "translator", "reader"]
    assert [each.kind for each in listed] == ["decoder-only", "encoder-decoder", "encoder-only"]
    assert client.models.retrieve("writer").owned_by == "clearhead"


def test_a_completion_is_what_the_model_says_alone(client, writer):
    found = client.completions.create(model="writer", prompt="abc", max_tokens=9, temperature=0)
    (alone,) = expected(writer, "abc", max_tokens=9, sampling=SamplingConfig(temperature=0.0))
    assert found.choices[0].text == alone.text
    assert found.choices[0].finish_reason == alone.finish
    assert found.usage.prompt_tokens == len("abc") + 1  # and the begin of a text
    assert found.usage.completion_tokens == len(alone.completion.tokens)
    assert found.object == "text_completion"


def test_a_stream_tells_what_the_whole_answer_says(client):
    asked = {"model": "writer", "prompt": "abc", "max_tokens": 40, "seed": 5, "n": 2, "logprobs": 2}
    whole = client.completions.create(**asked)
    parts = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    for choice in whole.choices:
        mine = [each.choices[0] for each in parts if each.choices and each.choices[0].index == choice.index]
        assert "".join(each.text for each in mine) == choice.text
        assert [each.finish_reason for each in mine if each.finish_reason] == [choice.finish_reason]
        told = [value for each in mine for value in each.logprobs.token_logprobs]
        assert told == choice.logprobs.token_logprobs
        assert next(at for each in mine for at in each.logprobs.text_offset) == 0
    assert parts[-1].usage == whole.usage
    assert all(each.usage is None for each in parts[:-1])


def test_answers_to_many_prompts_come_in_their_order(client, writer):
    prompts = ["a", "bc", "def"]
    found = client.completions.create(model="writer", prompt=prompts, max_tokens=7, temperature=0)
    alone = [expected(writer, each, max_tokens=7, sampling=SamplingConfig(temperature=0.0))[0].text for each in prompts]
    assert [each.text for each in found.choices] == alone
    assert [each.index for each in found.choices] == [0, 1, 2]
    assert found.usage.prompt_tokens == 9


def test_tokens_are_a_prompt_too(client, writer):
    ids = [*opening(writer.bundle), *writer.bundle.target.encode("bc")]
    one = client.completions.create(model="writer", prompt=ids, max_tokens=7, temperature=0).choices[0].text
    many = client.completions.create(model="writer", prompt=[ids, ids], max_tokens=7, temperature=0).choices
    text = client.completions.create(model="writer", prompt="bc", max_tokens=7, temperature=0).choices[0].text
    assert [one, *(each.text for each in many)] == [text] * 3  # tokens are taken as they are


def test_sampling_settings_reach_the_sampler(client, writer):
    settings = {"temperature": 0.7, "top_p": 0.9, "presence_penalty": 0.5, "frequency_penalty": -0.5, "seed": 3}
    found = client.completions.create(
        model="writer",
        prompt="abc",
        max_tokens=12,
        n=2,
        logit_bias={"40": 2.5, str(END): -100},
        extra_body={"top_k": 50, "min_p": 0.001, "repetition_penalty": 1.2},
        **settings,
    )
    bias = {40: 2.5, END: -100.0}
    sampling = SamplingConfig(**settings, logit_bias=bias, top_k=50, min_p=0.001, repetition_penalty=1.2)
    alone = expected(writer, "abc", max_tokens=12, n=2, sampling=sampling)
    assert [each.text for each in found.choices] == [each.text for each in alone]


def test_a_stop_string_ends_an_answer_and_is_no_part_of_it(client):
    whole = client.completions.create(model="writer", prompt="q", max_tokens=40, seed=8, logit_bias={str(END): -100})
    text = whole.choices[0].text
    stop = text[20:22]
    asked = {"model": "writer", "prompt": "q", "max_tokens": 40, "seed": 8, "logit_bias": {str(END): -100}}
    cut = client.completions.create(**asked, stop=[stop, "never seen"])
    parts = client.completions.create(**asked, stop=stop, stream=True)
    assert cut.choices[0].text == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"
    assert "".join(each.choices[0].text for each in parts) == cut.choices[0].text


def test_an_echo_begins_with_the_prompt(client):
    plain = client.completions.create(model="writer", prompt=["ab", "c"], max_tokens=5, temperature=0)
    asked = {"model": "writer", "prompt": ["ab", "c"], "max_tokens": 5, "temperature": 0, "echo": True}
    echoed = client.completions.create(**asked)
    assert [each.text for each in echoed.choices] == ["ab" + plain.choices[0].text, "c" + plain.choices[1].text]
    texts = ["", ""]
    for part in client.completions.create(**asked, stream=True):
        texts[part.choices[0].index] += part.choices[0].text
    assert texts == [each.text for each in echoed.choices]


def test_a_translator_completes_what_it_reads(client, hall):
    found = client.completions.create(model="translator", prompt="abc", max_tokens=9, temperature=0)
    greedy = SamplingConfig(temperature=0.0)
    assert (
        found.choices[0].text == expected(hall.find("translator").model, "abc", max_tokens=9, sampling=greedy)[0].text
    )


def test_a_conversation_is_answered_as_the_model_itself_does(client, writer):
    found = client.chat.completions.create(model="writer", messages=SAID, max_completion_tokens=11, temperature=0)
    prompt = writer.conversation(SAID)
    greedy = SamplingConfig(temperature=0.0)
    alone = expected(writer, writer.bundle.target.decode(prompt), max_tokens=11, sampling=greedy)[0]
    assert found.choices[0].message.content == alone.text
    assert found.choices[0].message.role == "assistant"
    assert found.usage.prompt_tokens == len(prompt)


def test_a_conversation_streams(client):
    asked = {"model": "writer", "messages": SAID, "max_tokens": 30, "seed": 4, "n": 2}
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=3)
    parts = list(client.chat.completions.create(**asked, logprobs=True, top_logprobs=3, stream=True))
    for choice in whole.choices:
        mine = [each.choices[0] for each in parts if each.choices[0].index == choice.index]
        assert mine[0].delta.role == "assistant"
        assert "".join(each.delta.content or "" for each in mine) == choice.message.content
        assert mine[-1].finish_reason == choice.finish_reason
        told = [entry for each in mine if each.logprobs for entry in each.logprobs.content]
        assert told == choice.logprobs.content


def test_log_probabilities_are_those_of_the_model(client, writer):
    asked = {"model": "writer", "messages": SAID, "max_tokens": 6, "temperature": 0}
    content = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2).choices[0].logprobs.content
    prompt = writer.conversation(SAID)
    for entry in content:
        logits = writer.logits(torch.tensor([prompt]))[0, -1]
        best, tokens = logits.log_softmax(0).topk(2)
        assert math.isclose(entry.logprob, float(best[0]), abs_tol=1e-4)
        assert [each.logprob for each in entry.top_logprobs] == pytest.approx(best.tolist(), abs=1e-4)
        prompt.append(int(tokens[0]))
        assert bytes(entry.bytes).decode(errors="replace") == entry.token


def test_an_answer_keeps_to_a_schema(client):
    pytest.importorskip("llguidance")
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
    schema["additionalProperties"] = False
    form = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": True}}
    asked = {"model": "writer", "messages": SAID, "response_format": form, "max_tokens": 60, "seed": 1}
    found = json.loads(client.chat.completions.create(**asked).choices[0].message.content)
    assert set(found) == {"n"}
    assert isinstance(found["n"], int)


def test_an_answer_is_json_where_that_is_asked(client):
    pytest.importorskip("llguidance")
    asked = {"model": "writer", "messages": SAID, "response_format": {"type": "json_object"}, "max_tokens": 200}
    bias = {str(ord("}") + 3): 5.0}
    found = client.chat.completions.create(**asked, seed=2, logit_bias=bias).choices[0]
    assert found.message.content.startswith("{")
    assert found.finish_reason == "length" or isinstance(json.loads(found.message.content), dict)


@pytest.mark.parametrize("name", ["reader", "translator", "writer"])
@pytest.mark.parametrize("form", ["float", "base64", None])
def test_embeddings_are_unit_vectors_in_the_order_of_the_texts(client, hall, name, form):
    texts = ["abc", "de", "a longer text"]
    given = {} if form is None else {"encoding_format": form}
    found = client.embeddings.create(model=name, input=texts, **given)
    vectors = embed(hall.find(name).model, texts)
    for each, vector in zip(found.data, vectors, strict=True):
        told = each.embedding
        if isinstance(told, str):
            import base64

            import numpy as np

            told = np.frombuffer(base64.b64decode(told), "<f4").tolist()
        assert told == pytest.approx(vector.tolist(), abs=1e-6)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3))
    single = client.embeddings.create(model=name, input="de")
    assert single.data[0].embedding == pytest.approx(vectors[1].tolist(), abs=1e-5)


def test_mistakes_are_the_errors_of_the_client(client):
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.completions.create(model="writter", prompt="a")
    with pytest.raises(openai.BadRequestError, match="best_of"):
        client.completions.create(model="writer", prompt="a", best_of=3)
    with pytest.raises(openai.BadRequestError, match="continues no text"):
        client.completions.create(model="reader", prompt="a")
    with pytest.raises(openai.BadRequestError, match="does not converse"):
        client.chat.completions.create(model="translator", messages=SAID)
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(
            model="writer", messages=SAID, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]
        )
    with pytest.raises(openai.BadRequestError, match="longer than") as caught:
        client.completions.create(model="writer", prompt="a" * 500)
    assert caught.value.type == "invalid_request_error"


def test_many_conversations_at_once_are_answered_as_alone(address):
    import asyncio

    async def scenario():
        async with openai.AsyncOpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:

            async def one(number):
                said = [{"role": "user", "content": f"number {number}"}]
                stream = await client.chat.completions.create(
                    model="writer", messages=said, max_tokens=12, seed=number, stream=True
                )
                return "".join([each.choices[0].delta.content or "" async for each in stream])

            together = await asyncio.gather(*map(one, range(12)))
            assert list(together) == [await one(each) for each in range(12)]

    asyncio.run(scenario())
