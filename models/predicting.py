"""A network's answers for many items, batch by batch."""

import numpy as np
import torch
from numpy.typing import NDArray

from models.frontend import LogMel
from models.inputs import Inputs
from models.network import Network

_BATCH = 256


@torch.no_grad()
def predict_items(network: Network, inputs: Inputs, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return probabilities, shape (n, classes), for items `indices`, shape (n,), in float32 as serving computes them."""
    batches = np.array_split(indices, -(-len(indices) // _BATCH))
    probabilities: NDArray[np.float32] = torch.cat([network.probabilities_of(inputs.clean(batch)).cpu() for batch in batches]).numpy()
    return probabilities


@torch.no_grad()
def logits_of(network: Network, inputs: Inputs, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return logits, shape (n, classes), for items `indices`, shape (n,), float32."""
    batches = np.array_split(indices, -(-len(indices) // _BATCH))
    logits: NDArray[np.float32] = torch.cat([network(inputs.clean(batch)).cpu() for batch in batches]).numpy()
    return logits


@torch.no_grad()
def predict_sounds(network: Network, sounds: torch.Tensor) -> NDArray[np.float32]:
    """Return probabilities, shape (n, classes), of waveforms, shape (n, clip_samples), -1 to 1 at the network's rate, wherever they are."""
    device = network.mean.device
    log_mel = LogMel(network.config.features).to(device)
    parts = [network.probabilities_of(log_mel.forward(batch.to(device))).cpu() for batch in torch.split(sounds, _BATCH)]
    probabilities: NDArray[np.float32] = torch.cat(parts).numpy()
    return probabilities


@torch.no_grad()
def embed_items(network: Network, inputs: Inputs, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the pooled vectors, shape (n, features), of items `indices`, shape (n,), float32."""
    batches = np.array_split(indices, -(-len(indices) // _BATCH))
    parts = [network.features_of(inputs.clean(batch)).cpu() for batch in batches]
    vectors: NDArray[np.float32] = torch.cat(parts).numpy()
    return vectors
