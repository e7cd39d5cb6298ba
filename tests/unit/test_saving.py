"""Every file that users name is written whole or not at all."""

import os
import re

import numpy as np
import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens._saving import whole_file
from featurelens.describing import ChannelTable
from tests.nets import seeded


def save(path):
    fl.Activations({"a": torch.ones(2)}).save(path)


def table(path):
    columns = {"layer": np.array(["a"]), "channel": np.array([0]), "mean": np.array([0.5])}
    ChannelTable(columns).to_csv(path)


def animation(path):
    model = seeded(lambda: nn.Conv2d(1, 2, 3))
    run = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=1).run("", record_every=1)
    fl.plotting.write_animation(run, path)


def image(path):
    fl.plotting.write_images(torch.full((1, 1, 4, 4), 0.5), [path])


def signal(path):
    fl.plotting.write_images(torch.full((1, 1, 9), 0.5), [path])


each_writer = pytest.mark.parametrize("write", [save, table, animation, image, signal])


@each_writer
def test_a_path_that_is_no_place_for_a_file_is_named_and_nothing_is_left(write, tmp_path):
    (tmp_path / "file").write_text("the user's")
    before = sorted(tmp_path.iterdir())
    argument = "paths" if write in (image, signal) else "path"
    expected = f"{argument} must be a file's path; {str(tmp_path)!r} is a folder"
    with pytest.raises(IsADirectoryError, match=re.escape(expected)):
        write(tmp_path)
    for folder in (tmp_path / "missing", tmp_path / "file"):
        expected = f"{argument} is {str(folder / 'new')!r}, but there is no folder {str(folder)!r}"
        with pytest.raises(FileNotFoundError, match=re.escape(expected)):
            write(folder / "new")
    os.mkfifo(tmp_path / "pipe")
    expected = f"{argument} must be a file's path; {str(tmp_path / 'pipe')!r} is no regular file"
    with pytest.raises(OSError, match=re.escape(expected)):
        write(tmp_path / "pipe")
    (tmp_path / "pipe").unlink()
    with pytest.raises(ValueError, match=rf"^{argument} must be .*path.*; got ''$"):
        write("")
    with pytest.raises(TypeError, match=rf"^{argument} must be .*path.*; got 3$"):
        write(3)
    assert sorted(tmp_path.iterdir()) == before


@each_writer
def test_a_file_is_written_and_replaced(write, tmp_path):
    write(tmp_path / "new.png")
    content = (tmp_path / "new.png").read_bytes()
    (tmp_path / "new.png").write_text("old")
    write(str(tmp_path / "new.png"))
    assert (tmp_path / "new.png").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["new.png"]


def test_a_file_stays_as_it_was_if_writing_fails(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "before"
