"""What a network that was trained on pictures makes of sounds, before it has learnt anything about them."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.audio import to_pcm16
from models.backbones.timm_models import PREFIX
from models.config import FeatureConfig, NetworkConfig, Normalization, TransferConfig
from models.dataset import PackedDataset
from models.errors import Interrupted
from models.inputs import Inputs, compute_normalization
from models.network import Network, build_network
from models.norm_statistics import norms_of, re_estimate
from models.prepared import clip_batch
from models.transfer import carry_over
from models.transferability import Embedded, Statistics

_BATCH = 128
ShouldStop = Callable[[], bool]


class Listening:
    """A dataset's drawn clips as a backbone hears them: computed once, for every source alike."""

    def __init__(self, dataset: PackedDataset, clips: NDArray[np.int64], features: FeatureConfig, device: torch.device) -> None:
        """`clips`, shape (n,), are numbers of training items; `features` are resolved."""
        items = _Clips(dataset, features)
        self._features, self._device = features, device
        self._normalization: Normalization = compute_normalization(items, clips, "audio", features, device=device)
        inputs = Inputs(items, "audio", features, device=device)
        batches = np.array_split(clips, -(-len(clips) // _BATCH))
        self._log_mels = torch.cat([inputs.clean(batch).cpu() for batch in batches])  # shape (n, n_mels, n_frames)

    def network(self, architecture: str, source: Network | None, *, seed: int = 0) -> Network:
        """Return a speech network without a head: with all of the source's layers, or random weights. Raises ConfigError for a misfit."""
        config = NetworkConfig(
            modality="audio", architecture=architecture, labels=(), features=self._features, normalization=self._normalization
        )
        network = build_network(config, seed=seed)
        if source is not None:
            carry_over(source, source.config, network, TransferConfig(mode="full"))
        return network.to(self._device).eval()

    def embed(self, network: Network, should_stop: ShouldStop) -> dict[Statistics, Embedded]:
        """Return what `network` makes of the clips, in evaluation: with its batch-norm statistics, and with those of the clips.

        Layers that meet inputs of another kind are off balance with the statistics they bring. Raises Interrupted at the next batch
        once `should_stop` says so. Leaves the network with the clips' statistics.
        """
        found: dict[Statistics, Embedded] = {"source": self._pass(network, should_stop)}
        if norms_of(network):
            re_estimate(network, self._batches(should_stop))
            found["target"] = self._pass(network, should_stop)
        return found

    @torch.no_grad()
    def _pass(self, network: Network, should_stop: ShouldStop) -> Embedded:
        heard = _Heard(network)
        try:
            parts = [network.features_of(batch).cpu().numpy() for batch in self._batches(should_stop)]
        finally:
            heard.close()
        return Embedded(np.concatenate(parts), {name: np.concatenate(means) for name, means in heard.means.items()})

    def _batches(self, should_stop: ShouldStop) -> Iterator[torch.Tensor]:
        """Yield log-mels on the device, shape (batch, n_mels, n_frames)."""
        for first in range(0, len(self._log_mels), _BATCH):
            if should_stop():
                raise Interrupted("ranking was asked to stop")
            yield self._log_mels[first : first + _BATCH].to(self._device)


class _Clips:
    """Items as `Inputs` reads them, cut and resampled when they are asked for: a ranking needs few of a large dataset's."""

    def __init__(self, dataset: PackedDataset, features: FeatureConfig) -> None:
        self._dataset, self._features = dataset, features

    def __len__(self) -> int:
        return len(self._dataset)

    def batch(self, indices: NDArray[np.int64]) -> NDArray[np.int16]:
        """Return clips, int16, shape (len(indices), n_samples)."""
        return to_pcm16(clip_batch(self._dataset, indices, self._features))


class _Heard:
    """Keeps each layer's means while a network is at work: shape (batch, channels) a batch.

    Not of timm's networks, whose maps come with channels first or last as the architecture likes.
    """

    def __init__(self, network: Network) -> None:
        names = () if network.config.architecture.startswith(PREFIX) else network.backbone.layer_names()
        self.means: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
        self._hooks = [network.layer(name).register_forward_hook(self._keeper(name)) for name in names]

    def close(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()

    def _keeper(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], None]:
        return lambda _module, _inputs, output: self.means[name].append(_means(output))


def _means(output: torch.Tensor) -> NDArray[np.float32]:
    """Return the mean of each map, shape (batch, channels), of maps, shape (batch, channels, height, width); vectors as they are."""
    vectors: NDArray[np.float32] = (output.mean(dim=(2, 3)) if output.dim() == 4 else output).cpu().numpy()
    return vectors
