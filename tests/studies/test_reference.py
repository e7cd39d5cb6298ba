"""What the examples share: networks, data, training."""

import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from reference import (
    CifarClassifier,
    DataError,
    GrayscaleCNN,
    MnistCNN,
    SmallCNN,
    TutorialCNN,
    accuracy,
    fit,
    fitting_network,
    flip_and_shift,
    load,
    reason_to_stop,
    seeded,
)
from reference.data import Dataset, stratified_split
from reference.training import History


@pytest.fixture(autouse=True)
def one_thread():
    """Train on one thread: several only wait for each other in networks this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def blobs(count=96, size=8, classes=3, *, noise=0.3):
    """Give images whose brightness tells their class."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    images = labels.reshape(-1, 1, 1, 1) / classes + noise * torch.rand(
        count, 1, size, size, generator=random
    )
    return images, labels


def train_small(*, seed=0, on_epoch=None, data=None, **settings):
    model = seeded(lambda: SmallCNN(1, 3), seed=0)
    data = data or blobs()
    history = fit(
        model, data, blobs(), seed=seed, on_epoch=on_epoch, progress=False, **{"epochs": 2, **settings}
    )
    return model, history


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# networks


@pytest.mark.parametrize(
    ("build", "shape", "parameters"),
    [
        (MnistCNN, (1, 28, 28), 215_370),
        (GrayscaleCNN, (1, 32, 32), 53_818),
        (CifarClassifier, (3, 32, 32), 620_842),  # as published
        (TutorialCNN, (3, 32, 32), 62_006),
        (partial(SmallCNN, 2, 10), (2, 17, 40), 34_314),
    ],
    ids=["mnist", "grayscale", "cifar", "tutorial", "small"],
)
def test_networks_have_their_size(build, shape, parameters):
    model = build()
    assert model(torch.rand(2, *shape)).shape == (2, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_study_a_starts_from_xavier_weights_and_zero_biases():
    model = GrayscaleCNN()
    bound = (6 / (16 * 9 + 16 * 9)) ** 0.5
    assert 0.95 * bound < model.conv4.weight.abs().max() <= bound
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


def test_study_a_applies_its_first_linear_layer_at_every_position():
    model = GrayscaleCNN().eval()
    seen = []
    with model.fc1.register_forward_hook(lambda _module, args, output: seen.extend([args[0], output])):
        model(torch.rand(2, 1, 32, 32))
    assert [tuple(tensor.shape) for tensor in seen] == [(2, 8, 8, 16), (2, 8, 8, 64)]


@pytest.mark.parametrize(
    ("channels", "size", "expected"),
    [
        (1, (28, 28), MnistCNN),
        (3, (32, 32), CifarClassifier),
        (3, (64, 64), SmallCNN),
        (1, (4, 4), SmallCNN),
    ],
)
def test_any_image_has_a_fitting_network(channels, size, expected):
    model = fitting_network(channels, size, 7)
    assert type(model) is expected
    assert model(torch.rand(2, channels, *size)).shape == (2, 7)


def test_a_seeded_network_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    first, second, third = (seeded(MnistCNN, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert same(first, second)
    assert not same(first, third)


# training


def test_digits_reach_97_percent():
    digits = load("digits")
    model = fitting_network(digits.channels, digits.size, len(digits.classes))
    history = fit(model, digits.train, digits.test, epochs=4, lr=2e-3, batch_size=32, progress=False)
    assert history.test_accuracy[history.best_epoch - 1] >= 0.97
    assert accuracy(model, digits.test) == max(history.test_accuracy)
    assert "test accuracy in epoch" in repr(history)


def test_the_same_seed_gives_the_same_weights_whatever_happened_before():
    first, _ = train_small(seed=5)
    torch.rand(17)
    second, _ = train_small(seed=5, on_epoch=lambda _epoch, _model: torch.rand(3))
    other, _ = train_small(seed=6)
    assert same(first, second)
    assert not same(first, other)


def test_a_shuffling_loader_follows_the_seed_too():
    loader = DataLoader(TensorDataset(*blobs()), batch_size=32, shuffle=True)
    first, history = train_small(data=loader)
    second, _ = train_small(data=loader)
    assert same(first, second)
    assert len(history.train_loss) == 2


def test_training_leaves_the_global_generator_alone():
    loader = DataLoader(TensorDataset(*blobs()), batch_size=32, shuffle=True)
    model = SmallCNN(1, 3)
    before = torch.random.get_rng_state()
    fit(model, loader, loader, epochs=1, progress=False)
    fit(model, blobs(), blobs(), epochs=1, progress=False)
    accuracy(model, loader)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_best_weights_come_back():
    weights = {}

    def ruin_after_two(epoch, model):
        weights[epoch] = {name: value.clone() for name, value in model.state_dict().items()}
        if epoch >= 2:
            with torch.no_grad():
                model.fc.weight.zero_()
                model.fc.bias.copy_(torch.tensor([0.0, 0.0, 9.0]))

    model, history = train_small(epochs=5, lr=3e-3, on_epoch=ruin_after_two)
    best = weights[history.best_epoch]
    assert history.best_epoch == 1 + int(np.argmax(history.test_accuracy))
    assert all(torch.equal(value, best[name]) for name, value in model.state_dict().items())
    assert not model.training


def test_patience_ends_training_early():
    _, history = train_small(epochs=30, lr=0.0, patience=3)
    assert history.best_epoch == 1
    assert len(history.test_accuracy) == 4


def test_own_loss_optimizer_and_several_outputs():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = seeded(lambda: SmallCNN(1, 3))

        def forward(self, images):
            return self.body(images), images.mean()

    def loss(output, labels, images):
        assert len(images) == len(labels)
        return nn.functional.cross_entropy(output[0], labels) + 2 * output[1]

    sgd = partial(torch.optim.SGD, momentum=0.9)
    history = fit(Two(), blobs(), blobs(), epochs=2, lr=0.05, optimizer=sgd, loss=loss, progress=False)
    assert history.train_loss[1] < history.train_loss[0]


def test_the_loss_is_the_mean_over_images_not_over_batches():
    images, labels = blobs(count=70)
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    expected = nn.functional.cross_entropy(model(images), labels).item()
    history = fit(model, (images, labels), (images, labels), epochs=1, lr=0.0, batch_size=32, progress=False)
    assert history.test_loss[0] == pytest.approx(expected, rel=1e-5)


def test_annealing_lowers_the_learning_rate_and_the_default_keeps_it():
    rates = []

    class Spy(torch.optim.SGD):
        def step(self, *args, **kwargs):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*args, **kwargs)

    train_small(epochs=2, lr=1.0, batch_size=96, optimizer=Spy, anneal=True)
    train_small(epochs=2, lr=1.0, batch_size=96, optimizer=Spy)
    assert rates == pytest.approx([1.0, 0.5, 1.0, 1.0])


@pytest.mark.parametrize("settings", [{"epochs": 0}, {"epochs": 3, "patience": 0}])
def test_senseless_lengths_are_refused(settings):
    with pytest.raises(ValueError, match="epochs and patience must be at least 1"):
        train_small(**settings)


# data


def write_folder(folder, counts, *, mode="RGB", sizes=((6, 6),)):
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            size = sizes[number % len(sizes)]
            colour = 40 * label + number
            Image.new(mode, size, colour if mode == "L" else (colour, 0, 255)).save(
                folder / name / f"{number:03}.png"
            )


def test_digits_are_split_by_class_and_seed():
    first, again, other = load("digits"), load("digits"), load("digits", seed=1)
    assert torch.equal(first.test_images, again.test_images)
    assert not torch.equal(first.test_images, other.test_images)
    assert first.train_images.shape[1:] == (1, 28, 28)
    assert (first.train_images.min(), first.train_images.max()) == (0, 1)
    assert len(first.train_labels) + len(first.test_labels) == 1797
    shares = first.test_labels.bincount() / torch.cat([first.train_labels, first.test_labels]).bincount()
    np.testing.assert_allclose(shares, 0.2, atol=0.01)


def test_a_stratified_split_takes_its_share_of_each_class():
    labels = torch.tensor([0] * 10 + [1] * 5 + [2])
    train, test = stratified_split(labels, 0.2, seed=0)
    assert labels[test].bincount().tolist() == [2, 1]
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(16))


def test_a_folder_with_train_and_test_keeps_them(tmp_path):
    write_folder(tmp_path / "train", {"cat": 3, "dog": 2})
    write_folder(tmp_path / "test", {"cat": 1, "dog": 1})
    data = load(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1]
    assert data.test_labels.tolist() == [0, 1]
    assert data.test_images.shape == (2, 3, 6, 6)
    np.testing.assert_allclose(data.test_images[1, :, 0, 0], [40 / 255, 0, 1])
    assert repr(data) == f"Dataset({tmp_path.name!r}, 5 + 2 images of 3x6x6, 2 classes)"


def test_a_folder_without_them_is_split(tmp_path):
    write_folder(tmp_path, {"cat": 10, "dog": 5})
    data = load(str(tmp_path))
    assert data.test_labels.bincount().tolist() == [2, 1]
    assert len(data.train_labels) == 12
    assert torch.equal(load(tmp_path).test_images, data.test_images)


def test_grey_images_have_one_channel(tmp_path):
    write_folder(tmp_path, {"a": 5, "b": 5}, mode="L")
    assert load(tmp_path).train_images.shape == (8, 1, 6, 6)


def test_images_of_one_size_keep_it_and_others_are_brought_to_one(tmp_path):
    write_folder(tmp_path / "same", {"a": 5, "b": 5}, sizes=[(9, 7)])
    assert load(tmp_path / "same").size == (7, 9)
    write_folder(tmp_path / "mixed", {"a": 5, "b": 5}, sizes=[(9, 7), (90, 120)])
    assert load(tmp_path / "mixed").size == (64, 64)


def test_train_and_test_must_have_the_same_classes(tmp_path):
    write_folder(tmp_path / "train", {"cat": 3, "dog": 2})
    write_folder(tmp_path / "test", {"cat": 1, "cow": 1})
    with pytest.raises(DataError, match="must have the same classes; they differ in cow, dog"):
        load(tmp_path)


def truncated(folder):
    write_folder(folder, {"cat": 3, "dog": 3})
    picture = sorted((folder / "dog").iterdir())[1]
    picture.write_bytes(picture.read_bytes()[:-20])
    return f"{picture} cannot be read: "


def no_image(folder):
    write_folder(folder, {"cat": 3, "dog": 3})
    (folder / "cat" / "notes.png").write_text("not a picture")
    return f"{folder / 'cat' / 'notes.png'} is not an image"


def one_class(folder):
    write_folder(folder, {"cat": 9})
    return f"{folder} holds one class, 'cat': training needs two or more class folders"


def too_few(folder):
    write_folder(folder, {"cat": 2, "dog": 2})
    return f"{folder} leaves no image for the test set: give three or more of each class"


def an_empty_class(folder):
    write_folder(folder, {"cat": 3, "dog": 3})
    (folder / "cow").mkdir()
    return f"{folder} must hold CLASS/IMAGE: found no valid file for the classes cow"


def no_class(folder):
    folder.mkdir()
    return f"{folder} must hold CLASS/IMAGE: couldn't find any class folder"


@pytest.mark.parametrize("damage", [truncated, no_image, one_class, too_few, an_empty_class, no_class])
def test_a_folder_that_cannot_be_used_is_told_in_one_line(tmp_path, damage):
    message = damage(tmp_path / "Photos")
    with pytest.raises(DataError) as caught:
        load(tmp_path / "Photos")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, SystemExit), "it ends a program with this line"


