"""An atlas from end to end: what is written, and that it is the same however the work was divided or interrupted."""

import hashlib
import json
import math
import os
import pathlib
import subprocess
import sys

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, Subset, TensorDataset

from featurelens import ActivationRecorder, ChannelAblator, statistics
from featurelens.atlas import Atlas, AtlasSite, compare_atlases
from featurelens.atlas.effects import sample_loader
from featurelens.atlas.parts import Parts
from tests.nets import seeded

ROOT = pathlib.Path(__file__).parents[3]
CLASSES = ["<script>alert(1)</script>", 'b"c', "d"]


def seeded_network(seed):
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 5, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(5, 6, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(96, 3),
        ),
        seed,
    )


def network():
    return seeded_network(0)


def sampled_rows():
    """The rows that the atlases of this file draw."""
    recorder = ActivationRecorder(network(), "0")
    return recorder.stream([data()], statistics.Sample(30), progress=False)["0"].sample.rows


def data(n=40, channels=1, size=8):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, channels, size, size, generator=generator), torch.arange(n) % 3


def small(model=None, loader=None, **options):
    options = {"steps": 3, "sample": 30, "ablation": 12, "classes": CLASSES, "progress": False, **options}
    loader = DataLoader(TensorDataset(*data()), batch_size=7) if loader is None else loader
    return Atlas(network() if model is None else model, loader, **options)


def content(folder):
    """The hash of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas") / "whole"
    small().build(folder)
    return folder


def test_the_strongest_images_are_those_of_the_data(whole):
    site, (images, labels) = AtlasSite(whole), data()
    model = network()
    peaks = model[0](images).detach().flatten(2).amax(2)
    for channel in range(5):
        details = site[f"0:{channel}"].details
        assert [each["row"] for each in details["strongest"]] == peaks[:, channel].topk(8).indices.tolist()
        assert [each["label"] for each in details["strongest"]] == labels[
            peaks[:, channel].topk(8).indices
        ].tolist()
        assert details["strongest"][0]["value"] == pytest.approx(float(peaks[:, channel].max()), rel=1e-5)
        assert (whole / "images" / "real" / f"{details['range'][0]['row']}.webp").exists()


def test_every_layer_has_its_table_details_and_sheets(whole):
    site = AtlasSite(whole)
    assert site.layers == ("0", "3", "6")
    assert not (whole / "parts").exists()
    for layer in site.manifest["layers"]:
        table = site.read(f"{layer['folder']}/table")
        assert {figure["key"] for figure in site.manifest["figures"]} == set(table["columns"])
        assert all(len(values) == layer["channels"] for values in table["columns"].values())
        assert layer["notes"] == []
        for kind in layer["sheets"]:
            assert (whole / "images" / layer["folder"] / f"0000-{kind}.webp").exists()


def test_importance_is_that_of_the_ablator(whole):
    import featurelens as fl

    site, (images, labels) = AtlasSite(whole), data()
    rows = (
        fl.ActivationRecorder(network(), "0")
        .stream([(images, labels)], fl.statistics.Sample(30), progress=False)["0"]
        .sample.rows[:12]
    )
    expected = ChannelAblator(network(), "3").importance(
        [(images[rows], labels[rows])], fill="mean", progress=False
    )
    found = site.read("001-3/table")["columns"]["importance"]
    assert found == pytest.approx(expected.importance.tolist(), abs=1e-5)


def test_a_layer_uses_as_many_directions_as_its_largest_values_have(whole):
    values = statistics.Sample(30, reduce="max")
    found = ActivationRecorder(network(), "3").stream([data()], values, progress=False)["3"].sample.values
    variances = torch.linalg.eigvalsh(found.double().T.cov())
    shares = variances / variances.sum()
    figures = AtlasSite(whole).manifest["layers"][1]["figures"]
    assert figures["effective_rank"] == pytest.approx(float((-shares * shares.log()).sum().exp()), rel=1e-4)
    assert figures["participation_ratio"] == pytest.approx(float(1 / shares.square().sum()), rel=1e-4)


def test_names_of_the_user_cannot_leave_the_data(whole):
    text = (whole / "data" / "manifest.js").read_text()
    assert "<" not in text
    assert AtlasSite(whole).manifest["classes"] == CLASSES
    assert text.isascii()


def test_the_same_seed_gives_the_same_bytes(whole, tmp_path):
    small().build(tmp_path / "again")
    assert content(tmp_path / "again") == content(whole)


@pytest.mark.parametrize("written", [1, 4, 9, 17, 30, 55])
def test_an_interrupted_build_ends_with_the_same_bytes(whole, tmp_path, monkeypatch, written):
    left = [written]
    write = Parts.write

    def failing(self, name, content):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write(self, name, content)

    monkeypatch.setattr(Parts, "write", failing)
    with pytest.raises(KeyboardInterrupt):
        small().build(tmp_path / "atlas")
    monkeypatch.undo()
    small().build(tmp_path / "atlas")
    assert content(tmp_path / "atlas") == content(whole)


def test_shares_make_the_same_atlas(whole, tmp_path):
    for _ in range(2):  # all must have measured their part before channels are ablated
        for index in range(3):
            small().build_share(tmp_path / "atlas", (index, 3))
    before = content(tmp_path / "atlas" / "parts")
    small().build(tmp_path / "atlas")
    assert content(tmp_path / "atlas") == content(whole)
    assert any(name.endswith("pictures.json") for name in before)


WORKER = """
import sys, time
from torch import distributed
from tests.unit.atlas.test_building import small

