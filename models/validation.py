"""How a network does on validation items while it is trained."""

import contextlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.frontend import LogMel
from models.inputs import Inputs
from models.network import Network
from models.reject import answered_share, words_of_clips
from models.training_state import TrainingData

_BATCH = 256
_MOST_WORDS = 500  # of unknown words that are heard after each epoch, and twice as many as validation items at most


def merit(metrics: Mapping[str, float]) -> float | None:
    """Return what weights are chosen by, more being better; None where nothing was validated.

    A job that is to reject is not served by accuracy: weights half-way through the schedule may get one clip more right and tell other
    words far worse. Chosen by accuracy, 1 % asked for, a job on ten Arabic words lost 10.5 points of its right answers, chosen by this 5.3.
    """
    return metrics.get("validation_answered", metrics.get("validation_accuracy"))


def words_heard(validation_items: int) -> int:
    """Return how many unknown words a job that is to reject hears after each epoch."""
    return min(_MOST_WORDS, 2 * validation_items)


class Validator:
    """Measures one network again and again."""

    def __init__(self, network: Network, inputs: Inputs, data: TrainingData, device: torch.device, false_accept: float | None) -> None:
        """`false_accept` is what the job's reject option asks for, if it does."""
        self._network, self._inputs, self._data, self._device = network, inputs, data, device
        self._false_accept = false_accept if network.config.modality == "audio" else None
        self._unknown = self._words() if self._false_accept is not None and len(data.validation) else None

    @torch.no_grad()
    def measure(self, precision: contextlib.AbstractContextManager[object]) -> dict[str, float]:
        """Return mean cross-entropy (no smoothing, no weights) and accuracy on the validation items; nothing where there are none.

        With a reject option also `validation_answered`: the share of them that still get their right label once as few words that are
        no label's pass as it asks for. Leaves the network in evaluation mode. `precision` is entered again and again, as autocast can be.
        """
        indices = self._data.validation
        if not len(indices):
            return {}
        self._network.eval()
        loss, right, known = 0.0, 0, []
        for batch in np.array_split(indices, -(-len(indices) // _BATCH)):
            logits = self._logits(self._inputs.clean(batch), precision)
            truth = torch.from_numpy(self._data.truth[batch]).to(self._device)
            loss += float(nn.functional.cross_entropy(logits, truth, reduction="sum"))
            right += int((logits.argmax(dim=1) == truth).sum())
            if self._unknown is not None:
                known.append(_probabilities(logits))
        metrics = {"validation_loss": loss / len(indices), "validation_accuracy": right / len(indices)}
        if self._unknown is not None and self._false_accept is not None:
            none = np.concatenate([_probabilities(self._logits(batch, precision)) for batch in torch.split(self._unknown, _BATCH)])
            metrics["validation_answered"] = answered_share(np.concatenate(known), self._data.truth[indices], none, self._false_accept)
        return metrics

    @torch.no_grad()
    def _words(self) -> torch.Tensor:
        """Return log-mels of unknown words, made of validation clips, always the same ones."""
        data, generator = self._data, torch.Generator().manual_seed(0)
        words = words_of_clips(data.items, data.validation, data.truth, words_heard(len(data.validation)), generator)
        return LogMel(self._network.config.features).to(self._device).forward(words.to(self._device))

    def _logits(self, batch: torch.Tensor, precision: contextlib.AbstractContextManager[object]) -> torch.Tensor:
        with precision:
            logits: torch.Tensor = self._network(batch)
        return logits.float()


def _probabilities(logits: torch.Tensor) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = logits.softmax(dim=1).cpu().numpy()
    return probabilities
