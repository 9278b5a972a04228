"""One start of one training job, from order to artifact: data, source, network, training with checkpoints, evaluation, files."""

import time
from typing import Any, Protocol

import structlog
import torch

from models.config import AUTO, JobSpec, LineageEntry, TransferRecord
from models.dataset import PackedDataset
from models.errors import ArtifactError, Interrupted, UnavailableError
from models.network import Network
from models.prepared import PreparedItems
from models.training import Progress, Trainer
from models.training_state import TrainingData
from worker.checkpoints import Checkpoints
from worker.finishing import Trained, evaluate, save_trained
from worker.foundations import Foundation, Founder, Hooks, build_on
from worker.orders import BaseOrder, TrainingOrder, preview_folder
from worker.preview import first_answer, save_first_answer
from worker.reports import Reporter
from worker.searching import Search
from worker.telemetry import Telemetry

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
        self._base: BaseOrder | None = None

    def run(self) -> dict[str, Any]:
        """Return what the supervisor publishes; the artifact lies in the order's staging folder by then."""
        if self._order.threads is not None:
            torch.set_num_threads(self._order.threads)
        self._telemetry.phase("preparing")
        dataset = PackedDataset.open(self._order.dataset_directory)
        hooks = Hooks(self._report, lambda found: self._announce(found, dataset), self._on_progress, lambda: self._wishes.stop)
        foundation = Founder(self._order, dataset, self._device, hooks).settle()
        data = TrainingData.from_dataset(dataset, PreparedItems(dataset, foundation.spec.features, self._order.folder))
        if self._order.spec.search is not None:
            foundation = Search(self._order, foundation, dataset, data, self._device, hooks).run()
        spec = foundation.spec
        network, record = build_on(foundation, dataset, data, self._device)
        self._base = foundation.base
        del foundation  # the source's weights are copied by now
        trainer = Trainer(network, spec, data, device=self._device, carried=record.shared_layers, frozen=record.frozen_layers)
        self._go_on(trainer)
        self._train(trainer)
        return self._finish(trainer, spec, data, record)

    def _announce(self, foundation: Foundation, dataset: PackedDataset) -> None:
        """Give a first answer where the job leaves the way to go open: it takes a second or two."""
        order = self._order
        if order.preview_model_id is None or order.spec.type != "finetune" or order.spec.transfer.mode != AUTO:
            return
        data = TrainingData.from_dataset(dataset, PreparedItems(dataset, foundation.spec.features, order.folder))
        answer = first_answer(foundation, dataset, data, self._device)
        if answer is None:
            return
        lineage = self._lineage(order.preview_model_id, answer.network, foundation.base)
        saved = save_first_answer(answer, preview_folder(order.folder, order.token), foundation, data, lineage=lineage)
        self._report("preview", model_id=order.preview_model_id, **saved)

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
            trainer.settle()

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
        trained = Trained(trainer, spec, data, record, self._order.dataset_directory, self._device)
        evaluated = evaluate(trained)
        self._telemetry.phase("exporting")
        lineage = self._lineage(self._order.model_id, trained.network, self._base)
        manifest = save_trained(trained, evaluated, self._order.staging, lineage)
        return {
            "model_id": self._order.model_id,
            "manifest": manifest.model_dump(mode="json"),
            "evaluation": evaluated.evaluation,
            "predictions": evaluated.predictions,
            "history": trainer.counters.history,
            "metrics": evaluated.metrics | ({} if self._wishes.finish else self._telemetry.eta_error()),
            "checkpoint": {"step": trainer.counters.step, "epoch": trainer.counters.best_epoch, "metrics": evaluated.metrics},
            "progress": self._telemetry.last,
            "cancelled": self._wishes.finish,
        }

    def _lineage(self, model_id: str, network: Network, base: BaseOrder | None) -> tuple[LineageEntry, ...]:
        order = self._order
        step = LineageEntry(
            model=model_id, job=order.job_id, dataset=order.spec.dataset, dataset_sha256=order.dataset_sha256,
            modality=network.config.modality, architecture=network.config.architecture,
        )  # fmt: skip
        return (*(base.lineage if base else ()), step)


def training_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda". Raises UnavailableError where CUDA was asked for and is not there."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UnavailableError("SYNESTHESIA_DEVICE is cuda, and torch finds no GPU here", code="device_unavailable")
    return torch.device("cuda" if available and name in ("auto", "cuda") else "cpu")