distributed.init_process_group("gloo")
small().build(sys.argv[1])
time.sleep(1)  # torch before 2.8 hangs if a thread of the group still holds the last result
distributed.destroy_process_group()
"""


def test_ranks_share_the_work(whole, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [*command, str(script), str(tmp_path / "atlas")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert content(tmp_path / "atlas") == content(whole)


def test_other_settings_do_not_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("featurelens.atlas.writing.write_pages", lambda parts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        small().build(tmp_path / "atlas")
    with pytest.raises(
        FileExistsError, match="holds an atlas of another model, of other images or with other"
    ):
        small(seed=1).build(tmp_path / "atlas")
    monkeypatch.undo()
    site = small().build(tmp_path / "atlas")
    with pytest.raises(FileExistsError, match="holds an atlas of another model"):
        small(seeded_network(3)).build(tmp_path / "atlas")
    with pytest.raises(FileExistsError, match="holds an atlas of another model"):
        small(loader=(data()[0] + 1, data()[1])).build(tmp_path / "atlas")
    before = content(tmp_path / "atlas")
    small().build(tmp_path / "atlas")  # it is finished: nothing is done
    assert content(tmp_path / "atlas") == before
    assert "3 layers, 14 channels" in str(site)


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files"):
        small().build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_labels_there_are_no_classes_and_no_ablation(tmp_path):
    site = small(loader=data()[0], classes=None).build(tmp_path / "atlas")
    assert site.manifest["classes"] is None
    assert site.manifest["ablation"] is None
    assert "importance" not in site.read("000-0/table")["columns"]
    assert site["3:2"].details["classes"] is None


def test_a_loader_that_can_only_be_read_in_order(whole, tmp_path):
    class Stream:
        def __iter__(self):
            images, labels = data()
            return iter(zip(images.split(7), labels.split(7), strict=True))

    small(loader=Stream()).build(tmp_path / "atlas")
    assert content(tmp_path / "atlas") == content(whole)


class Constant(nn.Module):
    """One layer does not depend on the image."""

    def __init__(self):
        super().__init__()
        self.fixed = nn.Linear(2, 4)
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3)) + self.fixed(x.new_ones(len(x), 2))[:, :3]


def test_a_layer_that_cannot_be_optimized_still_has_its_page(tmp_path):
    site = small(seeded(Constant)).build(tmp_path / "atlas")
    entry = {layer["name"]: layer for layer in site.manifest["layers"]}["fixed"]
    assert any("This layer cannot be optimized: " in note for note in entry["notes"])
    assert "best" not in entry["sheets"]
    assert site["fixed:1"].details["pictures"] is None
    assert site["conv:1"].details["pictures"] is not None


def test_a_preprocess_is_applied_everywhere(tmp_path):
    def prepare(images):
        return images.sub_(0.5).mul_(2)  # in place: the user's images stay as they are

    images, labels = data()
    kept = images.clone()
    site = small(loader=(images, labels), preprocess=prepare).build(tmp_path / "atlas")
    assert torch.equal(images, kept)
    peaks = network()[0](images * 2 - 1).detach().flatten(2).amax(2)
    assert site["0:1"].details["strongest"][0]["value"] == pytest.approx(float(peaks[:, 1].max()), rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": "abc"}, "classes must be a list of names"),
        ({"sample": 3}, "sample must be at least 4"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"preprocess": 3}, "preprocess must be a function"),
        ({"title": 3}, "title must be text"),
        ({"loader": 3}, "loader must yield batches of images"),
        (
            {"loader": DataLoader(TensorDataset(*data()), shuffle=True)},
            "loader must yield the same images in the same order each time; it shuffles",
        ),
        ({"loader": iter([data()])}, "loader must be one that can be read several times"),
    ],
)
def test_misuse_is_an_error_before_any_work(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        small(**arguments)


def test_a_card_names_what_there_is(whole):
    site = AtlasSite(whole)
    card = site["3:2"]
    assert "<b>3:2</b>" in card._repr_html_()
    assert "image/webp;base64" in card._repr_html_()
    assert str(card).startswith("3:2: Dead yes, Largest value -0.1502, Active 0")
    with pytest.raises(LookupError, match=r"a channel is written layer:number, such as 0:0; got '9:1'"):
        site["9:1"]
    with pytest.raises(LookupError, match="layer '3' has channels 0 to 5; got 6"):
        site["3:6"]
    with pytest.raises(ValueError, match="holds no finished atlas"):
        AtlasSite(whole / "data")


def test_data_files_are_json_in_a_call(whole):
    for path in (whole / "data").rglob("*.js"):
        text = path.read_text()
        assert text.startswith('atlas.receive("')
        json.loads(text[text.index(",") + 1 : text.rindex(")")])


def test_two_atlases_are_compared(whole, tmp_path):
    other = small(seeded_network(7)).build(tmp_path / "other")
    page = compare_atlases(whole, other, tmp_path / "both", partners="correlation", titles=("a", "b"))
    manifest = AtlasSite(page.parent).read("manifest")
    assert [each["title"] for each in manifest["compared"]] == ["a", "b"]
    for each, folder in zip(manifest["compared"], (whole, tmp_path / "other"), strict=True):
        assert (page.parent / each["prefix"] / "index.html").resolve() == folder / "index.html"
    images, rows = data()[0], sampled_rows()
    x, y = (net[0](images[rows]).detach().flatten(2).amax(2) for net in (network(), seeded_network(7)))
    correlation = torch.corrcoef(torch.cat([x, y], 1).T)[:5, 5:]
    entry = manifest["layers"][0]
    assert entry["match"] == correlation.argmax(1).tolist()
    assert entry["correlation"] == pytest.approx(correlation.amax(1).tolist(), abs=1e-2)


def test_an_atlas_compared_with_itself_has_not_changed(whole, tmp_path):
    page = compare_atlases(whole, whole, tmp_path / "both")
    for entry in AtlasSite(page.parent).read("manifest")["layers"]:
        assert entry["match"] is None
        assert entry["correlation"] == pytest.approx([1.0] * len(entry["correlation"]), abs=1e-4)
        assert entry["similarity"] == pytest.approx(1.0, abs=1e-6)


def test_atlases_that_cannot_be_compared(whole, tmp_path):
    other = small(sample=25).build(tmp_path / "other")
    with pytest.raises(ValueError, match="must be of the same images, with the same sample and seed"):
        compare_atlases(whole, other, tmp_path / "both")
    with pytest.raises(FileExistsError, match="is not empty"):
        compare_atlases(whole, whole, whole)
    with pytest.raises(TypeError, match="titles must be two names; got 3"):
        compare_atlases(whole, whole, tmp_path / "both", titles=3)
    with pytest.raises(FileNotFoundError, match="the atlas has no data file 'table'"):
        AtlasSite(whole).read("table")
    with pytest.raises(ValueError, match="titles must be two names; got"):
        compare_atlases(whole, whole, tmp_path / "both", titles=("a",))


def test_batches_in_an_order_of_their_own_show_the_right_images(tmp_path):
    class Backwards(BatchSampler):
        def __iter__(self):
            return reversed(list(super().__iter__()))

    images, labels = data()
    order = list(Backwards(SequentialSampler(images), 7, False))
    loader = DataLoader(
        TensorDataset(images, labels), batch_sampler=Backwards(SequentialSampler(images), 7, False)
    )
    site = small(loader=loader, steps=0, ablation=0).build(tmp_path / "atlas")
    rows = torch.tensor(
        [row for batch in order for row in batch]
    )  # of the data set, by their number in the pass
    for example in site["0:1"].details["strongest"]:
        assert example["label"] == labels[rows[example["row"]]]


def test_images_that_change_from_pass_to_pass_are_refused(tmp_path):
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return torch.rand(1, 8, 8), index % 3

    with pytest.raises(ValueError, match="pass one that does not shuffle or augment"):
        small(loader=DataLoader(Noisy(), batch_size=5)).build(tmp_path / "atlas")


def test_images_with_nan_do_not_seem_to_change(tmp_path):
    images, labels = data()
    images[0, 0, 0, 0] = torch.nan
    with pytest.warns(UserWarning, match="NaN"):
        small(loader=(images, labels), steps=0, ablation=0).build(tmp_path / "atlas")


def test_more_data_are_another_atlas(tmp_path, monkeypatch):
    monkeypatch.setattr("featurelens.atlas.building.merged", lambda files: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        small().build(tmp_path / "atlas")
    more = DataLoader(TensorDataset(*data(n=41)), batch_size=7)
    with pytest.raises(FileExistsError, match="of other images"):
        small(loader=more).build(tmp_path / "atlas")


class Twice(nn.Module):
    """One layer is called twice, the second time on half as many pixels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        once = self.conv(x).relu()
        return self.head(self.conv(nn.functional.max_pool2d(once, 2)).flatten(1))


