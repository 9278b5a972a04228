"""How a network does on validation items while it is trained."""

import contextlib

import numpy as np
import torch
from torch import nn

from models.inputs import Inputs
from models.network import Network
from models.training_state import TrainingData

_BATCH = 256


@torch.no_grad()
def validate(
    network: Network, inputs: Inputs, data: TrainingData, *, device: torch.device, precision: contextlib.AbstractContextManager[object]
) -> dict[str, float]:
    """Return mean cross-entropy (no smoothing, no weights) and accuracy on the validation items; nothing where there are none.

    Leaves `network` in evaluation mode. `precision` can be entered again and again, as torch.autocast can.
    """
    indices = data.validation
    if not len(indices):
        return {}
    network.eval()
    loss, right = 0.0, 0
    for batch in np.array_split(indices, -(-len(indices) // _BATCH)):
        with precision:
            logits = network(inputs.clean(batch))
        truth = torch.from_numpy(data.truth[batch]).to(device)
        loss += float(nn.functional.cross_entropy(logits.float(), truth, reduction="sum"))
        right += int((logits.argmax(dim=1) == truth).sum())
    return {"validation_loss": loss / len(indices), "validation_accuracy": right / len(indices)}
