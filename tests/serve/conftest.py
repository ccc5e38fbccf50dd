"""One server of three tiny models that most tests ask."""

from collections.abc import Iterator

import httpx
import pytest

from clearhead.serve.hall import Hall
from servers import LAYERS, running, tiny_model


@pytest.fixture(scope="session")
def hall() -> Hall:
    """One model of each kind."""
    return Hall.of({name: tiny_model(name) for name in LAYERS})


@pytest.fixture(scope="session")
def address(hall: Hall) -> Iterator[str]:
    """A server of all three, without a key."""
    with running(hall, languages={"translator": "zh-en"}) as found:
        yield found


@pytest.fixture(scope="session")
def http(address: str) -> Iterator[object]:
    """A plain client."""
    with httpx.Client(base_url=address, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def client(address: str) -> object:
    """The official client, as it comes."""
    openai = pytest.importorskip("openai")
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=20)
