"""What pyproject declares about versions is what is tested, and what every other file says."""

import pathlib
import re
import subprocess
import sys
import tomllib

import featurelens as fl

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OF_ONE_LIBRARY = {
    "lightning",
    "transformers",
}  # large, and only for who trains with it; `nox -s adapters` tests them


def declared():
    """The floor of each dependency, of the package and of its extras."""
    extras = (texts for name, texts in EXTRAS.items() if name not in OF_ONE_LIBRARY)
    named = [*PROJECT["dependencies"], *(text for texts in extras for text in texts)]
    named = [text for text in named if "featurelens" not in text]
    return dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", text).groups() for text in named)


def padded(version):
    return (version + ".0.0").split(".")[:3]


def test_the_floors_that_are_tested_are_the_floors_that_are_declared():
    lines = (ROOT / "constraints-floors.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    assert {name: padded(version) for name, version in tested.items()} == {
        name: padded(version) for name, version in declared().items()
    }


def test_every_small_extra_is_part_of_all():
    (everything,) = EXTRAS["all"]
    assert set(re.search(r"\[(.*)\]", everything)[1].split(",")) == set(EXTRAS) - {"all"} - OF_ONE_LIBRARY


def test_the_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    assert PROJECT["version"] == fl.__version__ == re.search(r"^version: (\S+)", citation, re.MULTILINE)[1]


def test_a_version_has_its_section_in_the_changelog_once_it_is_released():
    sections = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert sections[1:] == sorted(sections[1:], key=padded, reverse=True)
    assert sections[1:2] in ([], [PROJECT["version"]])


def test_ci_tests_the_pythons_that_are_declared():
    classified = re.findall(r"Python :: (3\.\d+)", str(PROJECT["classifiers"]))
    (pythons,) = re.findall(r"python: \[(.*)\]", (ROOT / ".github/workflows/versions.yml").read_text())
    assert re.findall(r"3\.\d+", pythons) == classified
    assert PROJECT["requires-python"] == f">={classified[0]}"


# Without what the plain form does not install.
WITHOUT = """
import sys
for name in ("torchvision", "sklearn", "tensorboard", "numba", "torch.utils.tensorboard"):
    sys.modules[name] = None  # importing it raises ImportError
import torch
from torch import nn
import featurelens as fl

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
images, labels = torch.rand(24, 1, 8, 8), torch.arange(24) % 2
batches = [(images, labels)]
assert all(getattr(fl, name) is not None for name in fl.__all__)
fl.list_layers(model, images)
fl.list_operations(model)
fl.insert_extractors(model, "conv_1", sample=images)
acts = fl.ActivationRecorder(model, "relu_1").record(batches, progress=False)
fl.mutual_information(acts["1"].flatten(1)[:, 0], labels)
fl.channel_information(acts["1"], labels)
fl.spatial_mutual_information(images, acts["1"])
fl.compare(model, loader=batches, layers=["0", "3"], progress=False)
fl.ActivationMaximizer(model, sample=images, steps=2, progress=False).run(fl.objectives.channel("0", 1))
fl.ChannelAblator(model, "0").importance(batches, progress=False).plot()
fl.Atlas(model, (images, labels), steps=2, progress=False).build(sys.argv[1])
"""


def test_the_plain_form_needs_no_extra(tmp_path):
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "atlas")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "atlas" / "index.html").is_file()
