"""Results in files: what is saved is loaded, whatever the objectives are."""

import re
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import nn

import featurelens as fl
from tests.nets import images, plain


def contrast(activations):
    return activations.flatten(1).var(1)


def every_objective():
    o = fl.objectives
    return [
        o.channel("conv_1", 1) - 0.5 * o.logit(2),
        o.channel("conv_1", 1, axis=2),
        o.exponential(o.neuron("conv_1", 2)),
        o.neuron("conv_1", 2, (0, -1)),
        o.direction("conv_2", torch.linspace(-1, 1, 6)),
        o.layer_energy("conv_2") - o.total_variation(),
        o.logit(1) + 2 * o.diversity("conv_1") - o.l2() - o.laplacian(),
    ]


def result_of(wanted, model=None, **settings):
    image = fl.FourierImage((1, 8, 8))
    return fl.ActivationMaximizer(model or plain(), image, steps=2, progress=False, **settings).run(wanted)


def assert_same(one, other, names):
    for name in names:
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    assert one.objectives == other.objectives


def test_a_result_comes_back_and_can_be_compared(tmp_path):
    model, data = plain(), images(20)
    result = result_of(every_objective(), model)
    result.save(tmp_path)
    loaded = fl.MaximizationResult.load(tmp_path, model=model)
    assert_same(result, loaded, ("images", "scores", "history"))
    one, other = (each.compare(data, progress=False) for each in (result, loaded))
    assert_same(one, other, ("scores", "data_maximum", "top_indices", "top_images"))
    with pytest.raises(FrozenInstanceError):
        loaded.images = None
    assert fl.MaximizationResult.load(tmp_path, model=nn.DataParallel(model)).model is model


def test_a_result_without_its_model_cannot_be_compared(tmp_path):
    result_of("conv_1").save(tmp_path)
    loaded = fl.MaximizationResult.load(tmp_path)
    assert repr(loaded) == "MaximizationResult(4 images of 1x8x8, 2 steps)"
    with pytest.raises(ValueError, match="the result was loaded without its model"):
        loaded.compare(images())


def test_preprocess_is_given_again_and_the_range_of_a_sample_is_kept(tmp_path):
    model = plain()
    prepared = result_of("conv_1", model, preprocess=torch.neg)
    prepared.save(tmp_path / "prepared")
    with pytest.raises(ValueError, match="were optimized with preprocess: pass the same"):
        fl.MaximizationResult.load(tmp_path / "prepared", model=model)
    loaded = fl.MaximizationResult.load(tmp_path / "prepared", model=model, preprocess=torch.neg)
    assert torch.allclose(loaded.compare(images()).scores, prepared.scores, atol=1e-5)
    sample = 4 * images(20) - 2
    ranged = result_of("conv_1", model, sample=sample)
    ranged.save(tmp_path / "ranged")
    with pytest.raises(ValueError, match="were optimized without preprocess: leave it out"):
        fl.MaximizationResult.load(tmp_path / "ranged", model=model, preprocess=torch.neg)
    loaded = fl.MaximizationResult.load(tmp_path / "ranged", model=model)
    assert torch.equal(loaded.compare(sample).top_images, ranged.compare(sample).top_images)


def test_a_comparison_comes_back(tmp_path):
    comparison = result_of(every_objective()).compare(images(20), top=3, progress=False)
    comparison.save(tmp_path / "comparison.pt")
    loaded = fl.RealImageComparison.load(tmp_path / "comparison.pt")
    assert str(loaded) == str(comparison)
    names = ("images", "scores", "data_maximum", "data_minimum", "top_indices", "top_scores", "top_images")
    assert_same(comparison, loaded, names)
    with pytest.raises(FrozenInstanceError):
        loaded.n = 3


def test_the_function_of_a_custom_objective_is_not_saved(tmp_path):
    model = plain()
    result = result_of(fl.objectives.custom("conv_1", contrast), model)
    result.save(tmp_path)
    loaded = fl.MaximizationResult.load(tmp_path, model=model)
    assert str(loaded.objectives[0]) == "contrast of conv_1"
    with pytest.raises(RuntimeError, match="the function of a custom objective is not saved"):
        loaded.compare(images())


def test_other_files_are_refused(tmp_path):
    comparison = result_of("conv_1").compare(images(), progress=False)
    path = tmp_path / "result.pt"
    for content in ({"kind": "RealImageComparison", "terms": [[(1.0, "torch", {})]]}, {"a": 1}, [3]):
        torch.save(content, path)
        with pytest.raises(
            ValueError, match=re.escape(f"{path} was not written by RealImageComparison.save")
        ):
            fl.RealImageComparison.load(path)
    comparison.save(path)
    with pytest.raises(ValueError, match=r"result\.pt was not written by MaximizationResult\.save"):
        fl.MaximizationResult.load(tmp_path)
    with pytest.raises(TypeError, match="path must be a file's path; got 3"):
        fl.RealImageComparison.load(3)
    with pytest.raises(TypeError, match="folder must be a path; got 3"):
        fl.MaximizationResult.load(3)


def test_an_empty_file_and_a_file_for_a_folder_are_refused(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    for kind in (fl.RealImageComparison, fl.MaximizationResult, fl.AblationResult):
        with pytest.raises(ValueError, match=rf"empty\S* was not written by {kind.__name__}\.save"):
            kind.load(path)
    with pytest.raises(ValueError, match=r"was not written by RealImageComparison\.save"):
        fl.RealImageComparison.load(tmp_path)


def test_a_save_that_fails_leaves_nothing_behind(tmp_path):
    comparison = result_of("conv_1").compare(images(), progress=False)
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        comparison.save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