def test_every_call_of_a_layer_has_its_page(tmp_path):
    site = small(seeded(Twice)).build(tmp_path / "atlas")
    assert site.layers == ("conv#1", "conv#2", "head")
    assert [layer["shape"] for layer in site.manifest["layers"]] == [[1, 8, 8], [1, 4, 4], [3]]
    assert site["conv#2:0"].details["strongest"]


def test_thumbnails_are_as_wide_and_high_as_the_images(whole, tmp_path):
    images = torch.rand(12, 1, 40, 20, generator=torch.Generator().manual_seed(0))
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()))
    site = small(model, images, classes=None, steps=0).build(tmp_path / "atlas")
    assert site.manifest["thumbnail"] == [20, 40]


@pytest.mark.parametrize("scale", [1e9, 1e-12])
def test_atlases_of_any_scale_are_compared(tmp_path, scale):
    images, labels = data()
    for name, factor in (("one", 1), ("other", scale)):
        model = network()
        with torch.no_grad():
            model[0].weight.mul_(factor)
            model[0].bias.mul_(factor)
        loader = images, labels
        small(model, loader, layers="0", steps=0, ablation=0).build(tmp_path / name)
    page = compare_atlases(tmp_path / "one", tmp_path / "other", tmp_path / "both")
    (layer,) = AtlasSite.read(AtlasSite(page.parent), "manifest")["layers"]
    assert layer["correlation"] == pytest.approx([1] * 5, abs=1e-5)
    assert layer["similarity"] == pytest.approx(1, abs=1e-5)


