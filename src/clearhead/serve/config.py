"""How to serve: where, to whom, and how much at the same time."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, PositiveInt

from clearhead.core.recipe import Section
from clearhead.generate import EngineConfig
from clearhead.generate.scheduler import Limits

Seconds = Annotated[FiniteFloat, Field(gt=0.0)]
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
LIMITS = Limits(rows=32, step_tokens=512, waiting=256)


class ServeConfig(Section):
    """Settings of a server."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000  # 0 = any that is free
    api_keys: tuple[Annotated[str, Field(min_length=1)], ...] = ()  # any of them opens the server; none = all may ask
    allowed_origins: tuple[str, ...] = ()  # pages of other addresses that may ask, such as https://example.org
    runs: Path | None = None  # folder with run folders, for the page
    lab: Path | None = None  # folder made by `clearhead lab report`
    languages: dict[str, str] = Field(default_factory=dict)  # name of a translator -> such as zh-en
    device: str = "cpu"
    engine: EngineConfig = EngineConfig(limits=LIMITS)
    max_body: PositiveInt = 1 << 20  # bytes of a request
    max_requests: PositiveInt = 256  # at the same time; more are told to come back
    max_texts: PositiveInt = 256  # of one request
    request_seconds: Seconds = 300.0  # after which a request is given up
    read_seconds: Seconds = 30.0  # for a client to send a request, or to take a part of an answer
    backlog: PositiveInt = 4096  # tokens that a reader may be behind before its request is cancelled
    grace_seconds: Annotated[FiniteFloat, Field(ge=0.0)] = 30.0  # for what runs when the server is told to stop

    @property
    def local(self) -> bool:
        """Whether only programs of this machine reach the server."""
        return self.host in LOOPBACK or self.host.startswith("127.")
