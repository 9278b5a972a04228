"""One start of one training job, from order to artifact: data, source, network, training with checkpoints, evaluation, files."""

import time
from typing import Any, Protocol

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from models.artifact import load_artifact, save_artifact
from models.config import SPLITS, JobSpec, LineageEntry, ModelManifest, NetworkConfig, TransferRecord
from models.dataset import PackedDataset
from models.errors import ArtifactError, Interrupted, UnavailableError
from models.evaluation import evaluate_split, evaluation_document
from models.inputs import Inputs, compute_normalization
from models.network import Network, build_network, published_network
from models.prepared import PreparedItems
from models.recipes import network_config, resolve
from models.training import Progress, Trainer
from models.training_state import TrainingData
from models.transfer import carry_over
from worker.checkpoints import Checkpoints
from worker.orders import TrainingOrder
from worker.reports import Reporter
from worker.telemetry import Telemetry

_TIMM = "timm/"
_EVALUATION_BATCH = 256
_log = structlog.get_logger(__name__)


class Wishes(Protocol):
    """What the supervisor wants of this process."""

    release: bool
    finish: bool

    @property
    def stop(self) -> bool:
        """Whether training should stop at the next step."""


class TrainingRun:
    """Carries an order out. `run` raises SynesthesiaError where the job can't succeed, Interrupted where it goes on later."""

    def __init__(self, order: TrainingOrder, report: Reporter, wishes: Wishes) -> None:
        """Nothing happens yet."""
        self._order = order
        self._report = report
        self._wishes = wishes
        self._device = training_device(order.device)
        self._telemetry = Telemetry(report)
        self._checkpoints = Checkpoints(order.folder / "checkpoints")
        self._saved_at = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Return what the supervisor publishes; the artifact lies in the order's staging folder by then."""
        if self._order.threads is not None:
            torch.set_num_threads(self._order.threads)
        self._telemetry.phase("preparing")
        dataset = PackedDataset.open(self._order.dataset_directory)
        source = self._source()
        spec = self._resolved(dataset, source)
        data = TrainingData.from_dataset(dataset, PreparedItems(dataset, spec.features, self._order.folder))
        network, record = self._network(spec, dataset, data, source)
        del source  # its weights are copied by now
        trainer = Trainer(network, spec, data, device=self._device, frozen=record.frozen_layers)
        self._go_on(trainer)
        self._train(trainer)
        return self._finish(trainer, spec, data, record)

    def _source(self) -> Network | None:
        """Return the trained network to build on, None where random weights were asked for or only an architecture was named."""
        base, mode = self._order.base, self._order.spec.transfer.mode
        if base is None:
            return None
        if base.directory is not None:
            return load_artifact(base.directory)[0]
        if base.name.startswith(_TIMM) and mode != "none":
            return published_network(base.name, directory=self._order.timm_dir, offline=self._order.offline)
        return None

    def _resolved(self, dataset: PackedDataset, source: Network | None) -> JobSpec:
        if self._order.resolved is not None:
            return self._order.resolved
        spec = resolve(self._order.spec, dataset, source=source.config if source else None, device=self._device.type)
        self._report("resolved", spec=spec.model_dump(mode="json"))
        return spec

    def _network(self, spec: JobSpec, dataset: PackedDataset, data: TrainingData, source: Network | None) -> tuple[Network, TransferRecord]:
        normalization = compute_normalization(data.items, data.train, dataset.modality, spec.features, device=self._device)
        source_config: NetworkConfig | None = source.config if source else None
        config = network_config(spec, modality=dataset.modality, labels=dataset.labels, normalization=normalization, source=source_config)
        network = build_network(config, seed=spec.seed)
        if source is None or source_config is None:
            return network, TransferRecord(base_model=spec.base_model)
        return network, carry_over(source, source_config, network, spec.transfer, base_model=spec.base_model)

    def _go_on(self, trainer: Trainer) -> None:
        """Take up the newest checkpoint that is intact and of this job."""
        found = self._checkpoints.load()
        if found is None:
            return
        try:
            trainer.load_state(*found)
        except ArtifactError as error:
            _log.warning("checkpoint_not_taken", reason=error.message)
            self._report("message", level="warning", message=f"the checkpoint can't be used, training begins anew: {error.message}")
            return
        self._report("message", message=f"going on from step {trainer.counters.step}", data={"step": trainer.counters.step})

    def _train(self, trainer: Trainer) -> None:
        """Train to the end, or until the supervisor wants the model now. Raises Interrupted when the job is to go on later."""
        try:
            trainer.fit(on_progress=self._on_progress, should_stop=lambda: self._wishes.stop, on_step=self._on_step)
        except Interrupted:
            if not self._wishes.finish:
                self._save(trainer)
                raise
            trainer.restore_best()

    def _on_progress(self, progress: Progress) -> None:
        self._telemetry.training(progress)

    def _on_step(self, trainer: Trainer) -> None:
        if time.monotonic() - self._saved_at >= self._order.checkpoint_seconds:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        """Write a checkpoint. On a full disk the older ones stay and training goes on: what it learns is worth more than an end."""
        tensors, meta = trainer.state()
        self._saved_at = time.monotonic()
        step = trainer.counters.step
        try:
            self._checkpoints.save(step, tensors, meta)
        except OSError as error:
            self._report("message", level="warning", message=f"no checkpoint could be written at step {step}: {error.strerror}")
            return
        self._report("checkpoint", step=step, epoch=trainer.counters.epoch)

    def _finish(self, trainer: Trainer, spec: JobSpec, data: TrainingData, record: TransferRecord) -> dict[str, Any]:
        self._telemetry.phase("evaluating")
        network = trainer.network.float().eval()
        evaluation = evaluation_document(self._evaluate(network, data))
        metrics = _metrics_of(trainer, evaluation)
        self._telemetry.phase("exporting")
        self._order.staging.mkdir(parents=True, exist_ok=True)
        manifest = save_artifact(
            self._order.staging, network, manifest=self._manifest(network, spec, record, metrics), evaluation=evaluation
        )
        return {
            "model_id": self._order.model_id,
            "manifest": manifest.model_dump(mode="json"),
            "evaluation": evaluation,
            "metrics": metrics,
            "checkpoint": {"step": trainer.counters.step, "epoch": trainer.counters.best_epoch, "metrics": metrics},
            "progress": self._telemetry.last,
            "cancelled": self._wishes.finish,
        }

    def _evaluate(self, network: Network, data: TrainingData) -> dict[str, dict[str, Any]]:
        """Return the evaluation of each split that has items; training items as the network sees them in use, unchanged."""
        config = network.config
        inputs = Inputs(data.items, config.modality, config.features, device=self._device)
        found: dict[str, dict[str, Any]] = {}
        for split, indices in zip(SPLITS, (data.train, data.validation, data.test), strict=True):
            if len(indices):
                probabilities = predict_items(network, inputs, indices)
                groups = data.groups[indices] if data.group_names else None
                found[split] = evaluate_split(probabilities, data.truth[indices], data.labels, groups=groups, group_names=data.group_names)
        return found

    def _manifest(self, network: Network, spec: JobSpec, record: TransferRecord, metrics: dict[str, float]) -> ModelManifest:
        order = self._order
        step = LineageEntry(
            model=order.model_id, job=order.job_id, dataset=spec.dataset, dataset_sha256=order.dataset_sha256,
            modality=network.config.modality, architecture=network.config.architecture,
        )  # fmt: skip
        lineage = (*(order.base.lineage if order.base else ()), step)
        return ModelManifest(network=network.config, transfer=record, lineage=lineage, training=spec, metrics=metrics)


@torch.no_grad()
def predict_items(network: Network, inputs: Inputs, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return probabilities, shape (n, classes), for items `indices`, shape (n,), in float32 as serving computes them."""
    batches = np.array_split(indices, -(-len(indices) // _EVALUATION_BATCH))
    parts = [torch.softmax(network(inputs.clean(batch)), dim=1).cpu() for batch in batches]
    probabilities: NDArray[np.float32] = torch.cat(parts).numpy()
    return probabilities


def training_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda". Raises UnavailableError where CUDA was asked for and is not there."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UnavailableError("SYNESTHESIA_DEVICE is cuda, and torch finds no GPU here", code="device_unavailable")
    return torch.device("cuda" if available and name in ("auto", "cuda") else "cpu")


def _metrics_of(trainer: Trainer, evaluation: dict[str, Any]) -> dict[str, float]:
    counters = trainer.counters
    accuracies = {f"{split}_accuracy": float(found["accuracy"]) for split, found in evaluation["splits"].items()}
    losses = {} if counters.best_loss is None else {"validation_loss": counters.best_loss}
    return accuracies | losses | {"epochs": counters.epoch, "steps": counters.step, "training_seconds": round(counters.seconds, 3)}