def test_layers_are_shown_in_the_order_of_the_model():
    assert small(layers=["6", "0", nn.Conv2d]).recorder.layers == ("0", "3", "6")


def test_a_model_of_two_inputs_is_refused(tmp_path):
    with pytest.raises(TypeError, match="inputs must return the images of a batch, as one tensor: "):
        small(inputs=lambda batch: (batch[0], batch[0])).build(tmp_path / "atlas")


def test_it_says_how_many_images_are_ablated():
    assert "14 channels on 40 images" in str(small(ablation=256))
    assert "14 channels on 12 images" in str(small(ablation=12))


def test_layers_that_are_never_called_are_left_out_unless_named(tmp_path):
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Linear(8, 8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.auxiliary = nn.Linear(8, 3)

        def forward(self, x):
            rows = self.rows(x[:, 0])
            return self.attention(rows, rows, rows)[0].mean(1)

    site = small(seeded(Attention), steps=0, ablation=0).build(tmp_path / "atlas")
    assert site.layers == ("rows",)
    with pytest.raises(LookupError, match="layer 'auxiliary' was never called"):
        small(seeded(Attention), layers="auxiliary").build(tmp_path / "named")


def test_below_0_is_dead_unless_a_normalization_reads_it(tmp_path):
    def behind(*between):
        return nn.Sequential(nn.Conv2d(1, 3, 3), *between, nn.ReLU(), nn.Flatten(), nn.Linear(108, 3))

    for name, between in (("alone", []), ("normalized", [nn.Identity(), nn.BatchNorm2d(3)])):
        model = seeded(lambda between=between: behind(*between))
        with torch.no_grad():
            model[0].bias[0] = -5
            model[0].weight[1] = 0  # the same for every image, whatever comes behind
        site = small(model.eval(), layers="0", steps=0).build(tmp_path / name)
        found = [bool(site[f"0:{channel}"].figures["dead"]) for channel in range(3)]
        assert found == [name == "alone", True, False]


def test_classes_have_the_effect_of_ablation_with_its_error(tmp_path):
    site = small(steps=0, layers="0", ablation=30).build(tmp_path / "atlas")
    images, labels = (each[sampled_rows()] for each in data())
    found = ChannelAblator(network(), "0").importance([(images, labels)], fill="mean", progress=False)
    for channel in range(5):
        classes = site[f"0:{channel}"].details["classes"]
        assert classes["effect"] == pytest.approx(found.per_class[channel].tolist(), abs=1e-4)
        assert classes["error"] == pytest.approx(found.per_class_standard_error[channel].tolist(), abs=1e-4)


def test_a_channel_that_is_above_0_somewhere_in_every_image_has_a_minimizing_image(tmp_path):
    model = nn.Sequential(seeded(lambda: nn.Conv2d(1, 2, 3)), nn.ReLU())
    with torch.no_grad():
        model[0].bias += 0.3
    site = small(model, (data()[0] - 0.5) * 4, layers=["0", "1"], classes=None).build(tmp_path / "atlas")
    assert site["0:0"].details["strongest"][-1]["value"] > 0
    assert site["0:0"].details["range"][-1]["value"] > 0  # the weakest image
    assert site["0:0"].details["pictures"]["minimum"] is not None
    assert site["1:0"].details["pictures"]["minimum"] is None


def test_a_dead_channel_prefers_no_class(tmp_path):
    model = network()
    with torch.no_grad():
        model[0].weight[1].zero_()
        model[0].bias[1] = -1
    site = small(model, steps=0, ablation=0).build(tmp_path / "atlas")
    assert site["0:1"].figures["best_class"] is None
    assert site["0:0"].figures["best_class"] in {0, 1, 2}


def test_images_of_two_shapes_are_refused(tmp_path):
    model = seeded(lambda: nn.Conv2d(1, 2, 3))
    loader = [torch.rand(9, 1, 8, 8), torch.rand(9, 1, 8, 6)]
    with pytest.raises(ValueError, match=r"images of one shape; got \(1, 8, 8\) and \(1, 8, 6\)"):
        small(model, loader, layers="", classes=None).build(tmp_path / "atlas")


def test_a_part_of_a_data_set_keeps_its_classes():
    class Named(TensorDataset):
        classes = CLASSES

    part = Subset(Subset(Named(*data()), range(30)), range(20))
    assert small(loader=DataLoader(part, batch_size=5), classes=None).classes == tuple(CLASSES)


def test_running_out_of_memory_is_no_property_of_a_layer(tmp_path, monkeypatch):
    def out_of_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr("featurelens.atlas.pictures.Painter.paint", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError):
        small().build(tmp_path / "atlas")
    monkeypatch.undo()
    site = small().build(tmp_path / "atlas")
    assert all(layer["notes"] == [] for layer in site.manifest["layers"])


def test_an_optimized_image_shows_what_its_unit_sees(tmp_path):
    model = seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 5, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(5, 6, 3),
            nn.Flatten(),
            nn.LazyLinear(3),
        )
    )
    images, labels = data(size=24)
    model(images)
    site = small(model, (images, labels)).build(tmp_path / "atlas")
    tiles = [layer["sheets"]["best"]["tile"] for layer in site.manifest["layers"]]
    assert tiles == [[9, 9], [16, 16], [24, 24]]
    assert site.manifest["front"]["tile"] == [24, 24]
    with Image.open(tmp_path / "atlas" / "images" / "front.webp") as front:
        assert front.size == (8 * 24, 24 * (3 + math.ceil(len(site.manifest["front"]["largest"]) / 8)))
    pixels = [site[f"{layer}:0"].details["pictures"]["pixels"] for layer in ("0", "3", "5")]
    assert pixels == [[9, 9], [16, 16], None]
    at_centre = model[:4](images)[:, :, 5, 5].amax(0).tolist()
    assert [site[f"3:{c}"].details["pictures"]["strongest"] for c in range(6)] == pytest.approx(
        at_centre, rel=1e-4
    )
    assert all(each["box"] for each in site["3:0"].details["strongest"])


