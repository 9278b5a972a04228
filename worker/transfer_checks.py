"""What a posted job asks of a transfer, held against what there is: refused at once rather than by the trainer later."""

from models.config import JobSpec
from models.errors import ConfigError
from models.transfer_rules import check_options
from worker.registry import BaseModel


def check_transfer(spec: JobSpec, base: BaseModel | None) -> None:
    """Raise ConfigError for a transfer without a trained source, an unknown layer, and options that would do nothing."""
    transfer, has_weights = spec.transfer, base is not None and base.has_weights
    # Whoever names a layer to stop at wants a part, in mode auto too.
    asked = transfer.mode in ("full", "partial") or (transfer.mode == "auto" and transfer.until is not None)
    if asked and not has_weights:
        raise ConfigError(
            f"transfer.mode {transfer.mode} carries layers over, but base_model names no trained network", param="transfer.mode",
            hint="name a model of yours or a timm model as base_model, or use mode none",
        )  # fmt: skip
    check_options(transfer, carries=has_weights and transfer.mode != "none")
    _check_until(spec, base)
    _check_evaluation(spec, carries=has_weights and transfer.mode != "none")


def _check_until(spec: JobSpec, base: BaseModel | None) -> None:
    until = spec.transfer.until
    if until is None:
        return
    if spec.transfer.mode not in ("partial", "auto"):
        raise ConfigError("transfer.until belongs to mode partial or auto", param="transfer.until")
    if base is not None and base.layers and until not in base.layers:
        raise ConfigError(f"{spec.base_model} has no layer {until!r}; it has {', '.join(base.layers)}", param="transfer.until")


def _check_evaluation(spec: JobSpec, *, carries: bool) -> None:
    """Refuse controls of a job that carries nothing over, and repetitions of what is not compared."""
    asked = spec.evaluation
    if asked.controls != "none" and (spec.type != "finetune" or not carries):
        raise ConfigError(
            f"evaluation.controls {asked.controls} tells whether a transfer paid, and this job is no finetune that may carry layers over",
            param="evaluation.controls", hint="leave evaluation.controls out",
        )  # fmt: skip
    if asked.seeds > 1 and asked.controls != "full":
        raise ConfigError(
            f"evaluation.seeds {asked.seeds} repeats the comparison that evaluation.controls full makes",
            param="evaluation.seeds", hint="use controls full: the budget of auto pays for one seed",
        )  # fmt: skip
