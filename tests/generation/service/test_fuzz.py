"""Generated requests, valid and invalid, are answered as the OpenAPI document says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from generation import config
from generation.film.plan import Request
from generation.service.gate import digest
from generation.service.http import build_app
from generation.service.jobs import Jobs
from generation.service.records import Limits
from generation.service.views import Models

schemathesis = pytest.importorskip("schemathesis", reason="install the extra dev for generated requests")
from hypothesis import HealthCheck, given, settings, strategies  # noqa: E402
from schemathesis import checks  # noqa: E402

KEY = "key-of-ann-0123456789"
EXAMPLES = 10
"""Requests for each operation, beside those that show an error."""
OPERATIONS = [
    "cancel_narrative", "create_narrative", "delete_narrative", "edit_step", "get_clip", "get_film",
    "get_keyframe", "get_narrative", "health", "list_narratives", "models", "ready", "watch_narrative",
]  # fmt: skip
checks.load_all_checks()
CHECKS = checks.CHECKS.get_by_names(
    ["not_a_server_error", "status_code_conformance", "content_type_conformance",
     "response_schema_conformance"]
)  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Jobs, dict[str, Any]]]:
    """Jobs that are done at once, without files, and the operations on them by id."""
    limits = Limits(max_running=1, max_queued=100_000, max_per_owner=100_000)
    jobs = Jobs(tmp_path_factory.mktemp("fuzz"), lambda work: None, limits)
    models = Models(director="stand-in", generator="stand-in", notice="no models")
    app = build_app(jobs, config.Serve(), max_steps=12, keys=[KEY], models=lambda: models)
    jobs.start()
    document = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [each.ok() for each in document.get_all_operations()]
    yield jobs, {each.definition.raw["operationId"]: each for each in operations}
    jobs.stop()


def test_every_operation_is_tried(service: tuple[Jobs, dict[str, Any]]) -> None:
    assert sorted(service[1]) == OPERATIONS


@pytest.mark.parametrize("name", OPERATIONS)
def test_generated_requests_are_answered_as_documented(
    name: str, service: tuple[Jobs, dict[str, Any]]
) -> None:
    jobs, operations = service
    valid, invalid = (
        operations[name].as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode
    )

    @given(case=valid | invalid, known=strategies.booleans())
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def ask(case: Any, known: bool) -> None:
        if known and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = jobs.submit(digest(KEY), Request(goal="Tea", seed=0)).id
        case.call_and_validate(headers={"Authorization": f"Bearer {KEY}"}, checks=CHECKS)

    ask()