@pytest.mark.parametrize("n", [2, 7, 12, 40])
def test_large_images_are_ablated_in_small_batches_of_at_least_two(n, monkeypatch):
    monkeypatch.setattr("featurelens.atlas.effects.MOST_VALUES", 100)  # of images of 64
    loader = sample_loader(small(loader=data(n)), torch.arange(n))
    sizes = [len(images) for images, _ in loader]
    assert sum(sizes) == n
    assert 2 <= min(sizes) <= max(sizes) <= 5
    assert torch.equal(torch.cat([labels for _, labels in loader]), data(n)[1])


def test_a_judgement_says_where_it_holds(whole):
    site = AtlasSite(whole)
    assert site["0:0"].details["pictures"]["judgement"].startswith("at the centre of the map: ")
    assert not site["6:0"].details["pictures"]["judgement"].startswith("at the centre")


@pytest.mark.filterwarnings("ignore:.*holds .* NaN")
def test_images_that_give_nan_are_told(whole, tmp_path):
    images, labels = data()
    images[sampled_rows()[3]] = torch.nan
    site = small(loader=(images, labels), steps=0, ablation=0).build(tmp_path / "atlas")
    assert site.manifest["notes"] == [
        (
            "1 sampled image gave NaN or infinite activations. They count as 0 in information, neighbours and the similarity of "
            "layers, and are left out of other figures."
        )
    ]
    assert AtlasSite(whole).manifest["notes"] == []
