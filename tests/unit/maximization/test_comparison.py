"""The found against a plain loop over the data, whatever the batches, and what it says of dead and weak channels."""

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.maximization.plain_images import plain_images
from tests.nets import images, plain, seeded


def result_of(model=None, wanted="conv_2", steps=4, **settings):
    image = fl.FourierImage((1, 8, 8))
    return fl.ActivationMaximizer(model or plain(), image, steps=steps, **settings).run(wanted)


def test_it_is_what_a_plain_loop_finds():
    model, data = plain().eval(), images(50, seed=3)
    wanted = ["conv_2", fl.objectives.logit(1) - 2 * fl.objectives.l2()]
    found = result_of(model, wanted).compare(data, top=5)
    with torch.no_grad():
        maps = model[:4](data).mean((2, 3))
        logits = model(data)[:, 1] - 2 * (data - 0.5).square().mean((1, 2, 3))
    values = torch.cat([maps, logits[:, None]], dim=1).T  # (7, 50)
    top = values.topk(5)
    assert torch.equal(found.top_indices, top.indices)
    assert torch.allclose(found.top_scores, top.values, atol=1e-5)
    assert torch.allclose(found.data_maximum, values.amax(1), atol=1e-5)
    assert torch.allclose(found.data_minimum, values.amin(1), atol=1e-5)
    assert torch.equal(found.top_images, data[top.indices])
    assert found.n == 50
    assert len(found) == 7


@pytest.mark.parametrize("size", [1, 7, 50])
def test_batches_and_labels_change_nothing(size):
    result, data = result_of(), images(50, seed=3)
    whole = result.compare(data)
    parts = result.compare([(batch, torch.zeros(len(batch))) for batch in data.split(size)])
    assert torch.equal(whole.top_indices, parts.top_indices)
    assert torch.allclose(whole.top_scores, parts.top_scores, atol=1e-5)
    assert torch.equal(whole.top_images, parts.top_images)


def test_fewer_images_than_asked_for():
    assert result_of().compare(images(3), top=8).top_images.shape == (6, 3, 1, 8, 8)


def test_its_scores_are_the_results():
    result = result_of()
    assert torch.allclose(result.compare(images()).scores, result.scores, atol=1e-5)
    alone = fl.objectives.channel("conv_2", 1)
    varied = result_of(wanted=[alone + 5 * fl.objectives.diversity("conv_1")] * 2)
    found = varied.compare(images())
    with torch.no_grad():
        expected = plain().eval()[:4](varied.images).mean((2, 3))[:, 1]
    assert torch.allclose(found.scores, expected, atol=1e-5)


def three_kinds():
    """Channel 0 answers to light, channel 1 never to anything, channel 2 to the lack of light."""

    def build():
        conv = nn.Conv2d(1, 3, 1)
        with torch.no_grad():
            conv.weight[:] = torch.tensor([1.0, 0.1, -1.0]).view(3, 1, 1, 1)
            conv.bias[:] = torch.tensor([0.0, -5.0, 1.0])
        return nn.Sequential(conv, nn.ReLU())

    return seeded(build)


def test_it_says_what_is_dead_stronger_and_weaker():
    result = result_of(three_kinds(), "relu_1", steps=40, lr=0.3)
    grey = 0.3 + 0.1 * images(20)
    found = result.compare(grey)
    assert found.dead.tolist() == [False, True, False]
    assert found.stronger.tolist() == [True, False, True]
    assert found.ratio[0] > 1
    assert found.ratio[1].isnan()
    black = result_of(three_kinds(), "relu_1", steps=1).compare(torch.cat([grey, torch.zeros(1, 1, 8, 8)]))
    assert black.weaker.tolist() == [False, False, True]
    assert black.judgements[1:] == (
        "dead: neither real nor optimized images change it",
        "weaker than real images: do not trust the picture",
    )
    assert black.top_indices[2, 0] == 20
    assert (
        repr(found)
        == "RealImageComparison(3 objectives against 20 real images; 2 stronger than any of them; 1 dead)"
    )


def test_a_unit_that_only_the_optimized_image_wakes_is_not_dead():
    result = result_of(three_kinds(), "relu_1:0", steps=40, lr=0.3)
    found = result.compare(torch.zeros(5, 1, 8, 8))
    assert found.judgements == ("stronger than any real image; the optimized image is a single colour",)


def test_it_prints_as_a_table():
    text = str(result_of(three_kinds(), "relu_1").compare(0.3 + 0.1 * images(20))).splitlines()
    assert text[0].split("  ")[0] == "objective"
    assert text[2].startswith("relu_1:1           0      0      0      -  0, 1, 2")
    assert text[-1].startswith("3 objectives against 20 real images; ")


