"""What an observer costs: a small CNN trains on MNIST-sized images with and without one, in turns.

    python benchmarks/callbacks.py                     # a look every 25 batches, and the end of an epoch
    python benchmarks/callbacks.py --probe 128         # more probe images

Two copies of the network train on the same batches. A turn is `--every` batches of one copy, then of the other, in random
order; the observed copy ends its turn with a look. Times are of the processor, so that other programs count less. The table
gives medians over the turns, and the share of the training time that looks and the ends of epochs of `--epoch` batches
take together. Last the weights of both copies are compared.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import featurelens as fl

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from reference.networks import MnistCNN


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that the processor spent on a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=64, help="images in a batch")
    parser.add_argument("--probe", type=int, default=64, help="probe images of the observer")
    parser.add_argument("--every", type=int, default=25, help="batches between looks")
    parser.add_argument("--epoch", type=int, default=938, help="batches in an epoch")
    parser.add_argument("--turns", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = torch.rand(4096, 1, 28, 28), torch.randint(10, (4096,))
    networks = dict.fromkeys(("alone", "observed"))
    networks["alone"] = MnistCNN()
    networks["observed"] = copy.deepcopy(networks["alone"])
    optimizers = {name: torch.optim.Adam(network.parameters()) for name, network in networks.items()}
    observer = fl.callbacks.Observer(
        networks["observed"],
        ["conv1", "conv2", "fc1"],
        images[: options.probe],
        labels[: options.probe],
        log=lambda values, step: None,
        every=options.every,
    )

    def train(name: str, turn: int) -> None:
        torch.manual_seed(turn)  # of the dropout
        for number in range(options.every):
            rows = torch.arange(options.batch) + (turn * options.every + number) * options.batch
            loss = nn.functional.cross_entropy(networks[name](images[rows % 4096]), labels[rows % 4096])
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()
            if name == "observed":
                observer.on_batch_end()

    times: dict[str, list[float]] = {"alone": [], "observed": []}
    ends = []
    for turn in range(options.turns + 1):
        for name in random.sample(sorted(networks), 2):
            seconds = timed(lambda name=name, turn=turn: train(name, turn))
            if turn:  # the first warms up, and has one more look
                times[name].append(seconds)
        ends.append(timed(observer.on_epoch_end))

    alone = statistics.median(times["alone"])
    looks = [observed / bare - 1 for bare, observed in zip(times["alone"], times["observed"], strict=True)]
    end = statistics.median(ends[1:])
    epoch = alone / options.every * options.epoch
    print(f"{options.every} batches of {options.batch}: {1e3 * alone:.0f} ms")
    print(f"with a look at {options.probe} images: {100 * statistics.median(looks):+.1f} %")
    print(f"end of an epoch: {1e3 * end:.0f} ms, {100 * end / epoch:+.2f} % of {options.epoch} batches")
    print(f"together: {100 * (statistics.median(looks) + end / epoch):.1f} % of the training time")
    weights = zip(*(network.state_dict().values() for network in networks.values()), strict=True)
    print("same weights:", all(torch.equal(one, other) for one, other in weights))


if __name__ == "__main__":
    main()
