"""A fine-tune as a script: the peers' network on random log-mels, torch's own threads, until killed; a line when it has begun."""

import argparse
from pathlib import Path

import torch
from common import TorchModel
from torch import nn

_BATCH = 32


def main() -> None:
    """Train for ever."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--artifact", type=Path, required=True)
    model = TorchModel(parser.parse_args().artifact)
    network = nn.Sequential(model.backbone, model.head).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    step = 0
    while True:
        loss = nn.functional.cross_entropy(network(torch.randn(_BATCH, 1, 64, 101)), torch.randint(0, len(model.labels), (_BATCH,)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step == 1:
            print("training", flush=True)


if __name__ == "__main__":
    main()