def test_real_images_go_the_way_of_the_optimized():
    sample = images(20) * 4 - 2
    model = three_kinds()
    ranged = fl.ActivationMaximizer(model, sample=sample, steps=2).run("relu_1").compare(sample)
    by_hand = fl.ActivationMaximizer(
        model, fl.FourierImage((1, 8, 8)), preprocess=lambda x: x * 4 - 2, steps=2
    )
    handed = by_hand.run("relu_1").compare(images(20))
    assert torch.equal(ranged.top_indices, handed.top_indices)
    assert torch.allclose(ranged.top_scores, handed.top_scores, atol=1e-4)
    assert torch.allclose(
        ranged.top_images, handed.top_images, atol=0.01
    )  # [0, 1] up to the sample's extremes


def test_a_result_is_saved_as_pictures_and_tensors(tmp_path):
    from matplotlib.image import imread

    result = result_of(wanted=["conv_2:1", fl.objectives.logit(2) - 0.5 * fl.objectives.l2()])
    result.save(tmp_path / "new" / "folder")
    names = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert names == ["000_conv_2-1.png", "001_logit-2-minus-0.5-l2.png", "result.pt"]
    loaded = torch.load(tmp_path / "new" / "folder" / "result.pt", weights_only=True)
    assert torch.equal(loaded["images"], result.images)
    assert loaded["objectives"] == ["conv_2:1", "logit 2 - 0.5 l2"]
    picture = torch.tensor(imread(tmp_path / "new" / "folder" / "000_conv_2-1.png"))[..., 0]
    assert torch.allclose(picture, result.images[0, 0], atol=0.5 / 255 + 1e-6)


def test_file_names_tell_what_was_maximized_from_what_was_minimized(tmp_path):
    conv = fl.objectives.channel("conv_1", 0)
    wanted = [
        conv,
        -1 * conv,
        conv + 1e-5 * fl.objectives.logit(2),
        conv - fl.objectives.logit(2),
        "conv_1:-1",
    ]
    result_of(wanted=wanted).save(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [
        "000_conv_1-0.png",
        "001_minus-conv_1-0.png",
        "002_conv_1-0-1e-05-logit-2.png",
        "003_conv_1-0-minus-logit-2.png",
        "004_conv_1-minus-1.png",
    ]


def scaled(factor):
    def build():
        conv = nn.Conv2d(1, 2, 1)
        with torch.no_grad():
            conv.weight[:] = factor * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
            conv.bias[:] = 0.0
        return conv

    return nn.Sequential(seeded(build))


def test_a_faint_channel_is_not_dead_nor_one_seen_on_a_single_image():
    assert not result_of(scaled(1e-9), "conv_1").compare(images(20)).dead.any()
    assert not result_of(three_kinds(), "relu_1").compare(0.3 + 0.1 * images(1)).dead.any()


def test_diversity_alone_is_not_judged():
    found = result_of(wanted=[fl.objectives.diversity("conv_1"), fl.objectives.channel("conv_2", 0)]).compare(
        images(20)
    )
    assert found.judgements[0] == "not judged: diversity is between images"
    assert found.judged.tolist() == [False, True]
    assert not (found.dead | found.stronger | found.weaker)[0]


def test_an_image_of_one_colour_is_told():
    wanted = [fl.objectives.neuron("relu_1", 0, (2, 2)), "relu_1:1"]
    found = result_of(three_kinds(), wanted, steps=80, lr=1.0).compare(images(5) * 0.5)
    assert found.uniform.tolist() == [False, True]
    assert found.judgements == (
        "stronger than any real image",
        "dead: neither real nor optimized images change it; the optimized image is a single colour",
    )


def test_plain_images_are_scored_too():
    """A filter that wants a colour: a picture made by too few steps loses to the plain colour, a good one does not."""
    conv = nn.Conv2d(3, 2, 1, bias=False)
    conv.weight.data[:] = torch.tensor([[-0.5, -0.5, 1.0], [0.5, 0.5, -1.0]]).view(2, 3, 1, 1)
    data = 0.4 + 0.2 * torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for steps, plainer in ((4, True), (256, False)):
        maximizer = fl.ActivationMaximizer(conv, fl.FourierImage((3, 16, 16)), steps=steps, progress=False)
        found = maximizer.run("").compare(data, progress=False)
        assert found.plain_scores.tolist() == pytest.approx([1.0, 1.0])
        blue, yellow = found.plain_images.mean((2, 3)).tolist()
        assert (blue, yellow) == ([0, 0, 1], [1, 1, 0])
        assert found.plainer.tolist() == [plainer, plainer]
        told = "stronger than any real image; a plain image scores higher: do not trust the details"
        assert (told in found.judgements) == plainer
    assert "2 below a plain image" not in repr(found)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 9, 16), (3, 32, 32), (5, 4, 40)])
def test_plain_images_are_colours_waves_and_the_mean(shape):
    mean = torch.rand(shape)
    found = plain_images(shape, mean)
    assert found.shape[1:] == shape
    assert torch.equal(found[-1], mean)
    assert float(found.min()) == 0
    assert float(found.max()) == 1
    assert len({tuple(image.flatten().tolist()) for image in found}) == len(found)
