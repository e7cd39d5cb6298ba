"""The examples, run end to end as a user runs them."""

import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import featurelens as fl

ROOT = pathlib.Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


def run(example, *arguments):
    """Run an example in a process of its own and return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_quickstart_reaches_97_percent_and_leaves_its_pictures(tmp_path):
    text = run("quickstart", "--output", tmp_path)
    assert float(re.search(r"([\d.]+)% test accuracy", text)[1]) >= 97
    assert re.search(r"conv2 +conv_2 +Conv2d +12,832 +1 +\(1, 32, 14, 14\) +24.5 KiB", text)
    expected = {
        "conv1_filters.png",
        "featuremaps_conv1.png",
        "featuremaps_conv2.png",
        "orig_and_conv1_grid.png",
        "training_loss.png",
        "training_accuracy.png",
        "overview.png",
        "information_relu3.png",
        "wanted_relu3.png",
        "reconstructions_relu2.png",
        "importance_relu3.png",
        "importance_classes.png",
    }
    assert {file.name for file in tmp_path.iterdir()} == {*expected, "atlas"}
    assert all(5_000 < (tmp_path / file).stat().st_size < 300_000 for file in expected)
    assert "conv2:31" in str(fl.atlas.AtlasSite(tmp_path / "atlas")["conv2:31"])


def test_the_quickstart_draws_nothing_of_a_network_that_has_learned_nothing(tmp_path):
    noise = np.random.default_rng(0)
    for name in ("this", "that"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = noise.integers(0, 256, (24, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    command = [sys.executable, str(ROOT / "examples" / "quickstart.py"), "--data", str(tmp_path / "photos")]
    done = subprocess.run(
        [*command, "--epochs", "1", "--output", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.fullmatch(
        r"The network reads \d+% of 4 test images correctly; .* Figures of it .*\n", done.stderr
    )
    assert not list((tmp_path / "out").iterdir())


def test_study_d_reads_the_folder_it_writes(tmp_path):
    text = run("extractor_rewrite", "--output", tmp_path / "d")
    assert "conv_4: layer 'features.8', feature (1, 256, 16, 16)" in text
    assert re.search(r"largest difference of the output +not reported +0.0e\+00", text)
    assert {file.name for file in (tmp_path / "d").glob("*.png")} == {
        f"{n}.png" for n in ("image", "conv_1", "conv_2", "conv_4")
    }
    again = run("extractor_rewrite", "--output", tmp_path / "e", "--images", tmp_path / "d" / "digits")
    assert again == text.replace(str(tmp_path / "d"), str(tmp_path / "e"))
    assert (tmp_path / "e" / "image.png").read_bytes() == (tmp_path / "d" / "image.png").read_bytes()


@pytest.mark.skipif(not SHARED.exists(), reason="MNIST is not beside the checkout")
def test_study_b_writes_its_six_files(tmp_path):
    unpack = importlib.util.spec_from_file_location("unpack", SHARED / "unpack.py")
    subprocess.run([sys.executable, unpack.origin, str(tmp_path / "data")], check=True, capture_output=True)
    text = run("mnist_features", "--data-dir", tmp_path / "data", "--epochs", 1, "--output", tmp_path / "b")
    assert re.search(r"its six files +6 +6", text)
    assert float(re.search(r"test accuracy +not reported +([\d.]+)%", text)[1]) > 97


def coloured_folder(folder, images=12):
    """Write images of two classes that differ in brightness: FOLDER/train/CLASS/NUMBER.png, and test."""
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name, brightness in (("dark", 90), ("light", 165)):
            (folder / part / name).mkdir(parents=True)
            for number in range(images):
                pixels = generator.normal(brightness, 40, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


def test_study_a_measures_every_layer_and_writes_to_tensorboard(tmp_path):
    coloured_folder(tmp_path / "data", images=60)
    output = tmp_path / "a"
    text = run(
        "cifar10_information", "--data", tmp_path / "data", "--epochs", 2, "--tensorboard", "--output", output
    )
    assert re.search(r"relu6 +2\.587 +2\.563 +\d\.\d+ +\d\.\d+", text)
    pictures = {"input", "first_layer", "last_layer", "information", "information_plane", "training_accuracy"}
    assert {file.stem for file in output.glob("*.png")} == pictures
    assert list((output / "tensorboard").glob("events.*"))
    figures = json.loads((output / "figures.json").read_text())
    own, other = figures["layers"]["relu6"][1]
    assert own > 1.5, "255 bins call anything information"
    assert other > 1.5, "another image's as well"


def test_study_c_goes_through_its_stages_and_resumes(tmp_path):
    arguments = ("--data", "digits", "--epochs", 2, "--steps", 8, "--channels", 2, "--output", tmp_path)
    text = run("cifar10_visualization", *arguments, "--stage", "vae", "--vae-epochs", 1)
    assert re.search(r"test accuracy [\d.]+% \(study: 80.6%", text)
    weights = (tmp_path / "classifier.pt").read_bytes()
    text = run("cifar10_visualization", *arguments, "--vae-epochs", 2)
    assert "VAEHistory(2 epochs" in text
    assert (tmp_path / "classifier.pt").read_bytes() == weights, "the classifier is not trained again"
    for space in ("pixels", "Fourier, decorrelated", "latent code", "latent code, decorrelated"):
        assert re.search(rf"^{space} +-?\d", text, re.MULTILINE)
    pictures = {"classifier_loss", "classifier_accuracy", "confusion"}
    pictures |= {"vae_loss", "vae_divergence", "vae_reconstructions", "vae_latents"}
    pictures |= {f"features_{name}" for name in ("relu1", "relu2", "relu3", "class_scores")}
    assert {file.stem for file in tmp_path.glob("*.png")} == pictures


def test_study_e_rebuilds_images_from_single_channels(tmp_path):
    data = coloured_folder(tmp_path / "data")
    output = tmp_path / "e"
    text = run("cifar10_reconstruction", "--data", data, "--epochs", 2, "--grid-search", "--output", output)
    assert re.search(r"chosen: 1 and [\d.]+\n", text)
    assert re.search(r"accuracy of light +\d+\.\d%", text)
    assert re.search(r"test accuracy [\d.]+%, MSE 0\.\d{4} in epoch [12]\n", text)
    pictures = {"loss", "reconstruction_error", "accuracy", "reconstructions"}
    pictures |= {f"channels_{layer}_{part}" for layer in ("pool1", "pool2") for part in ("train", "test")}
    assert {file.stem for file in output.glob("*.png")} == pictures


@pytest.mark.parametrize("example", ["quickstart", "cifar10_information"])
def test_data_that_cannot_be_used_end_an_example_with_one_line(tmp_path, example):
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), "--data", "nowhere"]
    done = subprocess.run([*command, "--output", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "no data set 'nowhere': name a folder or one of digits, mnist, cifar10\n"


def test_a_recorded_data_set_is_read_measured_and_pictured_and_goes_on_where_it_was(tmp_path):
    arguments = ("--data", "digits", "--train", 200, "--epochs", 1, "--images", 150, "--output", tmp_path)
    text = run("record_dataset", *arguments)
    assert re.search(
        r"ActivationStore\(150 rows, layer1: \(64,\) float32, .*layer4: \(512,\) float32\)", text
    )
    assert re.search(r"the same from the store: most \d\.\d+ nats in channel \d+", text)
    pictures = {"values_layer4", "correlations_layer4", "information_layer4", "strongest_layer4"}
    pictures |= {"strongest_maxpool", "strongest_layer1.0"}
    assert {file.stem for file in tmp_path.glob("*.png")} == pictures
    again = run("record_dataset", *arguments, "--weights", tmp_path / "resnet18.pt")
    assert again == "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith(("epoch", "trained"))
    )


def test_study_f_compares_layers_epochs_and_seeds(tmp_path):
    arguments = ("--data", "digits", "--train", 300, "--epochs", 2, "--images", 100, "--output", tmp_path)
    text = run("cifar10_similarity", *arguments)
    assert re.search(r"^relu1 +\d\.\d\d +\d\.\d\d +1\.00 +\d\.\d\d$", text, re.MULTILINE)
    assert {file.stem for file in tmp_path.glob("*.png")} == {"layers", "seeds", "epochs"}
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert list(figures) == ["relu1", "relu2", "fc1", "relu3", "fc2"]
    assert figures["fc2"]["next"] is None
    assert len(figures["fc2"]["epochs"]) == 2
