"""The API against its own description: requests that schemathesis makes of it, good and bad.

MINICLIP_TEST_REQUESTS=2000 makes it the long run.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serve.running import PATIENCE, Running, png

CASES = int(os.environ.get("MINICLIP_TEST_REQUESTS", "50"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
PHOTOS = st.sampled_from([png("red"), png("blue", (3, 50))])


def test_no_request_breaks_what_the_description_promises(server: Running) -> None:
    with server.http() as http:
        document = http.get("/openapi.json").json()
    schemathesis.openapi.media_type("application/octet-stream", PHOTOS | st.binary(max_size=50))
    description = schemathesis.openapi.from_dict(document)
    good = description.as_strategy(generation_mode=GenerationMode.POSITIVE)
    bad = description.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    seen: Counter[int] = Counter()

    @seed(5)
    @settings(
        max_examples=CASES,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(good | bad)
    def ask(case: Case[Any]) -> None:
        answer = case.call(base_url=server.url, timeout=PATIENCE)
        seen[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    ask()
    assert seen.total() >= CASES
    assert seen[200] > 0
    assert seen[422] > 0
    assert httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 200
