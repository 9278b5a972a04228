"""One start of a ranking, in this process: what comes out, what is left out, what is not computed twice."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.artifact import save_artifact
from models.config import FeatureConfig, ModelManifest, NetworkConfig, Normalization
from models.dataset import PackedWriter
from models.embeddings import Listening
from models.errors import DatasetError, Interrupted
from models.manifest import read_manifest
from models.network import build_network
from models.transferability import TransferabilitySpec
from tests.conftest import RATE, tone
from worker.orders import CandidateOrder, RankingOrder, SkippedCandidate
from worker.ranking import RankingRun

torch.set_num_threads(1)
ITEMS = 36
GONE = SkippedCandidate(candidate="mdl_gone", code="model_deleted", message="model mdl_gone has been deleted")


class Wishes:
    stop = False


class Reports(list[tuple[str, dict[str, Any]]]):
    """Keeps what is reported, and does something at the first message."""

    def __init__(self, do: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._do = do

    def __call__(self, kind: str, **fields: Any) -> None:
        json.dumps(fields, allow_nan=False)
        self.append((kind, fields))
        if kind == "message":
            self._do()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [fields for found, fields in self if found == kind]


def pack(folder: Path, labels: list[int]) -> Path:
    with PackedWriter(folder, "audio", sample_rate=RATE) as writer:
        for index, label in enumerate(labels):
            writer.append((tone(300 * (1 + label), 0.25, seed=index) * 32767).astype(np.int16))
        writer.finish(
            labels=("low", "middle", "high"), item_labels=labels, item_splits=["train"] * (len(labels) - 3) + ["test"] * 3,
            item_groups=[index // 3 % 4 for index in range(len(labels))], group_names=("a", "b", "c", "d"), summary={},
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of an image model."""
    features = FeatureConfig(clip_seconds=1.0, image_size=28)
    normalization = Normalization(mean=(0.5,) * 3, std=(0.3,) * 3)
    config = NetworkConfig(modality="image", architecture="resnet_tiny", labels=("a", "b"), features=features, normalization=normalization)
    folder = tmp_path_factory.mktemp("source")
    save_artifact(folder, build_network(config, seed=5), manifest=ModelManifest(network=config), evaluation={"splits": {}})
    return folder


@pytest.fixture
def order(tmp_path: Path, source: Path) -> RankingOrder:
    model = CandidateOrder(
        name="mdl_1", kind="model", architecture="resnet_tiny", directory=source, sha256=read_manifest(source).files["model.safetensors"]
    )
    (tmp_path / "packed").mkdir()
    return RankingOrder(
        job_id="job_1", token=1, parent_pid=1,
        spec=TransferabilitySpec(dataset="ds_1", features=FeatureConfig(n_mels=16, hop_ms=20.0, clip_seconds=0.25)),
        dataset_directory=pack(tmp_path / "packed", [index % 3 for index in range(ITEMS)]), dataset_blob="datasets/ds_1-1",
        candidates=(model,), skipped=(GONE,), embeddings=tmp_path / "embeddings", device="cpu", threads=1,
    )  # fmt: skip


def run(order: RankingOrder, reports: Reports | None = None, wishes: Wishes | None = None) -> dict[str, Any]:
    taken = reports if reports is not None else Reports()
    return RankingRun(order, taken, wishes or Wishes()).run()  # type: ignore[arg-type]  # Reports is called as a Reporter is


def test_a_whole_start(order: RankingOrder) -> None:
    reports = Reports()
    found = run(order, reports)
    result = found["result"]
    assert {name: result[name] for name in ("dataset", "clips", "labels", "held_out")} == {
        "dataset": "ds_1", "clips": ITEMS - 3, "labels": 3, "held_out": "group",
    }  # fmt: skip
    assert result["chance"] == pytest.approx(1 / 3)
    assert "auto" not in result["features"].values()
    assert {(row["candidate"], row["kind"]) for row in result["candidates"]} == {("mdl_1", "model"), ("resnet_tiny", "random")}
    assert result["skipped"] == [GONE.model_dump()]
    assert [line["fraction"] for line in reports.of("progress")] == [0.0, 0.5, 1.0]
    assert (found["progress"]["phase"], found["progress"]["step"]) == ("done", 2)
    assert [message["message"].partition(":")[0] for message in reports.of("message")] == ["resnet_tiny", "mdl_1"]


def test_vectors_are_computed_once(order: RankingOrder, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(order)["result"]
    assert len(list(order.embeddings.glob("*.npz"))) == 4  # the source and three draws of random weights

    def refuse(*_: object) -> None:
        raise AssertionError("nothing is left to compute")

    monkeypatch.setattr(Listening, "__init__", refuse)
    again = run(order)["result"]
    for row in (*first["candidates"], *again["candidates"]):
        row.pop("seconds")
    assert again == first
    for other in (
        {"dataset_blob": "datasets/ds_1-2"},
        {"spec": order.spec.model_copy(update={"features": order.spec.features.model_copy(update={"n_mels": 20})})},
        {"candidates": (order.candidates[0].model_copy(update={"sha256": "1" * 64}),)},
    ):
        with pytest.raises(AssertionError):
            run(order.model_copy(update=other))


def test_a_start_that_is_stopped_goes_on_from_what_was_kept(order: RankingOrder) -> None:
    wishes = Wishes()
    with pytest.raises(Interrupted):
        run(order, Reports(lambda: setattr(wishes, "stop", True)), wishes)
    assert len(list(order.embeddings.glob("*.npz"))) == 3  # random weights were through
    assert len(run(order)["result"]["candidates"]) == 2


def test_what_can_not_be_judged_is_left_out_with_its_reason(order: RankingOrder, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    broken = CandidateOrder(name="mdl_broken", kind="model", architecture="resnet_tiny", directory=tmp_path / "empty", sha256="2" * 64)
    reports = Reports()
    result = run(order.model_copy(update={"candidates": (broken, *order.candidates), "skipped": ()}), reports)["result"]
    assert len(result["candidates"]) == 2
    [skipped] = result["skipped"]
    assert (skipped["candidate"], skipped["code"]) == ("mdl_broken", "artifact_invalid")
    assert [message for message in reports.of("message") if message.get("level") == "warning"]


def test_random_weights_alone_are_ranked_too(order: RankingOrder) -> None:
    candidates = tuple(CandidateOrder(name=name, kind="random", architecture=name) for name in ("seed_cnn", "resnet_tiny"))
    result = run(order.model_copy(update={"candidates": candidates}))["result"]
    assert {row["candidate"] for row in result["candidates"]} == {"seed_cnn", "resnet_tiny"}
    assert all(row["better_than_random"] is None for row in result["candidates"])


def test_one_label_among_the_training_items_is_too_few(order: RankingOrder, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    directory = pack(tmp_path / "one", [0] * 6 + [1, 2, 0])
    with pytest.raises(DatasetError) as refused:
        run(order.model_copy(update={"dataset_directory": directory}))
    assert refused.value.code == "too_few_labels"
