"""Which options of a transfer contradict one another. No torch here: a job is refused when it is posted, not when its turn comes.

The rules compare fields with their defaults, so that a new option needs its name in a tuple below and nothing else.
"""

from models.config import TransferConfig
from models.errors import ConfigError

# What acts on carried layers, and does nothing where none is carried over.
_NEED_LAYERS = ("freeze", "probe_first", "regularize", "interpolate", "statistics")
# What says how carried layers move, and contradicts holding them still.
_NEED_MOVEMENT = ("probe_first", "regularize", "interpolate")
# What refines another option, and the value that the other one must have.
_NEED_OTHER = {"thaw_from": ("freeze", "gradual"), "regularize_strength": ("regularize", "l2_sp")}


def check_options(transfer: TransferConfig, *, carries: bool) -> None:
    """Raise ConfigError, its `param` the field, for an option that would do nothing; `carries` tells whether layers are carried over."""
    chosen = {name for name, field in type(transfer).model_fields.items() if getattr(transfer, name) != field.default}
    if not carries:
        # `sum` and `replicate` are what an input_rule of auto becomes, carried layers or not.
        idle = [name for name in _NEED_LAYERS if name in chosen] + ["input_rule"] * (transfer.input_rule == "mean")
        _refuse(transfer, idle, "needs layers that are carried over")
    if transfer.freeze == "shared":
        _refuse(transfer, [name for name in _NEED_MOVEMENT if name in chosen], "needs carried layers that move; transfer.freeze is shared")
    for name, (other, value) in _NEED_OTHER.items():
        _refuse(transfer, [name] if name in chosen and getattr(transfer, other) != value else [], f"belongs to transfer.{other} {value}")


def _refuse(transfer: TransferConfig, names: list[str], why: str) -> None:
    for name in names[:1]:
        message = f"transfer.{name} {getattr(transfer, name)} {why}"
        raise ConfigError(message, param=f"transfer.{name}", hint=f"leave transfer.{name} out, or change what it contradicts")
