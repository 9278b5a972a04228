"""Names and their engines: kept within a bound, looked up in time, moved without a request that fails, held to their answers."""

import asyncio
import concurrent.futures
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from app import engines as module
from app import readiness, shelf
from app.engines import Engines
from app.metrics import Metrics
from app.predictors import Predictors
from models.config import ModelManifest
from models.engine import Engine
from models.errors import InputError
from models.manifest import read_manifest
from tests.app.conftest import wait_until
from worker import aliases, registry
from worker.errors import ConflictError, DependencyError, GoneError, NotFoundError
from worker.settings import Settings

Make = Callable[..., str]


@pytest.fixture
def engines(settings: Settings) -> Iterator[Engines]:
    made = Engines(settings, Metrics())
    yield made
    made.close()


@pytest.fixture
def warm(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> Engines:
    """With the background at work, which looks often."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    engines.warm()
    return engines


@pytest.fixture(scope="session")
def other_artifact(speech_artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A speech model that answers otherwise than `speech_artifact`."""
    from models.artifact import save_artifact
    from models.evaluation import evaluation_document
    from models.network import build_network

    config = read_manifest(speech_artifact).network
    folder = tmp_path_factory.mktemp("other")
    save_artifact(folder, build_network(config, seed=9), manifest=ModelManifest(network=config), evaluation=evaluation_document({}))
    return folder


def folder_of(settings: Settings, model_id: str) -> Path:
    return settings.data_dir / "blobs" / "artifacts" / model_id


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(metrics.render({}, 0.0, 0).decode())
    (value,) = [s.value for family in families for s in family.samples if s.name == name and s.labels == labels]
    return value


def count_loads(monkeypatch: pytest.MonkeyPatch, pause: dict[str, float] | None = None) -> list[str]:
    """Note the folder's name at each load, which takes `pause` seconds longer for those that are named."""
    loads: list[str] = []
    original = Engine.load

    def counted(folder: Path, *, threads: int = 1) -> Engine:
        loads.append(folder.name)
        time.sleep((pause or {}).get(folder.name, 0.0))
        return original(folder, threads=threads)

    monkeypatch.setattr(shelf.Engine, "load", counted)
    return loads


def test_a_peek_finds_what_was_asked_for_a_moment_ago(engines: Engines, make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model_id = make_model(alias="default")
    assert engines.peek("default") is None
    found = engines.get("default")
    assert (found[0], len(engines)) == (model_id, 1)
    monkeypatch.setattr(module, "locate", None)  # a peek reads nothing
    assert engines.peek("default") == found == engines.get("default")
    engines.forget()
    assert engines.peek("default") is None


def test_a_name_is_looked_up_again_in_time(engines: Engines, make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(alias="default")
    monkeypatch.setattr(module, "RESOLVED_SECONDS", 0.05)
    engines.get("default")
    wait_until(lambda: engines.peek("default") is None)
    second = make_model()
    aliases.set_alias("default", second)
    assert engines.get("default")[0] == second


def test_what_was_read_before_a_move_is_not_kept_after_it(engines: Engines, make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = make_model(alias="default"), make_model()
    original = module.locate

    def overtaken(name: str) -> aliases.Located:
        found = original(name)
        aliases.set_alias("default", new)
        engines.forget()
        return found

    monkeypatch.setattr(module, "locate", overtaken)
    assert engines.get("default")[0] == old
    assert engines.peek("default") is None, "the lookup began before the move"
    monkeypatch.setattr(module, "locate", original)
    assert engines.get("default")[0] == new


def test_names_that_stand_for_nothing_of_use(engines: Engines, make_model: Make) -> None:
    with pytest.raises(NotFoundError) as absent:
        engines.get("default")
    assert absent.value.code == "no_default_model"
    with pytest.raises(NotFoundError):
        engines.get("nothing")
    with pytest.raises(InputError) as pictures:
        engines.get(make_model(modality="image"))
    assert pictures.value.code == "modality_mismatch"
    deleted = make_model()
    engines.get(deleted)
    registry.delete_model(deleted)
    engines.forget()
    with pytest.raises(GoneError):
        engines.get(deleted)


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_files_that_cant_be_used(engines: Engines, make_model: Make, settings: Settings, damage: str) -> None:
    model_id = make_model()
    graph = folder_of(settings, model_id) / "model.onnx"
    if damage == "missing":
        shutil.rmtree(graph.parent)
    else:
        graph.write_bytes(b"broken")
    for ask in (engines.get, engines.examine):
        with pytest.raises(DependencyError) as raised:
            ask(model_id)
        assert raised.value.code == "model_unavailable"
    assert len(engines) == 0


def test_the_least_recently_used_makes_room(change_setting: Callable[..., Settings], make_model: Make) -> None:
    first = make_model()
    alone = Engines(change_setting(), Metrics())
    alone.get(first)
    size = alone.bytes
    assert size > 4 * 2**20
    metrics = Metrics()
    engines = Engines(change_setting(max_models_bytes=2 * size), metrics)
    second, third = make_model(), make_model()
    for name in (first, second, first, third):
        engines.get(name)
    assert (len(engines), engines.bytes) == (2, 2 * size)
    assert [engines.peek(name) is not None for name in (first, second, third)] == [True, False, True]
    assert engines.get(second)[0] == second, "one that was dropped is loaded again"
    assert sample(metrics, "synesthesia_engine_loads_total", outcome="loaded") == 4
    assert sample(metrics, "synesthesia_engine_evictions_total") == 2
    assert sample(metrics, "synesthesia_engine_bytes") == 2 * size


def test_one_engine_is_kept_however_large(change_setting: Callable[..., Settings], make_model: Make) -> None:
    engines = Engines(change_setting(max_models_bytes=1), Metrics())
    for name in (make_model(), make_model()):
        engines.get(name)
        assert engines.peek(name) is not None
    assert len(engines) == 1


def test_warm_models_are_loaded_without_being_asked_for(
    change_setting: Callable[..., Settings], make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(alias="default")
    second = make_model()
    loads = count_loads(monkeypatch, {second: 0.5})
    engines = Engines(change_setting(warm_models=f" default, {second},nothing"), Metrics())
    began = time.monotonic()
    engines.warm()
    assert time.monotonic() - began < 0.3, "the start does not wait for loads"
    try:
        wait_until(lambda: engines.peek(second) is not None and engines.peek("default") is not None)
        assert len(loads) == 2
    finally:
        engines.close()


def test_a_first_default_model_is_ready_before_it_is_asked_for(warm: Engines, make_model: Make) -> None:
    model_id = make_model(alias="default")
    wait_until(lambda: (warm.peek("default") or ("",))[0] == model_id)


def test_names_in_use_stay_fresh_without_a_request_that_reads(warm: Engines, make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESOLVED_SECONDS", 0.5)
    name = make_model()
    warm.get(name)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert warm.peek(name) is not None
        time.sleep(0.01)


def test_another_processs_move_is_followed_without_waiting_for_the_load(
    warm: Engines, make_model: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESOLVED_SECONDS", 0.2)
    old, new = make_model(alias="default"), make_model()
    warm.get("default")
    count_loads(monkeypatch, {new: 1.5})  # much longer than a name stays fresh
    aliases.set_alias("default", new)
    began, seen, slowest = time.monotonic(), [], 0.0
    while not seen or seen[-1] != new:
        assert time.monotonic() - began < module.GRACE_SECONDS
        asked = time.monotonic()
        seen.append(warm.get("default")[0])
        slowest = max(slowest, time.monotonic() - asked)
        time.sleep(0.005)
    assert time.monotonic() - began >= 1.5
    assert set(seen) == {old, new}
    assert slowest < 0.7, "no request waited for the load"


def test_the_old_engine_does_not_answer_for_ever(warm: Engines, make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESOLVED_SECONDS", 0.1)
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.3)
    _, new = make_model(alias="default"), make_model()
    warm.get("default")
    count_loads(monkeypatch, {new: 2.0})
    aliases.set_alias("default", new)
    time.sleep(0.8)
    began = time.monotonic()
    assert warm.get("default")[0] == new, "it waits for the new one"
    assert time.monotonic() - began > 0.5


def test_a_deleted_model_does_not_answer_in_the_meantime(warm: Engines, make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESOLVED_SECONDS", 0.1)
    old, new = make_model(alias="default"), make_model()
    warm.get("default")
    count_loads(monkeypatch, {new: 1.0})
    aliases.set_alias("default", new)
    registry.delete_model(old)
    time.sleep(0.3)
    assert warm.get("default")[0] == new


def test_a_deleted_models_engine_is_let_go(warm: Engines, make_model: Make) -> None:
    name = make_model()
    warm.get(name)
    registry.delete_model(name)  # by another process
    wait_until(lambda: len(warm) == 0)


def test_a_move_that_was_examined_costs_no_request_a_load(engines: Engines, make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = make_model(alias="default"), make_model()
    assert engines.get("default")[0] == old
    loads = count_loads(monkeypatch)
    assert engines.examine(new) == new
    assert engines.get("default")[0] == old, "nothing has moved yet"
    assert loads == [new]
    aliases.set_alias("default", new)
    engines.forget()
    assert engines.get("default")[0] == new
    assert loads == [new]


def test_a_load_that_fails_in_the_background_is_tried_again_later(
    warm: Engines, make_model: Make, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.2)
    old, new = make_model(alias="default"), make_model()
    warm.get("default")
    graph = folder_of(settings, new) / "model.onnx"
    content = graph.read_bytes()
    graph.write_bytes(b"broken")
    with capture_logs() as lines:
        aliases.set_alias("default", new)
        wait_until(lambda: any(line["event"] == "engine_not_refreshed" for line in lines))
    assert warm.get("default")[0] == old
    graph.write_bytes(content)
    wait_until(lambda: warm.get("default")[0] == new)


def test_no_request_fails_while_a_name_moves_and_engines_make_room(
    change_setting: Callable[..., Settings], make_model: Make, other_artifact: Path
) -> None:
    first, second = make_model(alias="live"), make_model(artifact=other_artifact)
    engines = Engines(change_setting(max_models_bytes=1), Metrics())  # each load drops the other engine
    inputs = np.random.default_rng(0).uniform(-1, 1, (1, 8000)).astype(np.float32)
    expected = {name: engines.get(name)[1].probabilities(inputs) for name in (first, second)}
    assert np.abs(expected[first] - expected[second]).max() > 1e-3, "their answers can be told apart"
    done, counts = threading.Event(), itertools.count()

    def ask() -> set[str]:
        seen = set()
        while not done.is_set():
            model_id, engine = engines.peek("live") or engines.get("live")
            np.testing.assert_allclose(engine.probabilities(inputs), expected[model_id], atol=1e-5)
            seen.add(model_id)
            next(counts)
        return seen

    engines.warm()
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        try:
            asking = [pool.submit(ask) for _ in range(6)]
            for turn in range(20):
                target = (second, first)[turn % 2]
                aliases.set_alias("live", engines.examine(target))
                engines.forget()
                assert engines.get("live")[0] == target, "a move takes effect at once where it is made"
                time.sleep(0.02)
        finally:
            done.set()
        assert set.union(*(future.result() for future in asking)) == {first, second}
    engines.close()
    assert next(counts) > 100


def test_a_model_that_answers_otherwise_is_not_promoted(engines: Engines, make_model: Make, spoiled_artifact: Path) -> None:
    model_id = make_model(artifact=spoiled_artifact)
    with pytest.raises(ConflictError) as raised:
        engines.examine(model_id)
    assert raised.value.code == "promotion_refused"
    assert model_id in raised.value.message
    assert "'noise' is answered 0.05 off, 0.001 is the limit" in raised.value.message
    assert engines.reports() == {}, "nobody uses it, so nobody need be told"
    engines.get(model_id)
    with pytest.raises(ConflictError):
        engines.examine(model_id)
    assert set(engines.reports()) == {model_id}


def test_pictures_are_examined_too(engines: Engines, make_model: Make) -> None:
    model_id = make_model(modality="image")
    assert engines.examine(model_id) == model_id
    assert len(engines) == 0, "nobody predicts with it"


def test_a_promoted_model_that_answers_otherwise_goes_on_and_everybody_is_told(
    make_model: Make, settings: Settings, spoiled_artifact: Path
) -> None:
    model_id = make_model(alias="default", artifact=spoiled_artifact)
    metrics = Metrics()
    predictors = Predictors(settings, metrics)
    with capture_logs() as lines:
        predictors.engines.warm()
        wait_until(lambda: predictors.engines.peek("default") is not None)
    (told,) = [line for line in lines if line["event"] == "golden_difference"]
    assert (told["log_level"], told["model"]) == ("error", model_id)
    assert told["difference"] == pytest.approx(0.05, abs=1e-3)
    found: dict[str, Any] = asyncio.run(readiness.check_all(settings, predictors))
    assert (found["status"], found["checks"]["models"]["status"]) == ("degraded", "degraded")
    assert found["checks"]["models"]["detail"].endswith(f"in probability: {model_id} by 0.05")
    assert sample(metrics, "synesthesia_golden_changed_models") == 1
    assert sample(metrics, "synesthesia_golden_difference") == pytest.approx(0.05, abs=1e-3)
    predictors.close()


def test_engines_that_answer_as_they_did_are_silent(engines: Engines, make_model: Make) -> None:
    with capture_logs() as lines:
        model_id = make_model()
        engines.get(model_id)
    assert [line["event"] for line in lines] == ["engine_loaded"]
    assert engines.reports()[model_id].passed
