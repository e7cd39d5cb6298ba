import pytest
import torch
from matplotlib.figure import Figure

import featurelens as fl
from tests.nets import Nested, images, plain, seeded


def recorded(**options):
    return fl.ActivationRecorder(plain(), ["conv_1", "conv_2"], **options)(images())


def test_it_is_an_ordered_mapping():
    acts = recorded()
    assert list(acts) == ["0", "3"]
    assert len(acts) == 2
    assert [value.shape[1] for value in acts.values()] == [4, 6]
    assert acts["conv_1#1"] is acts["0"], "the only call of a layer is its first"
    assert "1" not in acts
    assert acts.get("1") is None


def test_it_prints_shapes():
    assert repr(recorded()) == "Activations(0: (4, 4, 8, 8), 3: (4, 6, 4, 4))"
    assert "<td>3</td><td>(4, 6, 4, 4)</td><td>float32</td>" in recorded()._repr_html_()


def test_saved_and_loaded(tmp_path):
    acts = recorded(stop_early=False)
    acts.save(tmp_path / "acts.pt")
    again = fl.Activations.load(tmp_path / "acts.pt")
    assert torch.equal(again["conv_2"], acts["3"])
    assert torch.equal(again.output, acts.output)
    nested = fl.ActivationRecorder(seeded(Nested), "lstm")(torch.rand(2, 3, 1, 8))
    nested.save(tmp_path / "nested.pt")
    assert torch.equal(fl.Activations.load(tmp_path / "nested.pt")["lstm"][1][0], nested["lstm"][1][0])


def test_it_can_be_made_by_hand():
    acts = fl.Activations({"a": torch.ones(2)}, output=torch.zeros(2))
    assert acts["a"].sum() == 2
    with pytest.raises(KeyError, match="no activations of 'b'"):
        acts["b"]


def test_it_plots_itself():
    figure = recorded().plot("conv_2", image=1)
    assert isinstance(figure, Figure)
