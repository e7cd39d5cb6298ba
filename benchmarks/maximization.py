"""Activation maximization compared with Lucent and horama: time per channel, scores, and recognition by a second network.

    python benchmarks/maximization.py                                  # trains two CIFAR-10 classifiers first
    python benchmarks/maximization.py --data my/cifar10 --keep nets    # saves them in nets/ and reuses them

The subject is a CNN with BatchNorm that classifies CIFAR-10 at 32x32. featurelens maximizes all 128 channels of its last
convolution for 256 steps. Peers optimize one image at a time, so they do only some of the channels; runs are
interleaved. Scores are the channel's mean activation on the finished image, and its mean over 32 new random shifts,
scales and rotations of that image. A second network, trained from another seed, classifies the class images. Peers come
from the `bench` dependency group; those not installed are skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import featurelens as fl

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from reference import CifarClassifier, Dataset, accuracy, fit, load, seeded

LAYER, CHANNELS, STEPS, SIZE = "conv3", 128, 256, 32
Images = dict[int, Tensor]  # by channel or class


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", default="cifar10", help="cifar10, or a folder: train/CLASS/IMAGE, test/CLASS/IMAGE"
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--epochs", type=int, default=10, help="epochs of the two classifiers")
    parser.add_argument("--keep", type=Path, default=Path("outputs/benchmark_networks"))
    parser.add_argument(
        "--rounds", type=int, default=4, help="number of rounds; peers optimize two channels in each"
    )
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds for the class images")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    model, judge = networks(options)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}")
    compare_channels(model, options)
    compare_classes(model, judge, options)
    compare_resnet(options)
    compare_step(model, options)
    first_layer(model)


def networks(options: argparse.Namespace) -> list[nn.Module]:
    """Train the subject and the judge, or load them from an earlier run."""
    options.keep.mkdir(parents=True, exist_ok=True)
    data: Dataset | None = None
    found: list[nn.Module] = []
    for role, seed in (("subject", 0), ("judge", 1)):
        kept = options.keep / f"{role}.pt"
        model = seeded(CifarClassifier, seed=seed).to(options.device)
        data = data or load(options.data, options.data_dir)
        if kept.exists():
            model.load_state_dict(torch.load(kept, weights_only=True))
        else:
            fit(model, data.train, data.test, epochs=options.epochs, seed=seed, anneal=True)
            torch.save(model.state_dict(), kept)
        print(f"{role}: {accuracy(model, data.test):.1%} of the test images")
        found.append(model.eval())
    return found


def ours(
    model: nn.Module, objectives: object, seed: int = 0, steps: int = STEPS, autocast: bool = False
) -> Tensor:
    maximizer = fl.ActivationMaximizer(
        model, fl.FourierImage((3, SIZE, SIZE)), steps=steps, seed=seed, autocast=autocast, progress=False
    )
    return maximizer.run(objectives).images  # type: ignore[arg-type]


def lucent(model: nn.Module, objective: str, seed: int, steps: int = STEPS, size: int = SIZE) -> Tensor:
    """Return Lucent's image ``(3, H, W)``, with its own transforms, but without upsampling to 224 and normalizing."""
    from lucent.optvis import param, render

    np.random.seed(seed)  # noqa: NPY002  its transforms use the global state
    torch.manual_seed(seed)
    made = render.render_vis(
        model,
        objective,
        lambda: param.image(size),
        thresholds=(steps,),
        preprocess=False,
        progress=False,
        show_image=False,
        fixed_image_size=size,
    )
    return torch.from_numpy(made[-1][0]).permute(2, 0, 1).float()


def horama(model: nn.Module, objective: str, seed: int, steps: int = STEPS) -> Tensor:
    """Return horama's Fourier image ``(3, H, W)``, with the value range and size of the subject."""
    from horama import fourier

    layer, number = objective.split(":")
    found: list[Tensor] = []
    handle = model.get_submodule("fc2" if layer == "labels" else layer).register_forward_hook(
        lambda module, inputs, output: found.append(output)
    )

    def score(images: Tensor) -> Tensor:
        found.clear()
        model(images)
        return found[0][:, int(number)].mean()

    torch.manual_seed(seed)
    try:
        image, _ = fourier(
            score,
            total_steps=steps,
            image_size=SIZE,
            model_input_size=SIZE,
            values_range=(0, 1),
            device=str(next(model.parameters()).device),
        )
    finally:
        handle.remove()
    return image.detach().cpu()


PEERS: dict[str, Callable[..., Tensor]] = {"lucent": lucent, "horama": horama}


def installed() -> list[str]:
    return [name for name in PEERS if importlib.util.find_spec(name)]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.perf_counter()
    with silence():
        images = run()
    return time.perf_counter() - start, images


