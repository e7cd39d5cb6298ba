"""Record every module of every model that torchvision lists, and compare with hand-written hooks.

    python benchmarks/model_coverage.py                  # all models, random weights, smallest valid input
    python benchmarks/model_coverage.py resnet18 vit_b_16

The table answers four questions for each model. Does `backend="hooks"` record exactly what hand-written hooks do, for
every call of every module that forward reaches? Is the model unchanged afterwards? Can `backend="rewrite"` trace the
model and record the same for its leaf modules? Can torchvision's own FX extractor trace it?
"""

from __future__ import annotations

import argparse
import gc
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models.feature_extraction import get_graph_node_names

import featurelens as fl
from featurelens._structure import tensors

# The smallest input of families that do not accept 64 x 64.
SIZES = {
    "alexnet": 63,
    "inception_v3": 75,
    "vit_": 224,
    "vit_h_14": 224,
    "maxvit": 224,
    "squeezenet": 32,
    "raft": 128,
}
VIDEO = {"mvit_v1_b": (16, 224), "mvit_v2_s": (16, 224), "swin3d": (4, 64), "s3d": (16, 224)}


def sample(name: str) -> tuple[Any, ...]:
    """Return inputs for the model."""
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    builder = torchvision.models.get_model_builder(name).__module__
    if ".detection." in builder:
        return ([rand(3, 96, 96)],)
    if ".optical_flow." in builder:
        return rand(1, 3, 128, 128), rand(1, 3, 128, 128)
    if ".video." in builder:
        frames, size = next((value for key, value in VIDEO.items() if name.startswith(key)), (4, 64))
        return (rand(1, 3, frames, size, size),)
    size = next((value for key, value in SIZES.items() if name.startswith(key)), 64)
    return (rand(1, 3, size, size),)


@contextmanager
def small_detection_inputs(model: nn.Module) -> Iterator[None]:
    """Stop detection models from enlarging the image to 800 pixels."""
    transform = getattr(model, "transform", None)
    if transform is not None and hasattr(transform, "min_size"):
        transform.min_size, transform.max_size = (96,), 128
    yield


def by_hand(model: nn.Module, inputs: tuple[Any, ...]) -> dict[str, list[list[torch.Tensor]]]:
    """Return the calls of each module, each as a list of copies of the returned tensors."""
    found: dict[str, list[list[torch.Tensor]]] = {}

    def hook_for(name: str) -> Any:
        return lambda module, args, output: found.setdefault(name, []).append(
            [t.clone() for t in tensors(output)]
        )

    handles = [module.register_forward_hook(hook_for(name)) for name, module in model.named_modules() if name]
    with torch.no_grad():
        torch.manual_seed(0)
        model(*inputs)
    for handle in handles:
        handle.remove()
    return found


def differences(acts: fl.Activations, expected: dict[str, list[list[torch.Tensor]]]) -> list[str]:
    """Return the names whose recording differs from the hand-written hooks."""
    keys = {
        (name if len(calls) == 1 else f"{name}#{number}"): call
        for name, calls in expected.items()
        for number, call in enumerate(calls, 1)
    }
    if set(keys) != set(acts):
        return sorted(set(keys) ^ set(acts))
    return [key for key, call in keys.items() if not same(list(tensors(acts[key])), call)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in pairs)


def fingerprint(model: nn.Module) -> list[Any]:
    """Return a quick summary of everything that recording could change: hooks, modes, attributes, buffers."""
    return [
        (
            len(m._forward_hooks),
            len(m._forward_pre_hooks),
            m.training,
            tuple(vars(m)),
            [b.sum() for b in m.buffers(False)],
        )
        for m in model.modules()
    ]


def check(name: str) -> dict[str, str]:
    """Return "" (yes) or the reason why not, for each question about one model."""
    torch.manual_seed(0)
    arguments = (
        {"weights_backbone": None} if name.startswith(("fcn", "deeplab", "lraspp")) or "rcnn" in name else {}
    )
    if any(part in name for part in ("retinanet", "ssd", "fcos")):
        arguments = {"weights_backbone": None}
    model = torchvision.models.get_model(name, weights=None, **arguments).eval()
    inputs = sample(name)
    answers: dict[str, str] = {}
    with small_detection_inputs(model):
        expected = by_hand(model, inputs)
        before = fingerprint(model)
        torch.manual_seed(0)
        answers["hooks"] = attempt(lambda: fl.ActivationRecorder(model, list(expected))(*inputs), expected)
        answers["state"] = "" if fingerprint(model) == before else "model changed"
        leaves = {
            layer: calls
            for layer, calls in expected.items()
            if not list(model.get_submodule(layer).children())
        }
        torch.manual_seed(0)
        answers["rewrite"] = attempt(
            lambda: fl.ActivationRecorder(model, list(leaves), backend="rewrite")(*inputs), leaves
        )
        answers["torchvision FX"] = attempt(lambda: get_graph_node_names(model), None)
    return answers


def attempt(record: Any, expected: Any) -> str:
    try:
        acts = record()
    except Exception as error:  # noqa: BLE001  the table shows any error
        return f"{type(error).__name__}: {str(error).splitlines()[0][:100]}"
    wrong = differences(acts, expected) if expected is not None else []
    return f"{len(wrong)} layers differ: {wrong[:2]}" if wrong else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", help="model names as listed by torchvision; default: all")
    names = parser.parse_args().models or [
        n for n in torchvision.models.list_models() if "quantized" not in n
    ]
    reached: dict[str, list[str]] = {}
    start = time.perf_counter()
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = check(name)
        for question, reason in answers.items():
            reached.setdefault(question, [])
            if not reason:
                reached[question].append(name)
        missed = "; ".join(f"{question}: {reason}" for question, reason in answers.items() if reason)
        print(f"{name:36} {missed or 'all'}", flush=True)
        gc.collect()
    print(f"\n{len(names)} models in {time.perf_counter() - start:.0f} s")
    for question, good in reached.items():
        print(f"{question:16} {len(good)} of {len(names)}")
    beyond = sorted(set(reached["torchvision FX"]) - set(reached["rewrite"]))
    print(f"traced by torchvision FX but not by the rewrite backend: {', '.join(beyond) or 'none'}")


if __name__ == "__main__":
    main()
