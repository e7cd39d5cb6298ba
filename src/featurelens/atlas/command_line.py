"""The command line: ``featurelens layers``, ``record``, ``atlas`` and ``compare``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from featurelens._checks import describe, first_line, listing
from featurelens._structure import first_tensor
from featurelens.atlas.atlas import Atlas
from featurelens.atlas.comparing import PARTNERS, compare_atlases
from featurelens.layers import list_layers
from featurelens.recording import ActivationRecorder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which the models of torchvision expect, and most others."""

CHECKPOINT = ("state_dict", "model_state_dict", "model")
"""Where checkpoints hold a state dict."""

EXAMPLES = """examples:
  featurelens layers torchvision:resnet18
  featurelens atlas my_module:make_model --weights w.pt --images photos/ --layers "layer*" --out atlas
  featurelens record timm:vit_tiny_patch16_224 --images photos/ --layers "blocks.*" --out store
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, or 1 with one line on standard error."""
    given = parser().parse_args(arguments)
    try:
        given.run(given)
    except KeyboardInterrupt:
        print("featurelens: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, ImportError) as error:
        print(f"featurelens: {first_line(error)}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="featurelens",
        description="Look inside a PyTorch network.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"featurelens {version('featurelens')}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("layers", _layers, "print the table of a network's layers"),
        ("record", _record, "record layers over a folder of images"),
        ("atlas", _atlas, "build a site with a page for every channel"),
        ("compare", _compare, "show two atlases side by side"),
    ):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.set_defaults(run=run)
        if name == "compare":
            _add_atlases(command)
            continue
        _add_network(command)
        if name == "layers":
            command.add_argument(
                "--channels", type=int, default=3, help="channels of the images (default: 3)"
            )
            continue
        _add_images(command)
        if name == "atlas":
            _add_work(command)
    return top


def _add_network(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "model", help="MODULE:FUNCTION that returns the network, torchvision:NAME or timm:NAME"
    )
    command.add_argument("--weights", type=Path, help="file of a state dict")
    command.add_argument("--size", type=int, default=224, help="edge of the images in pixels (default: 224)")


def _add_images(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--images", type=Path, required=True, help="folder of images, or of one folder a class"
    )
    command.add_argument(
        "--layers", nargs="+", help="names or patterns, such as 'layer*' (default: all with weights)"
    )
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.add_argument("--batch-size", type=int, default=32, help="images in a batch (default: 32)")
    command.add_argument("--grey", action="store_true", help="images of one channel; needs --plain")
    command.add_argument(
        "--plain", action="store_true", help="give the network images in [0, 1], not normalized"
    )


def _add_work(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--steps", type=int, default=128, help="optimization steps (default: 128; 0: no images)"
    )
    command.add_argument(
        "--ablation", type=int, default=256, help="images for ablation (default: 256; 0: none)"
    )
    command.add_argument("--title", help="name of the network on the pages")


def _add_atlases(command: argparse.ArgumentParser) -> None:
    command.add_argument("one", type=Path, help="folder of an atlas")
    command.add_argument("other", type=Path, help="folder of another atlas of the same images")
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.add_argument(
        "--partners", choices=PARTNERS, default="number", help="how channels are paired (default: number)"
    )


def load_model(name: str, weights: Path | None, *, pretrained: bool = True) -> nn.Module:
    """Return the network that a command names, with `weights` from a file, or those of its library if `pretrained`.

    Raises
    ------
    ValueError, ImportError
        If there is none of this name, or its weights do not fit.
    """
    source, separator, what = name.partition(":")
    if not separator or not what:
        raise ValueError(f"a network is named MODULE:FUNCTION, torchvision:NAME or timm:NAME; got {name!r}")
    if source == "torchvision":
        from torchvision.models import get_model

        model: Any = get_model(what, weights="DEFAULT" if pretrained and weights is None else None)
    elif source == "timm":
        model = importlib.import_module("timm").create_model(what, pretrained=pretrained and weights is None)
    else:
        sys.path.insert(0, "")
        module = importlib.import_module(source.removesuffix(".py"))
        if not callable(getattr(module, what, None)):
            raise ValueError(f"module {source!r} has no function {what!r}")
        model = getattr(module, what)()
    if not isinstance(model, nn.Module):
        raise TypeError(f"{name} must return a torch.nn.Module; got {type(model).__name__}")
    if weights is not None:
        _load(model, weights)
    return model.eval()


def _load(model: nn.Module, file: Path) -> None:
    """Load the weights in a file, where a wrapper may have put something before all names, or tell what differs."""
    state, first = _state_dict(file), next(iter(model.state_dict()), "")
    if first not in state:  # as of DataParallel, torch.compile or a LightningModule
        prefix = next((name.removesuffix(first) for name in state if name.endswith(f".{first}")), "")
        state = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    try:
        lacks, unknown = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # a shape differs, as the second line says
        differs = [" ".join(str(error).split("\n")[1:2]).strip() or first_line(error)]
    else:
        differs = [f"they lack {listing(lacks, most=3)}"] if lacks else []
        differs += [f"it has no {listing(unknown, most=3)}"] if unknown else []
    if differs:
        raise ValueError(f"the weights in {file} are not those of this network: {'; '.join(differs)}")


def _state_dict(file: Path) -> Mapping[str, Any]:
    """Return the state dict in a file, or in a checkpoint under a usual name."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  torch.load raises almost anything about a file of another kind
        raise ValueError(
            f"{file} holds no state dict ({type(error).__name__}): write one by torch.save(model.state_dict(), ...)"
        ) from None
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise ValueError(f"{file} holds no state dict: it is {describe(state)}")
    named: Mapping[str, Any] = next(
        (state[name] for name in CHECKPOINT if isinstance(state.get(name), Mapping)), state
    )
    return named


def _layers(given: argparse.Namespace) -> None:
    sample = torch.rand(1, given.channels, given.size, given.size)
    print(list_layers(load_model(given.model, given.weights, pretrained=False), sample))


def _record(given: argparse.Namespace) -> None:
    model, (loader, _) = load_model(given.model, given.weights), _images(given)
    recorder = ActivationRecorder(model, given.layers or "*")
    normalized = normalization(model)
    inputs = None if given.plain else (lambda batch: normalized(first_tensor(batch)))
    store = recorder.record(loader, to=given.out, resume=given.out.exists(), inputs=inputs)
    print(store)


def _atlas(given: argparse.Namespace) -> None:
    model, (loader, classes) = load_model(given.model, given.weights), _images(given)
    atlas = Atlas(
        model,
        loader,
        given.layers,
        classes=classes,
        preprocess=None if given.plain else normalization(model),
        title=given.title or given.model.partition(":")[2],
        steps=given.steps,
        ablation=given.ablation,
    )
    print(atlas)
    print(atlas.build(given.out).index)


def _compare(given: argparse.Namespace) -> None:
    print(compare_atlases(given.one, given.other, given.out, partners=given.partners))


def normalization(model: nn.Module) -> Callable[[Any], torch.Tensor]:
    """Return what prepares images in [0, 1]: with the mean and deviation that the model carries, as timm's do, or ImageNet's."""
    known = getattr(model, "pretrained_cfg", None) or {}
    mean, std = known.get("mean", MEAN), known.get("std", STD)

    def normalized(images: Any) -> torch.Tensor:
        shift, scale = (torch.tensor(values).to(images)[:, None, None] for values in (mean, std))
        scaled: torch.Tensor = (images - shift) / scale
        return scaled

    return normalized


def _images(given: argparse.Namespace) -> tuple[Any, list[str] | None]:
    """Return a loader of the folder's images, and names of the classes that its folders are."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    if given.grey and not given.plain:
        raise ValueError("--grey needs --plain: ImageNet's normalization is for three channels")
    if not given.images.is_dir():
        raise ValueError(f"{given.images} is no folder of images")
    colours = [transforms.Grayscale()] if given.grey else []
    size = [transforms.Resize(given.size), transforms.CenterCrop(given.size)]
    prepare = transforms.Compose([*colours, *size, transforms.ToTensor()])
    if any(path.is_dir() for path in given.images.iterdir()):
        data = ImageFolder(str(given.images), prepare)
        return DataLoader(data, batch_size=given.batch_size), data.classes
    from featurelens.atlas.photos import Photos

    return DataLoader(Photos(given.images, prepare), batch_size=given.batch_size), None