@torch.no_grad()
def scores(model: nn.Module, images: Images) -> tuple[float, float]:
    """Return the mean activation, averaged over channels, on the images and on transformed ones."""
    clean, changed = [], []
    for number, image in images.items():
        stack = torch.stack([image, *perturbed(image)]).to(next(model.parameters()).device)
        values = fl.ActivationRecorder(model, LAYER)(stack)[LAYER][:, number].mean((1, 2))
        clean.append(float(values[0]))
        changed.append(float(values[1:].mean()))
    return float(np.mean(clean)), float(np.mean(changed))


def roughness(images: Images) -> float:
    """Return the root mean square of the discrete Laplacian: how much fine detail the images have."""
    stack = torch.stack([image.cpu() for image in images.values()])
    padded = nn.functional.pad(stack, (1, 1, 1, 1), mode="replicate")
    around = padded[..., 2:, 1:-1] + padded[..., :-2, 1:-1] + padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2]
    return float((around - 4 * stack).square().mean().sqrt())


def perturbed(image: Tensor) -> list[Tensor]:
    """Return 32 versions of an image, made by torchvision: shifted by up to 2 pixels, scaled by 5 %, rotated by 5 degrees."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import affine

    random = np.random.default_rng(0)
    return [
        affine(
            image,
            angle=float(random.uniform(-5, 5)),
            translate=[int(shift) for shift in random.integers(-2, 3, size=2)],
            scale=float(random.uniform(0.95, 1.05)),
            shear=[0.0],
            interpolation=InterpolationMode.BILINEAR,
            fill=[0.5],
        )
        for _ in range(32)
    ]


def compare_channels(model: nn.Module, options: argparse.Namespace) -> None:
    """Time all channels in one batch, and peers' channels one by one; score the images."""
    some = [int(number) for number in np.linspace(0, CHANNELS - 1, 2 * options.rounds)]
    seconds: dict[str, list[float]] = {}
    made: dict[str, Images] = {}
    runs = {
        "featurelens": lambda: ours(model, LAYER),
        "featurelens, autocast": lambda: ours(model, LAYER, autocast=True),
    }
    with silence():
        for run in (lambda: ours(model, LAYER, steps=4), lambda: ours(model, LAYER, steps=4, autocast=True)):
            run()  # warm up
        for name in installed():
            PEERS[name](model, f"{LAYER}:0", 0, steps=4)
    for round_ in range(options.rounds):
        for name, run in runs.items():
            taken, images = timed(run)
            seconds.setdefault(name, []).append(taken / CHANNELS)
            made[name] = dict(enumerate(images))
        for name in installed():
            for number in some[2 * round_ : 2 * round_ + 2]:
                taken, image = timed(
                    lambda name=name, number=number: PEERS[name](model, f"{LAYER}:{number}", number)
                )
                seconds.setdefault(name, []).append(taken)
                made.setdefault(name, {})[number] = image
    print(
        f"\n{CHANNELS} channels of {LAYER}, {STEPS} steps at {SIZE}x{SIZE}; peers: {len(some)} of the channels"
    )
    print(
        f"{'':26}{'s per channel':>14}{'faster than':>14}{'score':>8}{'changed':>9}{'roughness':>11}{'all 128':>9}"
    )
    slowest = "lucent" if "lucent" in seconds else None
    for name, taken in seconds.items():
        same = {number: made[name][number] for number in some}
        clean, changed = scores(model, same)
        factor = f"{np.median(seconds[slowest]) / np.median(taken):.1f}x lucent" if slowest else ""
        whole = f"{scores(model, made[name])[0]:9.2f}" if len(made[name]) == CHANNELS else ""
        print(
            f"{name:26}{np.median(taken):14.3f}{factor:>14}{clean:8.2f}{changed:9.2f}{roughness(same):11.2f}{whole}"
        )
    if slowest:
        time_to_score(model, some, scores(model, made[slowest])[0], float(np.median(seconds[slowest])))


def time_to_score(model: nn.Module, some: list[int], target: float, peer: float) -> None:
    """Print the number of steps to reach the peer's score, and their time."""
    for steps in (4, 8, 16, 32, 64, 128, 256):
        taken, images = timed(lambda steps=steps: ours(model, LAYER, steps=steps))
        reached, _ = scores(model, {number: images[number] for number in some})
        if reached >= target:
            print(
                f"to lucent's score of {target:.2f}: {steps} steps give {reached:.2f}, "
                f"{taken / CHANNELS:.4f} s per channel, {peer / (taken / CHANNELS):.0f}x faster"
            )
            return
    print(f"lucent's score of {target:.2f} was not reached in 256 steps")


@torch.no_grad()
def recognised(judge: nn.Module, images: Images) -> tuple[int, float]:
    stack = torch.stack(list(images.values())).to(next(judge.parameters()).device)
    probabilities = judge(stack).softmax(1).cpu()
    wanted = torch.tensor(list(images))
    return int((probabilities.argmax(1) == wanted).sum()), float(
        probabilities[range(len(wanted)), wanted].mean()
    )


