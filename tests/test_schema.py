"""Every operation of the contract under generated requests, right and wrong ones: no answer may break what the contract says."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import negative_data_rejection, positive_data_acceptance
from starlette.responses import JSONResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from app.admission import OPEN_PATHS
from app.main import create_api, create_app
from app.routes.predict import SOUND_TYPES
from app.uploads import ARCHIVE_TYPES
from tests.app.conftest import check_problem
from tests.conftest import FUZZ_FACTOR, forget
from worker.settings import Settings, get_settings

EXAMPLES = 100 * FUZZ_FACTOR
# Of what a schema can't tell: random bytes are no archive and no sound, 1.0 is an integer to JSON Schema only, and a header
# tells where in the body its JSON ends.
INEXACT = (
    *("createDataset", "importModel", "predict", "createSpectrogram", "createJob", "createTransferability"),
    *("inferByName", "inferByVersion"),
)


def open_contract() -> dict[str, Any]:
    """The contract as it stands on open loopback, where nobody needs a key."""
    document = copy.deepcopy(create_api(Settings()).openapi())
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return document


class Late:
    """The application that the fixture makes; while tests are collected, only its contract is asked for."""

    def __init__(self) -> None:
        self.app: ASGIApp = JSONResponse(open_contract())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return
        for phase in ("startup", "shutdown"):  # each request would bring its own
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})


schemathesis.serializer.alias(sorted({*ARCHIVE_TYPES, *SOUND_TYPES} - {"application/octet-stream"}), "application/octet-stream")
late = Late()
schema = schemathesis.openapi.from_asgi("/openapi.json", late)


@pytest.fixture(scope="module", autouse=True)
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The application on a data directory of its own."""
    from worker.migrate import upgrade

    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "REDIS_URL", "BLOB_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("SYNESTHESIA_DATA_DIR", str(tmp_path_factory.mktemp("schema")))
        forget()
        upgrade()
        late.app = create_app(get_settings())
        yield
    forget()


@schema.parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_contract_holds(case: Case) -> None:
    inexact = [positive_data_acceptance] if case.operation.definition.raw["operationId"] in INEXACT else []
    # Whatever stood in it, a list or null, is text in the address: `metadata[0]=null` is a pair like any other.
    inexact += [negative_data_rejection] if any(name.startswith("metadata") for name in case.query or {}) else []
    case.call_and_validate(excluded_checks=inexact)


def test_every_operation_but_the_open_ones_asks_for_a_key() -> None:
    client = TestClient(create_app(Settings(api_key="a-key")))
    for path, operations in open_contract()["paths"].items():
        for method in operations:
            response = client.request(method, path.replace("{", "").replace("}", ""))
            if path in OPEN_PATHS:
                assert response.status_code != 401, path
            else:
                check_problem(response, 401, "unauthorized")
