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
    assert re.search(r"conv3 +conv_3 +Conv2d +18,496 +1 +\(1, 64, 4, 4\) +4.0 KiB", text)
    expected = {
        "conv1_filters.png",
        "featuremaps_conv1.png",
        "featuremaps_conv2.png",
        "featuremaps_conv3.png",
        "orig_and_conv1_grid.png",
        "training_loss.png",
        "training_accuracy.png",
    }
    assert {file.name for file in tmp_path.iterdir()} == expected
    assert all(5_000 < file.stat().st_size < 300_000 for file in tmp_path.iterdir())


def test_study_d_and_the_quickstart_on_the_folder_it_writes(tmp_path):
    text = run("extractor_rewrite", "--output", tmp_path / "d")
    assert "conv_4: layer 'features.8', feature (1, 256, 16, 16)" in text
    assert re.search(r"largest difference of the output +not reported +0.0e\+00", text)
    assert {file.name for file in (tmp_path / "d").glob("*.png")} == {
        f"{n}.png" for n in ("image", "conv_1", "conv_2", "conv_4")
    }
    again = run("extractor_rewrite", "--output", tmp_path / "e", "--images", tmp_path / "d" / "digits")
    assert again == text.replace(str(tmp_path / "d"), str(tmp_path / "e"))
    assert (tmp_path / "e" / "image.png").read_bytes() == (tmp_path / "d" / "image.png").read_bytes()
    text = run("quickstart", "--data", tmp_path / "d" / "digits", "--epochs", 1, "--output", tmp_path / "q")
    assert "10 classes" in text


@pytest.mark.skipif(not SHARED.exists(), reason="MNIST is not beside the checkout")
def test_study_b_writes_its_six_files(tmp_path):
    unpack = importlib.util.spec_from_file_location("unpack", SHARED / "unpack.py")
    subprocess.run([sys.executable, unpack.origin, str(tmp_path / "data")], check=True, capture_output=True)
    text = run("mnist_features", "--data-dir", tmp_path / "data", "--epochs", 1, "--output", tmp_path / "b")
    assert re.search(r"its six files +6 +6", text)
    assert float(re.search(r"test accuracy +not reported +([\d.]+)%", text)[1]) > 97


def test_study_a_measures_every_layer_and_writes_to_tensorboard(tmp_path):
    from PIL import Image

    generator = np.random.default_rng(0)
    for part, images in (("train", 12), ("test", 12)):
        for name, brightness in (("dark", 90), ("light", 165)):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(images):
                pixels = generator.normal(brightness, 40, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{number}.png")
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


@pytest.mark.parametrize("example", ["quickstart", "cifar10_information"])
def test_data_that_cannot_be_used_end_an_example_with_one_line(tmp_path, example):
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), "--data", "nowhere"]
    done = subprocess.run([*command, "--output", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "no data set 'nowhere': name a folder or one of digits, mnist, cifar10\n"
