"""From prepared items to what a network takes: on the training device, in batches, changed at random or as they are."""

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from models.augment import augment_features, augment_pictures, augment_waveforms
from models.config import AugmentationConfig, FeatureConfig, Modality, Normalization
from models.features import hop_samples
from models.frontend import LogMel
from models.selection import spaced
from models.unknowns import noises, other_words

_STATISTICS_ITEMS = 4096  # the error of a mean over so many items is 1.6 % of their spread, far below what matters
_STATISTICS_BATCH = 128
_NOISES_A_CLIP, _WORDS_A_CLIP = 1 / 8, 3 / 4  # unknown sounds in training; what shares were tried is told at `with_unknowns`
# What hardly varies in training (empty bands above an 8 kHz recording's limit) must not be blown up when it does in use.
_LEAST_STD = {"audio": 0.5, "image": 0.02}  # in natural log of energy; in 0..1 of brightness


class Items(Protocol):
    """What training reads from: prepared clips, int16 (n_samples,), or pictures, uint8 (side, side, 3)."""

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def batch(self, indices: NDArray[np.int64], /) -> NDArray[Any]:
        """Return items stacked, shape (len(indices), n_samples) int16 or (len(indices), side, side, 3) uint8."""
        ...


class DeviceItems:
    """Items on their way to the device: kept there as a whole where a third of its free memory holds them."""

    def __init__(self, items: Items, device: torch.device) -> None:
        """Upload right away where that pays: on CUDA, in place of a copy over the bus at each step."""
        self._items = items
        self._device = device
        self._resident = self._upload() if len(items) and self._fits() else None

    def batch(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """Return items stacked on the device, shape and type as `Items.batch` returns them."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(indices).to(self._device)]
        return torch.from_numpy(np.ascontiguousarray(self._items.batch(indices))).to(self._device)

    def _fits(self) -> bool:
        if self._device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self._device)
        return self._items.batch(np.zeros(1, dtype=np.int64)).nbytes * len(self._items) <= free / 3

    def _upload(self) -> torch.Tensor:
        chunks = np.array_split(np.arange(len(self._items)), -(-len(self._items) // 4096))
        return torch.cat([torch.from_numpy(np.ascontiguousarray(self._items.batch(chunk))).to(self._device) for chunk in chunks])


class Inputs:
    """Network inputs by item number: log-mels, shape (batch, n_mels, n_frames), or pictures, shape (batch, 3, side, side), float32."""

    def __init__(self, items: Items, modality: Modality, features: FeatureConfig, *, device: torch.device | str = "cpu") -> None:
        """`items` are clips for audio, pictures for image, in the lengths and sizes that `features` (resolved) asks for."""
        self._items = DeviceItems(items, torch.device(device))
        self._sample_rate, self._hop_seconds = features.sample_rate, hop_samples(features) / features.sample_rate
        self._log_mel = LogMel(features).to(device) if modality == "audio" else None

    @torch.no_grad()
    def clean(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """Return inputs as validation, test and serving see them; `indices` has shape (batch,)."""
        floats = to_floats(self._items.batch(indices))
        return floats if self._log_mel is None else self._log_mel.forward(floats)

    @torch.no_grad()
    def augmented(self, indices: NDArray[np.int64], config: AugmentationConfig, generator: torch.Generator) -> torch.Tensor:
        """Return inputs changed at random as `config` (resolved) says; `indices` has shape (batch,), `generator` is on the CPU."""
        floats = to_floats(self._items.batch(indices))
        if self._log_mel is None:
            return augment_pictures(floats, config, generator)
        waveforms = augment_waveforms(floats, config, self._sample_rate, generator)
        return augment_features(self._log_mel.forward(waveforms), config, self._hop_seconds, generator)

    @torch.no_grad()
    def unknown(
        self, indices: NDArray[np.int64], truth: torch.Tensor, config: AugmentationConfig, generator: torch.Generator
    ) -> torch.Tensor:
        """Return log-mels of sounds that are no label's, seven for eight of `indices`, shape (batch,), made of those clips and of noise.

        `truth`, shape (batch,), has their labels. Other words change at random as clips do; noise is varied enough. Sounds only.
        """
        assert self._log_mel is not None, "pictures have no unknown sounds"
        clips = to_floats(self._items.batch(indices))
        noise, count = (max(1, int(len(indices) * share)) for share in (_NOISES_A_CLIP, _WORDS_A_CLIP))
        words = other_words(clips.cpu(), truth.cpu(), count, generator)
        words = augment_waveforms(words, config, self._sample_rate, generator)
        sounds = torch.cat([words, noises(noise, clips.shape[1], self._sample_rate, generator)])
        return augment_features(self._log_mel.forward(sounds.to(clips.device)), config, self._hop_seconds, generator)


def with_unknowns(inputs: torch.Tensor, targets: torch.Tensor, unknown: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Join inputs, shape (batch, …), their targets, shape (batch, classes), and unknown inputs, whose target is every label alike.

    Outlier exposure (Hendrycks et al. 2019, arXiv 1812.04606); accuracy stays as it was. How many are worth it, as right answers lost (in
    points) where 5 % of ten words pass that were never heard, 40 clips a word, two draws of the words: one for two clips 20.4 and 9.5,
    seven for eight 14.6 and 7.0, thirteen for eight 18.9 and 6.4. A step takes 1.3 times as long as with one for two, 1.9 as with none.
    Words by formula among them did not help (25.9 and 9.8), nor did stretched ones (20.4 and 8.0), nor halves of words (21.2 and 9.0).
    """
    classes = targets.shape[1]
    return torch.cat([inputs, unknown]), torch.cat([targets, targets.new_full((len(unknown), classes), 1 / classes)])


def to_floats(batch: torch.Tensor) -> torch.Tensor:
    """Return clips, shape (batch, n_samples), as float32 -1..1; or pictures (batch, side, side, 3) as (batch, 3, side, side), 0..1."""
    if batch.dtype == torch.int16:
        return batch.float() / 32768
    return batch.permute(0, 3, 1, 2).float() / 255


def compute_normalization(
    items: Items, indices: NDArray[np.int64], modality: Modality, features: FeatureConfig, *, device: torch.device | str = "cpu"
) -> Normalization:
    """Return mean and standard deviation of the items `indices`, shape (n,): a mel band (sounds) or a colour channel (pictures).

    Takes up to 4096 items, evenly spaced. Only training items belong in `indices`. The deviation has a floor, see `_LEAST_STD`.
    """
    chosen = spaced(indices, _STATISTICS_ITEMS)
    inputs = Inputs(items, modality, features, device=device)
    axes = (0, 2) if modality == "audio" else (0, 2, 3)
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for part in np.array_split(chosen, -(-len(chosen) // _STATISTICS_BATCH)):
        values = inputs.clean(part).double()
        count += values.numel() // values.shape[1]
        total = total + values.sum(axes).cpu()
        squares = squares + values.square().sum(axes).cpu()
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=_LEAST_STD[modality])
    return Normalization(mean=tuple(mean.float().tolist()), std=tuple(std.float().tolist()))
