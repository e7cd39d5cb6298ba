"""The variational autoencoder of study C and its training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from reference.training import FAST, TEST_BATCH, own_randomness

KL_WEIGHT = 1e-4
KL_EPOCHS = 10  # the weight rises to KL_WEIGHT over these


class VAE(nn.Module):
    """Images ``(N, C, H, W)`` in [0, 1] -> Gaussian codes ``(N, latent_dim)`` -> images; H and W are multiples of 4."""

    def __init__(self, channels: int, size: tuple[int, int], *, latent_dim: int = 512) -> None:
        super().__init__()
        if any(pixels % 4 for pixels in size):
            raise ValueError(f"height and width must be multiples of 4; got {size}")
        small = (128, size[0] // 4, size[1] // 4)
        self.latent_dim = latent_dim
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(math.prod(small), 2 * latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, math.prod(small)),
            nn.Unflatten(1, small),
            nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, channels, 3, padding=1),
            nn.Sigmoid(),
        )

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each image's latent code, each ``(N, latent_dim)``."""
        mean, spread = self.encoder(images).chunk(2, dim=1)
        return mean, F.softplus(spread) + 1e-6

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return images decoded from a sampled code (in eval mode its mean), the mean and the deviation."""
        mean, std = self.encode(images)
        code = mean + std * torch.randn_like(std) if self.training else mean
        return self.decoder(code), mean, std


@dataclass
class VAEHistory:
    """Cross-entropy (nats per pixel) and divergence (nats per image) of each epoch."""

    train_bce: list[float] = field(default_factory=list)
    train_kl: list[float] = field(default_factory=list)
    test_bce: list[float] = field(default_factory=list)
    test_kl: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.test_bce)

    def __repr__(self) -> str:
        last = f", test BCE {self.test_bce[-1]:.3f}, KL {self.test_kl[-1]:.0f} nats" if len(self) else ""
        return f"VAEHistory({len(self)} epochs{last}, {self.seconds:.0f} s)"

    def add(self, trained: tuple[float, float], tested: tuple[float, float]) -> None:
        for values, value in zip(
            (self.train_bce, self.train_kl, self.test_bce, self.test_kl), trained + tested, strict=True
        ):
            values.append(value)


def reconstruction_and_divergence(vae: VAE, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the binary cross-entropy per pixel and the divergence from the prior per image, in nats.

    KL(N(m, s^2) || N(0, 1)) = (m^2 + s^2 - 1 - 2 log s) / 2, summed over the code (Kingma & Welling 2014).
    """
    rebuilt, mean, std = vae(images)
    kl = 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).sum(1).mean()
    return F.binary_cross_entropy(rebuilt, images), kl


def fit_vae(
    vae: VAE,
    train: Tensor,
    test: Tensor,
    *,
    epochs: int,
    checkpoint: Path | None = None,
    lr: float = 1e-3,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> VAEHistory:
    """Minimize BCE + 1e-4 KL, with the KL weight rising over ten epochs; leave the model in eval mode.

    With a `checkpoint` every epoch is saved, and a later call resumes after the last one, with the same final
    weights as an uninterrupted run.
    """
    device = next(vae.parameters()).device
    vae.to(memory_format=FAST)
    train, test = train.to(device), test.to(device)
    optimizer = torch.optim.Adam(vae.parameters(), lr=lr)
    history = _resume(checkpoint, vae, optimizer) if checkpoint and checkpoint.exists() else VAEHistory()
    with tqdm(
        total=epochs, initial=len(history), desc="VAE", unit="epoch", disable=None if progress else True
    ) as bar:
        for epoch in range(len(history), epochs):
            start = time.perf_counter()
            with own_randomness(seed + epoch, device):
                order = torch.Generator().manual_seed(seed + epoch)
                trained = _train_epoch(vae, _shuffled(train, batch_size, order), _kl_weight(epoch), optimizer)
            history.add(trained, _evaluate(vae, test))
            history.seconds += time.perf_counter() - start
            if checkpoint:
                _keep(checkpoint, vae, optimizer, history)
            bar.update()
            bar.set_postfix(bce=f"{history.test_bce[-1]:.3f}", kl=f"{history.test_kl[-1]:.0f}")
            if progress and bar.disable:  # no terminal
                line = f"VAE epoch {epoch + 1}/{epochs}: test BCE {history.test_bce[-1]:.3f}"
                print(f"{line}, KL {history.test_kl[-1]:.0f}", flush=True)
    vae.to(memory_format=torch.contiguous_format)
    vae.eval()
    return history


def _shuffled(images: Tensor, size: int, order: torch.Generator) -> Iterator[Tensor]:
    for chosen in torch.randperm(len(images), generator=order).split(size):
        yield images[chosen.to(images.device)].contiguous(memory_format=FAST)


def _kl_weight(epoch: int) -> float:
    return KL_WEIGHT * min(1.0, (epoch + 1) / KL_EPOCHS)


def _train_epoch(
    vae: VAE, batches: Iterable[Tensor], kl_weight: float, optimizer: torch.optim.Optimizer
) -> tuple[float, float]:
    """Train one epoch; return means measured before each step."""
    vae.train()
    sums, images = torch.zeros(2), 0
    for batch in batches:
        bce, kl = reconstruction_and_divergence(vae, batch)
        optimizer.zero_grad()
        (bce + kl_weight * kl).backward()
        optimizer.step()
        sums += torch.stack([bce, kl]).detach().cpu() * len(batch)
        images += len(batch)
    bce, kl = (sums / images).tolist()
    return bce, kl


@torch.no_grad()
def _evaluate(vae: VAE, images: Tensor) -> tuple[float, float]:
    vae.eval()
    sums = sum(
        torch.stack(reconstruction_and_divergence(vae, batch)).cpu() * len(batch)
        for batch in images.split(TEST_BATCH)
    )
    bce, kl = (sums / len(images)).tolist()
    return bce, kl


def _keep(checkpoint: Path, vae: VAE, optimizer: torch.optim.Optimizer, history: VAEHistory) -> None:
    """Write a temporary file and rename it, so that a run killed while writing loses only one epoch."""
    beside = checkpoint.with_suffix(".partial")
    state = {"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "history": asdict(history)}
    torch.save(state, beside)
    beside.replace(checkpoint)


def _resume(checkpoint: Path, vae: VAE, optimizer: torch.optim.Optimizer) -> VAEHistory:
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    vae.load_state_dict(state["vae"])
    optimizer.load_state_dict(state["optimizer"])
    return VAEHistory(**state["history"])
