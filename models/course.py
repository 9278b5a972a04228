"""The strategies of one run, as the training loop meets them: before an update, after it, at validation, and at the end."""

import contextlib
from collections.abc import Callable, Iterable

import torch

from models.averaging import AVERAGES, INTERPOLATION_GRID, applied, interpolated
from models.config import JobSpec
from models.network import Network
from models.optimizers import Treatment
from models.strategies import NEVER, PENALTIES, held_layers, patient_from, schedule_place, thaw_points, treatments
from models.transfer import freeze, set_train_mode
from models.validation import merit

Metrics = dict[str, float]


class Course:
    """Holds, thaws, pulls and averages as the job says; without any of it the loop runs as if this were not there."""

    def __init__(self, network: Network, spec: JobSpec, *, carried: Iterable[str] = (), frozen: Iterable[str] = ()) -> None:
        """`carried` names the layers with the source's weights in `network`, `frozen` those that never move. Freezes the latter."""
        self.carried = tuple(carried)
        self.interpolation = 1.0
        self._network, self._transfer, self._layer_decay = network, spec.transfer, spec.hyperparameters.layer_decay
        self._points = thaw_points(self.carried, spec.transfer) | dict.fromkeys(frozen, NEVER)
        freeze(network, [name for name, point in self._points.items() if point == NEVER])
        self.trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._held: tuple[str, ...] | None = None
        self._penalty = PENALTIES[spec.transfer.regularize]
        self._source = self._carried_weights() if self._penalty or spec.transfer.interpolate != 1.0 else {}
        make_average = AVERAGES[spec.hyperparameters.average]
        self._average = make_average(network) if make_average else None

    def treatments(self) -> dict[torch.nn.Parameter, Treatment]:
        """Return how the optimizer treats each parameter; carried layers that are pulled to the source are not pulled to zero as well."""
        return treatments(self._network, self._layer_decay, self.carried if self._penalty else ())

    def tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return what belongs into a checkpoint, by group; the tensors are those in use, so that writing to them goes on from there."""
        groups = {"source": self._source, "average": self._average.tensors if self._average else {}}
        return {group: tensors for group, tensors in groups.items() if tensors}

    def restart(self) -> None:
        """Take note that the network's statistics have changed before the first update."""
        if self._average:
            self._average.restart(self._network)

    def hold(self, update: int, total: int) -> None:
        """Put the network into training mode for update number `update` (from 0) of `total`, with the layers still that are to be."""
        held = held_layers(self._points, update, total)
        if held != self._held:
            freeze(self._network, held)
        if held != self._held or not self._network.training:  # validation leaves evaluation mode behind
            set_train_mode(self._network, held)
        self._held = held

    def schedule_place(self, update: int, total: int) -> tuple[int, int]:
        """Return where the learning rate's schedule stands at update number `update` (from 0) of `total`."""
        return schedule_place(self._transfer, update, total)

    def patient_from(self, share: float) -> float:
        """Return from which share of the epochs patience counts, where the schedule alone says `share`."""
        return patient_from(self._transfer, self._points, share)

    def before_update(self) -> None:
        """Add penalties to the gradients."""
        if self._penalty:
            self._penalty(dict(self._network.named_parameters()), self._source, self._transfer.regularize_strength)

    def after_update(self, update: int) -> None:
        """Let the average follow update number `update` (from 0)."""
        if self._average:
            self._average.follow(self._network, update)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the network has the weights that are validated and kept."""
        return applied(self._network, self._average)

    def settle(self, validate: Callable[[], Metrics], re_estimate: Callable[[], None]) -> Metrics:
        """Mix the trained weights with the source's; return the mixture's validation metrics, nothing where none was asked for.

        `validate` and `re_estimate` (batch-norm statistics) act on the network. Expects the trained weights in the network.
        """
        wanted = self._transfer.interpolate
        if wanted == 1.0 or not self._source:
            return {}
        tuned = {name: tensor.detach().clone() for name, tensor in self._network.state_dict().items()}

        def mix(share: float) -> None:
            self._network.load_state_dict(interpolated(self._source, tuned, share))
            if share != 1.0:  # a mixture has never met the items; the trained weights have
                re_estimate()

        scores = {}
        for share in INTERPOLATION_GRID if wanted == "auto" else (wanted,):
            mix(share)
            scores[share] = validate()
        self.interpolation = max(scores, key=lambda share: _rank(scores[share]))
        mix(self.interpolation)
        return scores[self.interpolation]

    def _carried_weights(self) -> dict[str, torch.Tensor]:
        keys = {key for name in self.carried for key in self._network.layer_keys(name)}
        return {key: parameter.detach().clone() for key, parameter in self._network.named_parameters() if key in keys}


def _rank(metrics: Metrics) -> tuple[float, float]:
    return merit(metrics) or 0.0, -metrics.get("validation_loss", 0.0)