def compare_classes(model: nn.Module, judge: nn.Module, options: argparse.Namespace) -> None:
    """Let the second network classify each library's class images."""
    print(
        f"\nten class scores, {options.seeds} seeds: recognised by a second network, and its mean probability"
    )
    objectives = [fl.objectives.logit(number) for number in range(10)]
    for name in ("featurelens", *installed()):
        found = []
        for seed in range(options.seeds):
            with silence():
                images = (
                    ours(model, objectives, seed)
                    if name == "featurelens"
                    else [
                        PEERS[name](model, f"labels:{k}" if name == "horama" else f"fc2:{k}", 10 * seed + k)
                        for k in range(10)
                    ]
                )
            found.append(recognised(judge, dict(enumerate(images))))
        right, probability = (sum(values) for values in zip(*found, strict=True))
        print(f"{name:26}{f'{right} of {10 * options.seeds}':>14}{probability / options.seeds:8.2f}")


def compare_resnet(options: argparse.Namespace) -> None:
    """Time ResNet-18 at 224x224, where the network takes most of the time for every library."""
    from torchvision.models import resnet18

    model = seeded(lambda: resnet18(weights=None)).to(options.device).eval()
    layer, channels, steps = "layer3.0.conv1", 8, 16
    maximizer = fl.ActivationMaximizer(model, fl.FourierImage((3, 224, 224)), steps=steps, progress=False)
    objectives = [fl.objectives.channel(layer, number) for number in range(channels)]
    taken = {"featurelens": [], "lucent": []} if "lucent" in installed() else {"featurelens": []}
    for _ in range(2):
        taken["featurelens"].append(timed(lambda: maximizer.run(objectives).images)[0] / channels)
        if "lucent" in taken:
            taken["lucent"].append(
                timed(lambda: lucent(model, f"{layer.replace('.', '_')}:0", 0, steps, 224))[0]
            )
    print(f"\nResNet-18 at 224x224, {layer}, {steps} steps: seconds per channel")
    for name, values in taken.items():
        print(f"{name:26}{min(values):14.3f}")


def first_layer(model: nn.Module) -> None:
    """Score the first layer's channels beside those of images whose pixels are optimized one by one."""
    kinds = (fl.FourierImage((3, SIZE, SIZE)), fl.PixelImage((3, SIZE, SIZE)))
    ours, pixels = (fl.ActivationMaximizer(model, kind, progress=False).run("conv1").scores for kind in kinds)
    share = ours / pixels
    print(
        f"\nfirst layer: FourierImage's mean score is {float(ours.mean() / pixels.mean()):.2f} of PixelImage's; "
        f"{int((share >= 0.97).sum())} of {len(share)} channels reach .97"
    )


def compare_step(model: nn.Module, options: argparse.Namespace, rounds: int = 9) -> None:
    """Time a step beside a hand-written forward and backward pass of the same network, batch and type."""
    from torchvision.models import resnet18

    larger = seeded(lambda: resnet18(weights=None)).to(options.device).eval()
    print("\na step as a multiple of a hand-written forward and backward pass, median (and quartiles)")
    for name, network, layer, size, batch, steps in (
        ("classifier", model, LAYER, SIZE, 64, 24),
        ("ResNet-18", larger, "layer3.0.conv1", 224, 8, 3),
    ):
        objectives = [fl.objectives.channel(layer, number) for number in range(batch)]
        ratios = []
        for round_ in range(rounds + 1):
            taken = step_time(network, objectives, size, steps) / by_hand(network, layer, size, batch, steps)
            if round_:  # the first warms up
                ratios.append(taken)
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        print(f"{name:26}{middle:14.2f} ({low:.2f} to {high:.2f}), {batch} images of {size}x{size}")


def step_time(model: nn.Module, objectives: list[fl.Objective], size: int, steps: int) -> float:
    """Return the seconds of one step: what `steps` more of them add to a run."""
    image, seconds = fl.FourierImage((3, size, size)), []
    for number in (1, 1 + steps):
        maximizer = fl.ActivationMaximizer(
            model, image, steps=number, redirect_relu=0, chunk=len(objectives), progress=False
        )
        seconds.append(timed(lambda maximizer=maximizer: maximizer.run(objectives).images)[0])
    return (seconds[1] - seconds[0]) / steps


def by_hand(model: nn.Module, layer: str, size: int, batch: int, steps: int) -> float:
    """Return the seconds of one forward pass up to a layer and the backward pass to the images."""
    found: list[Tensor] = []
    module = model.get_submodule(layer)

    class Stop(Exception):
        pass

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        found.append(output)
        raise Stop

    images = torch.rand(batch, 3, size, size, device=next(model.parameters()).device)
    images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    handle = module.register_forward_hook(keep)
    for parameter in wanted:
        parameter.requires_grad_(False)
    start = time.perf_counter()
    try:
        for _ in range(steps):
            found.clear()
            with contextlib.suppress(Stop):
                model(images)
            value = found[0][range(batch), range(batch)].mean((1, 2)).sum()
            torch.autograd.grad(value, [images])
        if images.is_cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / steps
    finally:
        handle.remove()
        for parameter in wanted:
            parameter.requires_grad_(True)


if __name__ == "__main__":
    main()
