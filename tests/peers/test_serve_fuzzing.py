"""schemathesis asks every route of the schema for many odd things: whatever comes, no answer is a fault of ours."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from clearhead.serve.app import application
from clearhead.serve.config import ServeConfig
from clearhead.serve.hall import Hall
from servers import LAYERS, held, running, tiny_model, until

schemathesis = pytest.importorskip("schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")
pytestmark = pytest.mark.peers

ROUTES = [
    (path, each) for path, item in application(Hall({}), ServeConfig()).openapi()["paths"].items() for each in item
]
CHECKS = [schemathesis.checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance]
FREE = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    phases=[Phase.explicit, Phase.generate],
)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    hall, runs = Hall.of({name: tiny_model(name) for name in LAYERS}), tmp_path_factory.mktemp("runs")
    with running(hall, runs=runs, request_seconds=20.0) as found:
        yield schemathesis.openapi.from_url(f"{found}/openapi.json")
        until(lambda: held(hall) == 0)  # nothing of all that is left


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_no_request_is_answered_by_a_fault_of_ours(api, path, method):
    @FREE
    @given(case=api[path][method.upper()].as_strategy())
    def ask(case):
        case.call_and_validate(checks=CHECKS, timeout=30)

    ask()
