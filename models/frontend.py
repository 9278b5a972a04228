"""Log-mel features as a torch module: for training, and, without complex numbers, for the exported graph.

The definition and every constant are models/features.py's; a test holds the twins together.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.config import FeatureConfig
from models.features import LOG_FLOOR, fft_size, folded_dft, hann_window, hop_samples, mel_filters, padding, window_samples


class LogMel(nn.Module):
    """Waveforms, shape (batch, n_samples), -1 to 1 → log-mel features, shape (batch, n_mels, 1 + n_samples // hop)."""

    def __init__(self, config: FeatureConfig, *, exportable: bool = False) -> None:
        """`exportable` takes a matrix product in place of the Fourier transform, which ONNX runtimes lack or run slowly."""
        super().__init__()
        self.padding = padding(config)
        self.window_samples, self.hop_samples, self.fft_size = window_samples(config), hop_samples(config), fft_size(config)
        self.exportable = exportable
        # Not part of the weights: they follow from the configuration.
        self.register_buffer("filters", torch.tensor(mel_filters(config)), persistent=False)
        if exportable:
            cosines, sines = folded_dft(config)
            self.register_buffer("cosines", torch.tensor(cosines), persistent=False)
            self.register_buffer("sines", torch.tensor(sines), persistent=False)
        else:
            self.register_buffer("window", torch.tensor(hann_window(config)), persistent=False)

    filters: Tensor
    window: Tensor
    cosines: Tensor
    sines: Tensor

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return log-mel features, shape (batch, n_mels, n_frames); float32 whatever autocast says, as energies span 10 decades."""
        with torch.autocast(waveforms.device.type, enabled=False):
            padded = functional.pad(waveforms.float(), (self.padding, self.padding))
            power: Tensor = self._power_by_products(padded) if self.exportable else self._power_by_fft(padded)
            mel = torch.matmul(self.filters, power.transpose(1, 2))
            features: Tensor = torch.log(mel + LOG_FLOOR)
            return features

    def _power_by_fft(self, padded: Tensor) -> Tensor:
        """Return the power spectrum, shape (batch, n_frames, bins)."""
        frames = padded.unfold(1, self.window_samples, self.hop_samples) * self.window
        spectrum: Tensor = torch.fft.rfft(frames, n=self.fft_size)
        power: Tensor = spectrum.real.square() + spectrum.imag.square()
        return power

    def _power_by_products(self, padded: Tensor) -> Tensor:
        """Return the power spectrum, shape (batch, n_frames, bins).

        A frame is folded about its centre, which takes half the products of the plain transform matrix.
        """
        frames = self._frames_by_slices(padded)
        half = self.window_samples // 2
        right, left = frames[..., half:], frames[..., 1 : half + 1].flip(-1)
        real, imaginary = torch.matmul(right + left, self.cosines), torch.matmul(right - left, self.sines)
        return real * real + imaginary * imaginary

    def _frames_by_slices(self, padded: Tensor) -> Tensor:
        """Return the frames, shape (batch, n_frames, window_samples), from hop-long blocks laid side by side."""
        blocks_a_frame = -(-self.window_samples // self.hop_samples)
        n_frames = (padded.shape[1] - self.window_samples) // self.hop_samples + 1
        n_blocks = n_frames + blocks_a_frame - 1
        missing = n_blocks * self.hop_samples - padded.shape[1]
        blocks = functional.pad(padded, (0, missing)).reshape(-1, n_blocks, self.hop_samples)
        frames = torch.cat([blocks[:, k : k + n_frames] for k in range(blocks_a_frame)], dim=2)
        return frames[..., : self.window_samples]
