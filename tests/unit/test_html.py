"""What results look like in a notebook."""

import inspect

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens import atlas, information, similarity, statistics
from featurelens._html import paragraph, table

RESULTS = sorted(
    {
        value
        for module in (fl, information, similarity, statistics, atlas)
        for name in module.__all__
        if inspect.isclass(value := getattr(module, name))
        and name.endswith(("Result", "Curve", "Comparison", "Table"))
    },
    key=lambda value: value.__name__,
)


@pytest.mark.parametrize("result", RESULTS, ids=lambda value: value.__name__)
def test_every_result_has_an_html_form(result):
    assert hasattr(result, "_repr_html_")


def test_names_of_the_user_are_escaped():
    assert paragraph("<b>") == "<p>&lt;b&gt;</p>"
    assert "<script>" not in table([["<script>"], ["<script>"]])
    model = nn.Sequential()
    model.add_module("<script>alert(1)</script>", nn.Linear(3, 2))
    images = torch.rand(60, 3)
    shown = [
        fl.list_layers(model, images),
        fl.ActivationRecorder(model, nn.Linear)(images),
        fl.layer_information(model, nn.Linear, images, torch.arange(60) % 2),
        fl.ChannelAblator(model, "linear_1").sweep(images),
        fl.ActivationRecorder(model, nn.Linear).stream(images, [statistics.Moments()]),
    ]
    for result in shown:
        assert "<script>" not in result._repr_html_()
        assert "&lt;script&gt;" in result._repr_html_() or not isinstance(result, fl.Activations)


def test_a_maximization_lists_its_scores():
    model = nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU())
    result = fl.ActivationMaximizer(model, fl.FourierImage((1, 8, 8)), steps=2, progress=False).run("conv_1")
    page = result._repr_html_()
    assert page.count("<tr>") == 11
    assert f"<td>conv_1:3</td><td>{float(result.scores[3]):.4g}</td>" in page
    compared = result.compare(torch.rand(8, 1, 8, 8), progress=False)
    assert compared._repr_html_().count("<tr>") == 13
