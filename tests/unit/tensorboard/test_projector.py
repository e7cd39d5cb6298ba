"""Vectors, labels and sprites as the projector reads them."""

import re

import numpy as np
import pytest
import torch

from tests.unit.tensorboard.reading import projector, read, sheet_of


def test_an_embedding_is_vectors_labels_and_a_sheet_of_sprites(board):
    vectors = torch.randn(5, 3)
    sprites = torch.rand(5, 3, 6, 6)
    board.embedding(vectors, labels=["cat", "a dog", "two\nlines\tand tab", "", 7], sprites=sprites)
    (entry,) = projector(board)
    assert entry.tensor_name == "embedding"
    np.testing.assert_allclose(
        np.loadtxt(board.log_dir / entry.tensor_path, delimiter="\t"), vectors, rtol=1e-6
    )
    labels = (board.log_dir / entry.metadata_path).read_text().splitlines()
    assert labels == ["cat", "a dog", "two lines and tab", "-", "7"]
    assert list(entry.sprite.single_image_dim) == [6, 6]
    sheet = sheet_of(board, entry)
    assert sheet.shape == (18, 18, 3)
    for index in range(5):
        row, column = divmod(index, 3)
        tile = sheet[6 * row : 6 * row + 6, 6 * column : 6 * column + 6]
        np.testing.assert_array_equal(tile, (255 * sprites[index]).round().permute(1, 2, 0))
    assert (sheet[6:, 12:] == 255).all()


@pytest.mark.parametrize(("shape", "inside"), [((9, 4), np.s_[:, 2:6]), ((4, 9), np.s_[2:6, :])])
def test_sprites_that_are_not_square_get_a_margin(board, shape, inside):
    board.embedding(np.zeros((1, 2)), sprites=torch.zeros(1, 1, *shape))
    (entry,) = projector(board)
    sheet = sheet_of(board, entry)
    assert sheet.shape == (9, 9, 3)
    assert (sheet[inside] == 0).all()
    assert (sheet == 0).sum() == 9 * 4 * 3


def test_sprites_are_shrunk_until_browsers_can_draw_the_sheet(board, monkeypatch):
    monkeypatch.setattr("featurelens.tensorboard.projector.LARGEST_SHEET", 20)
    board.embedding(torch.rand(9, 2), sprites=torch.full((9, 1, 16, 16), 0.5))
    (entry,) = projector(board)
    assert list(entry.sprite.single_image_dim) == [6, 6]
    assert sheet_of(board, entry).shape[:2] == (18, 18)


def test_embeddings_of_several_layers_stand_side_by_side_and_the_same_tag_is_replaced(board):
    board.embedding(torch.rand(4, 2), tag="layer/1", labels=[0, 1, 2, 2])
    board.embedding(torch.rand(4, 2), tag="conv2")
    board.embedding(torch.zeros(6, 2), tag="layer/1")
    read(board)  # also of a run that is opened again
    board.embedding(torch.rand(4, 2), tag="conv3")
    entries = {entry.tensor_name: entry for entry in projector(board)}
    assert list(entries) == ["conv2", "layer/1", "conv3"]
    assert np.loadtxt(board.log_dir / entries["layer/1"].tensor_path).shape == (6, 2)
    assert entries["layer/1"].metadata_path == ""


def test_tags_that_look_alike_have_folders_of_their_own(board):
    tags = ["a/b", "a_b", "A/B", "a b", "a.b", "I(T;Y)", "Ünï", "ß" * 200]
    for number, tag in enumerate(tags, 1):
        board.embedding(torch.full((number, 2), float(number)), tag=tag)
    entries = {entry.tensor_name: entry for entry in projector(board)}
    assert list(entries) == tags
    assert len({entry.tensor_path.lower() for entry in entries.values()}) == len(tags)
    for number, entry in enumerate(entries.values(), 1):
        assert entry.tensor_path.isascii()
        assert len(np.loadtxt(board.log_dir / entry.tensor_path, ndmin=2)) == number


@pytest.mark.parametrize("tag", ["", ".", "..", "../..", "/", " ", "\n"])
def test_a_tag_that_cannot_be_read_is_refused_before_anything_is_written(board, tag):
    message = f"tag must be a name with a letter or a digit; got {tag!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        board.embedding(torch.rand(4, 2), tag=tag)
    assert not (board.log_dir / "projector").exists()


def test_no_tag_leads_out_of_the_run(board):
    board.embedding(torch.rand(4, 2), tag="../../out")
    (entry,) = projector(board)
    assert ".." not in entry.tensor_path
    assert (board.log_dir / "projector").resolve() in (board.log_dir / entry.tensor_path).resolve().parents
