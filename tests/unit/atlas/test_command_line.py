"""The command line: what it writes, its exit codes, and one line about every error."""

import sys

import pytest
import torch
from PIL import Image
from torch import nn

import featurelens
from featurelens.atlas import AtlasSite
from featurelens.atlas.command_line import load_model, main, normalization
from tests.nets import seeded


def network():
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
        )
    )


NETWORK = f"{__name__}:network"


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    for number in range(8):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((12, 10), 50).convert("RGB").save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_layers_are_listed(photos, capsys):
    assert main(["layers", NETWORK, "--size", "8"]) == 0
    assert "conv_1" in capsys.readouterr().out


def test_an_atlas_of_a_folder_of_images_is_built_once_and_compared(photos, tmp_path, capsys):
    command = [
        "atlas",
        NETWORK,
        "--images",
        str(photos),
        "--out",
        str(tmp_path / "atlas"),
        "--size",
        "8",
        "--steps",
        "1",
    ]
    assert main(command) == 0
    site = AtlasSite(tmp_path / "atlas")
    assert site.layers == ("0", "4")
    assert site.manifest["classes"] == ["a", "b"]
    assert main(command) == 0  # nothing is left to do
    both = [str(tmp_path / "atlas")] * 2
    assert main(["compare", *both, "--out", str(tmp_path / "both")]) == 0
    assert main(["compare", *both, "--out", str(tmp_path / "both")]) == 1
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("prefix", ["", "module.", "net.inner."])
@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_state_dict"])
def test_weights_come_from_a_file_or_a_checkpoint_and_from_inside_a_wrapper(tmp_path, prefix, key):
    other = network()
    with torch.no_grad():
        other[0].bias += 1
    state = {f"{prefix}{name}": value for name, value in other.state_dict().items()}
    if prefix:
        state["metric.count"] = torch.ones(1)
    torch.save(state if key is None else {"epoch": 3, key: state}, tmp_path / "weights.pt")
    loaded = load_model(NETWORK, tmp_path / "weights.pt")
    assert torch.equal(loaded[0].bias, other[0].bias)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("0.bias"), "they lack 0.bias"),
        (lambda state: state.update(other=torch.ones(1)), "it has no other"),
        (
            lambda state: state.update({"0.bias": torch.ones(7)}),
            "size mismatch for 0.bias: copying a param with",
        ),
    ],
)
def test_weights_of_another_network_are_told_apart(tmp_path, capsys, change, said):
    state = network().state_dict()
    change(state)
    torch.save(state, tmp_path / "weights.pt")
    assert main(["layers", NETWORK, "--size", "8", "--weights", str(tmp_path / "weights.pt")]) == 1
    told = capsys.readouterr().err
    assert f"weights.pt are not those of this network: {said}" in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["layers", "nothing"],
            "a network is named MODULE:FUNCTION, torchvision:NAME or timm:NAME; got 'nothing'",
        ),
        (["layers", "no_such_module:x"], "No module named 'no_such_module'"),
        (["layers", f"{__name__}:nothing"], "has no function 'nothing'"),
        (["layers", NETWORK, "--weights", "missing.pt"], "No such file or directory: 'missing.pt'"),
        (["layers", NETWORK, "--weights", __file__], "test_command_line.py holds no state dict ("),
        (["atlas", NETWORK, "--images", "missing", "--out", "x"], "missing is no folder of images"),
    ],
)
def test_an_error_is_one_line(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("featurelens: ")
    assert message in said
    assert said.count("\n") == 1


def test_a_list_is_no_state_dict(tmp_path, capsys):
    torch.save([1], tmp_path / "list.pt")
    assert main(["layers", NETWORK, "--weights", str(tmp_path / "list.pt")]) == 1
    assert "holds no state dict: it is [1]" in capsys.readouterr().err


def grey_network():
    return seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2)))


def test_grey_images_for_a_network_of_one_channel(photos, tmp_path, capsys):
    command = ["atlas", f"{__name__}:grey_network", "--images", str(photos), "--size", "8", "--steps", "2"]
    assert main([*command, "--out", str(tmp_path / "refused"), "--grey"]) == 1
    assert "--grey needs --plain" in capsys.readouterr().err
    assert main([*command, "--out", str(tmp_path / "atlas"), "--grey", "--plain"]) == 0
    assert AtlasSite(tmp_path / "atlas").manifest["input"]["shape"] == [1, 8, 8]


def test_images_are_normalized_as_the_network_says():
    """Half of timm's vision transformers were trained with .5 for both."""
    network, images = nn.Identity(), torch.full((1, 3, 2, 2), 0.485)
    assert torch.allclose(
        normalization(network)(images)[0, :, 0, 0], torch.tensor([0.0, 0.1295, 0.3511]), atol=1e-4
    )
    network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.25)}
    assert torch.allclose(normalization(network)(images)[0, :, 0, 0], torch.tensor([-0.03, -0.03, -0.06]))


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"featurelens {featurelens.__version__}\n"


@pytest.mark.parametrize("name", ["my_network_file", "my_network_file.py"])
def test_a_network_may_be_named_by_its_file(name, tmp_path, monkeypatch):
    (tmp_path / "my_network_file.py").write_text(
        "from torch import nn\n\n\ndef make():\n    return nn.ReLU()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert isinstance(load_model(f"{name}:make", None), nn.ReLU)
    sys.modules.pop("my_network_file")


def normalizing_network():
    return nn.Sequential(nn.BatchNorm2d(3))


def test_weights_that_torch_completes_are_taken(tmp_path):
    """The count of batches is missing in files of old; torch begins it anew."""
    state = dict(normalizing_network().state_dict())
    del state["0.num_batches_tracked"]
    torch.save(state, tmp_path / "weights.pt")
    load_model(f"{__name__}:normalizing_network", tmp_path / "weights.pt")
