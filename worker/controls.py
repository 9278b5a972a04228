"""Controls: jobs that follow a finetune, in order to tell whether the layers that it carried over were worth it.

scratch   the same network with random weights: same split, same values, nothing carried over
frozen    the same layers carried over, but held still
repeat    the job itself with another seed, where several seeds are compared

They are ordinary jobs in every respect but two: they let others go first, and they are shown with the job that they belong to.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from models.config import EvaluationConfig, JobSpec, ModelManifest, TransferConfig
from models.verdict import FROZEN, REPEAT, SCRATCH, unmeasured
from worker.database import Job
from worker.jobs import enqueue
from worker.judgement import AUTO_SHARE
from worker.lease import add_event

_SEEDS = 2**31  # as JobSpec bounds them
_NAME_LENGTH = 180  # leaves room for what the control is
# What moves carried layers in one way or another, and contradicts holding them still.
_HELD = {"freeze": "shared"} | {
    name: TransferConfig.model_fields[name].default
    for name in ("thaw_from", "probe_first", "regularize", "regularize_strength", "interpolate")
}


@dataclass(frozen=True)
class Control:
    """One job to be created."""

    name: str
    spec: JobSpec


def begin(session: Session, job_id: str, manifest: ModelManifest, metrics: Mapping[str, float]) -> dict[str, Any] | None:
    """Queue the controls of a finetune that has just succeeded, in the transaction that closes it.

    Returns the transfer part of its evaluation as it stands until they have ended; None where the job asked for no controls.
    """
    job = session.get_one(Job, job_id, populate_existing=True)
    asked = EvaluationConfig.model_validate(job.spec.get("evaluation") or {}, strict=False)
    if asked.controls == "none" or job.control_of is not None:
        return None
    if manifest.training is None or not manifest.transfer.shared_layers:
        return unmeasured("nothing was carried over, training began with random weights")
    planned = list(_planned(manifest.training, asked, metrics))
    created = [_create(session, job, control) for control in planned]
    names = ", ".join(f"{control.control} {control.id}" for control in created)
    add_event(session, job_id, "message", f"the verdict on the transfer follows when these jobs have ended: {names}")
    return unmeasured("the controls have not ended yet", [])


def _planned(spec: JobSpec, asked: EvaluationConfig, metrics: Mapping[str, float]) -> Iterator[Control]:
    """Yield the controls of a job with every auto settled, in the order in which they are to run."""
    uncontrolled = spec.evaluation.model_copy(update={"controls": "none", "seeds": 1})
    plain = spec.model_copy(update={"evaluation": uncontrolled, "search": None, "alias": None})  # what a search found is settled by now
    if asked.controls == "auto":
        yield Control(SCRATCH, _within_budget(_scratch(plain), metrics))
        return
    for shift in range(asked.seeds):
        seeded = plain.model_copy(update={"seed": (spec.seed + shift) % _SEEDS})
        if shift:
            yield Control(REPEAT, seeded)
        yield Control(SCRATCH, _scratch(seeded))
        if spec.transfer.freeze != "shared":
            yield Control(FROZEN, seeded.model_copy(update={"transfer": spec.transfer.model_copy(update=_HELD)}))


def _scratch(spec: JobSpec) -> JobSpec:
    """Return the job without its transfer. `base_model` stays and names the architecture alone; every layer learns at the full rate."""
    hyperparameters = spec.hyperparameters.model_copy(update={"layer_decay": 1.0})
    return spec.model_copy(update={"transfer": TransferConfig(mode="none"), "hyperparameters": hyperparameters})


def _within_budget(spec: JobSpec, metrics: Mapping[str, float]) -> JobSpec:
    """Return the job with as many epochs as fit, so that its schedule comes to an end, and the budget as a limit.

    `metrics` are those of the job that it is compared with, whose epochs took as long.
    """
    epochs = max(1, int(metrics["epochs"] * AUTO_SHARE))
    limits = {"epochs": epochs, "max_seconds": max(metrics["training_seconds"] * AUTO_SHARE, 0.001)}
    return spec.model_copy(update={"hyperparameters": spec.hyperparameters.model_copy(update=limits)})


def _create(session: Session, job: Job, control: Control) -> Job:
    name = f"{job.name[:_NAME_LENGTH]} ({control.name})" if job.name else None
    spec = control.spec.model_copy(update={"name": name})
    return enqueue(
        session, type=job.type, queue=job.queue, dataset_id=job.dataset_id, spec=spec.model_dump(mode="json"),
        base_model_id=job.base_model_id, name=name, meta=dict(job.meta), control_of=job.id, control=control.name, owned_by=job.owned_by,
    )  # fmt: skip