def test_a_folder_that_nothing_is_trained_on_may_have_one_class(tmp_path):
    write_folder(tmp_path, {"cat": 1})
    assert len(load(tmp_path, training=False).train_labels) == 1


def test_an_unknown_name_is_answered_with_the_known_ones():
    message = "no data set 'minst': name a folder or one of digits, mnist, cifar10"
    with pytest.raises(DataError, match=message):
        load("minst")


def test_mnist_is_read_where_torchvision_keeps_it(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.arange(3 * 28 * 28, dtype=np.int64).astype(np.uint8).reshape(3, 28, 28)
    for part in ("train", "t10k"):
        images = struct.pack(">IIII", 2051, 3, 28, 28) + pixels.tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 3) + bytes([7, 0, 9]))
    data = load("mnist", tmp_path)
    np.testing.assert_allclose(data.train_images[:, 0], pixels / 255, rtol=1e-6)
    assert data.test_labels.tolist() == [7, 0, 9]
    assert data.classes == tuple("0123456789")


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision").datasets

    def fail(_self):
        raise RuntimeError("no network")

    monkeypatch.setattr(datasets.CIFAR10, "download", fail)
    with pytest.raises(DataError, match=r"cifar10 is not in .* use 'digits', which needs no download"):
        load("cifar10", tmp_path)


