"""What training says when it can't go on, with advice."""

import contextlib
from collections.abc import Iterator

import torch

from models.errors import TrainingError


def not_finite(what: str, step: int) -> TrainingError:
    """Return the error for a loss, named by `what`, that is no number any more."""
    return TrainingError(
        f"{what} is not a number at step {step}",
        code="loss_not_finite",
        param="hyperparameters.learning_rate",
        hint="lower the learning rate, or set gradient_clip to 1",
    )


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Translate what torch says when memory has run out, on CUDA and on the CPU."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # The CPU allocator raises a bare RuntimeError; its sentence is all there is to tell it by.
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise TrainingError(
            "memory has run out",
            code="out_of_memory",
            param="hyperparameters.batch_size",
            hint="a smaller batch_size, a shorter clip_seconds or a smaller base_model needs less",
        ) from error