def test_the_real_mnist_is_whole():
    folder = Path(__file__).parents[2] / "data"
    if not (folder / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST is not in data/")
    data = load("mnist", folder)
    assert data.train_images.shape == (60_000, 1, 28, 28)
    assert data.test_labels.bincount().min() == 892


# whether it learned


def history_of(test, train):
    return History((1.0,), (1.0,), (train,), (test,), best_epoch=1, seconds=1.0)


def data_of(images, classes=4):
    labels = torch.arange(images) % classes
    pixels = torch.zeros(images, 3, 8, 8)
    return Dataset("photos", pixels, labels, pixels, labels, tuple("abcd"[:classes]))


def test_a_network_that_guesses_is_no_reason_for_figures():
    reason = reason_to_stop(history_of(0.3, train=0.9), data_of(100))
    assert reason.startswith(
        "The network reads 30% of 100 test images correctly; always guessing the largest class"
    )
    assert "reaches 25%" in reason
    assert "it needs more of them than 25 for each class" in reason
    assert "try more --epochs" in reason_to_stop(history_of(0.3, train=0.3), data_of(100))


def test_what_is_above_chance_depends_on_the_number_of_test_images():
    assert reason_to_stop(history_of(0.3, train=0.3), data_of(100)) is not None
    assert reason_to_stop(history_of(0.3, train=0.3), data_of(10_000)) is None


def test_augmentation_mirrors_and_shifts_and_keeps_the_shape():
    ramp = torch.arange(16.0).expand(64, 1, 16, 16)
    torch.manual_seed(0)
    changed = flip_and_shift(ramp)
    assert changed.shape == ramp.shape
    rising = changed[:, 0, 0, 8] > changed[:, 0, 0, 7]
    assert 16 < int(rising.sum()) < 48
    shifts = {float(flip_and_shift(ramp)[rising.nonzero()[0, 0], 0, 0, 8]) for _ in range(64)}
    assert len(shifts) > 4


def test_training_augments_training_images_only():
    seen = []
    train_small(augment=lambda images: seen.append(len(images)) or images, epochs=2)
    assert sum(seen) == 2 * 96


def test_a_pipe_gets_a_line_for_each_epoch(capsys):
    fit(seeded(lambda: SmallCNN(1, 3)), blobs(), blobs(), epochs=2, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    train_small()
    assert not capsys.readouterr().out
