"""Objectives against a slow replica that looks at one image at a time, in float64."""

import pytest
import torch
from torch import nn

import featurelens as fl
from featurelens.maximization.evaluation import Evaluation, Layers
from tests.nets import plain, seeded


def model():
    return seeded(
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 5))
    ).double()


def batch(n):
    return torch.rand(n, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


VECTOR = torch.linspace(-1, 1, 4)

# objective, and what it is for one image (2, 6, 6) with maps (4, 4, 4) of the convolution and logits (5,)
CASES = [
    (fl.objectives.channel("conv_1", 2), lambda x, maps, logits: maps[2].mean()),
    (fl.objectives.channel("conv_1", -1), lambda x, maps, logits: maps[3].mean()),
    (fl.objectives.channel("conv_1", 1, axis=2), lambda x, maps, logits: maps[:, 1].mean()),
    (fl.objectives.channel("conv_1", 1, axis=-1), lambda x, maps, logits: maps[:, :, 1].mean()),
    (fl.objectives.neuron("conv_1", 2), lambda x, maps, logits: maps[2, 2, 2]),
    (fl.objectives.neuron("conv_1", 2, (0, -1)), lambda x, maps, logits: maps[2, 0, 3]),
    (fl.objectives.neuron("linear_1", 2), lambda x, maps, logits: logits[2]),
    (fl.objectives.logit(3), lambda x, maps, logits: logits[3]),
    (
        fl.objectives.direction("conv_1", VECTOR),
        lambda x, maps, logits: (maps * VECTOR[:, None, None]).sum(0).mean(),
    ),
    (
        fl.objectives.direction("linear_1", [1.0, 0, 0, 0, -2]),
        lambda x, maps, logits: logits[0] - 2 * logits[4],
    ),
    (fl.objectives.layer_energy("conv_1"), lambda x, maps, logits: (maps**2).mean()),
    (
        fl.objectives.exponential(fl.objectives.channel("conv_1", 2)),
        lambda x, maps, logits: -(-maps[2]).exp().mean(),
    ),
    (fl.objectives.exponential(fl.objectives.logit(1)), lambda x, maps, logits: -(-logits[1]).exp()),
    (
        fl.objectives.total_variation(),
        lambda x, maps, logits: torch.cat([x.diff(dim=1).flatten(), x.diff(dim=2).flatten()]).abs().mean(),
    ),
    (fl.objectives.l2(), lambda x, maps, logits: ((x - 0.5) ** 2).mean()),
    (fl.objectives.laplacian(), lambda x, maps, logits: _laplacian(x)),
]


def _laplacian(x):
    total = 0.0
    for plane in x:
        for i in range(6):
            for j in range(6):
                near = [(max(i - 1, 0), j), (min(i + 1, 5), j), (i, max(j - 1, 0)), (i, min(j + 1, 5))]
                total = total + (sum(plane[at] for at in near) - 4 * plane[i, j]) ** 2
    return total / x.numel()


def replica(function, x, network):
    maps = network[0](x[None])[0]
    return function(x, maps, network(x[None])[0])


def evaluate(objectives, images, network):
    layers = Layers(network, [layer for objective in objectives for layer in objective.layers])
    return Evaluation(layers, objectives), layers.outputs(images)


def test_all_terms_at_once_are_the_replicas_image_by_image():
    network = model()
    objectives = [objective for objective, _ in CASES]
    images = batch(len(CASES))
    evaluation, outputs = evaluate(objectives, images, network)
    found = evaluation.diagonal(outputs, images)
    expected = torch.stack([replica(f, x, network) for x, (_, f) in zip(images, CASES, strict=True)])
    assert torch.allclose(found.double(), expected, atol=1e-5)
    every = evaluation.matrix(outputs, images)
    slow = torch.stack([torch.stack([replica(f, x, network) for x in images]) for _, f in CASES])
    assert torch.allclose(every.double(), slow, atol=1e-5)


def test_sums_are_sums_of_their_terms():
    network, images = model(), batch(2)
    one, other = fl.objectives.channel("conv_1", 0), fl.objectives.logit(2)
    total = 2 * one - other / 4 + (-fl.objectives.l2())
    parts = [evaluate([o] * 2, images, network) for o in (one, other, fl.objectives.l2() + 0 * one, total)]
    a, b, c, found = (evaluation.diagonal(outputs, images) for evaluation, outputs in parts)
    assert torch.allclose(found, 2 * a - b / 4 - c, atol=1e-6)
    assert str(total) == "2 conv_1:0 - 0.25 logit 2 - l2"
    assert str(sum([one, other])) == "conv_1:0 + logit 2"
    assert one == fl.objectives.channel("conv_1", 0)
    assert hash(one) == hash(fl.objectives.channel("conv_1", 0))


def test_diversity_is_the_mean_cosine_of_gram_matrices_among_equals():
    network, images = model(), batch(5)
    facets, alone = fl.objectives.diversity("conv_1"), 2 * fl.objectives.diversity("conv_1")
    evaluation, outputs = evaluate([facets, facets, alone, facets, fl.objectives.logit(0)], images, network)
    found = evaluation.diagonal(outputs, images).double()
    grams = [network[0](x[None])[0].flatten(1) for x in images]
    grams = [(maps @ maps.T).flatten() for maps in grams]

    def cosine(i, j):
        return grams[i] @ grams[j] / grams[i].norm() / grams[j].norm()

    both = facets + fl.objectives.diversity("conv_1", axis=2)
    evaluation, outputs = evaluate([both] * 5, images, network)
    one, other = (
        evaluate([term] * 5, images, network)[0].diagonal(outputs, images)
        for term in (facets, fl.objectives.diversity("conv_1", axis=2))
    )
    assert torch.allclose(evaluation.diagonal(outputs, images), one + other, atol=1e-6)

    for row, others in {0: (1, 3), 1: (0, 3), 3: (0, 1)}.items():
        assert torch.isclose(found[row], -sum(cosine(row, other) for other in others) / 2, atol=1e-6)
    assert found[2] == 0


@pytest.mark.parametrize(
    "penalty", [fl.objectives.total_variation(), fl.objectives.l2(), fl.objectives.laplacian()], ids=str
)
def test_gradients_of_penalties_agree_with_finite_differences(penalty):
    term = penalty.terms[0][1]
    images = batch(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: term.values([term, term], x, torch.arange(2)), (images,))


def loudness(activations):
    return activations.flatten(1).square().mean(1)


def test_an_objective_of_one_s_own_is_that_of_the_library():
    maximizer = fl.ActivationMaximizer(plain(), fl.FourierImage((1, 8, 8)), steps=4, progress=False)
    result = maximizer.run(
        [
            fl.objectives.custom("conv_1", loudness) - 0.1 * fl.objectives.l2(),
            fl.objectives.custom("conv_1", loudness),
        ]
    )
    assert str(result.objectives[0]) == "loudness of conv_1 - 0.1 l2"
    activations = fl.ActivationRecorder(plain(), "conv_1")(result.images)["conv_1"]
    torch.testing.assert_close(result.scores[1], loudness(activations)[1])
    again = maximizer.run(
        [
            fl.objectives.custom("conv_1", loudness) - 0.1 * fl.objectives.l2(),
            fl.objectives.custom("conv_1", loudness),
        ]
    )
    assert torch.equal(result.images, again.images)
    alone = maximizer.run(fl.objectives.custom("conv_1", lambda a: 2 * loudness(a)))
    assert str(alone.objectives[0]) == "<lambda> of conv_1"


def test_objectives_of_one_s_own_that_cannot_be_followed():
    maximizer = fl.ActivationMaximizer(plain(), fl.FourierImage((1, 8, 8)), steps=4, progress=False)
    with pytest.raises(TypeError, match=r"function must be callable on activations \(N, \.\.\.\); got 3"):
        fl.objectives.custom("conv_1", 3)
    with pytest.raises(ValueError, match=r"must return one number for each image, a tensor \(2,\)"):
        maximizer.run(fl.objectives.custom("conv_1", torch.mean))
    with pytest.raises(ValueError, match="passes no gradient to the image: its function detaches it"):
        maximizer.run(fl.objectives.custom("conv_1", lambda activations: loudness(activations).detach()))


class Grey(fl.Parametrization):
    def start(self, generators):
        return torch.stack([torch.randn(1, generator=generator) for generator in generators])

    def images(self, parameters):
        return torch.sigmoid(parameters)[:, :, None, None].expand(-1, 1, 8, 8)


class Darken(fl.transforms.Transform):
    numbers = 1

    def __call__(self, images, numbers):
        return images * (1 - 0.2 * numbers[:, :, None, None])


def test_parametrizations_and_transforms_of_one_s_own():
    maximizer = fl.ActivationMaximizer(
        plain(),
        Grey(),
        transforms=[Darken(), lambda x: x.flip(3), fl.transforms.Jitter(1)],
        steps=8,
        progress=False,
    )
    assert repr(maximizer).endswith(", Grey())")
    result = maximizer.run("conv_1")
    assert result.images.flatten(1).std(1).max() == 0
    assert torch.equal(result.images, maximizer.run("conv_1").images)


class Tokens(torch.nn.Module):
    """Patches of an image as tokens `(N, L, D)`, and two outputs."""

    def __init__(self):
        super().__init__()
        self.patch, self.mix = torch.nn.Conv2d(1, 5, 2, stride=2), torch.nn.Linear(5, 5)

    def forward(self, images):
        tokens = self.mix(self.patch(images).flatten(2).mT)
        return tokens.mean(1), tokens.amax(1)


def test_diversity_asks_for_the_axis_of_the_channels_and_takes_it():
    model = Tokens().eval()
    maximizer = fl.ActivationMaximizer(model, fl.PixelImage((1, 8, 8)), steps=2, progress=False)
    with pytest.raises(
        ValueError, match=r"use fl\.objectives\.diversity\('mix', axis=-1\) for the features of tokens"
    ):
        maximizer.run([fl.objectives.channel("patch", 0) + fl.objectives.diversity("mix")] * 2)
    result = maximizer.run([fl.objectives.diversity("mix", axis=-1)] * 2)
    tokens = fl.ActivationRecorder(model, "mix")(result.images)["mix"]
    grams = (tokens.mT @ tokens).flatten(1)
    expected = -torch.cosine_similarity(grams[:1], grams[1:])
    torch.testing.assert_close(result.scores, expected.expand(2), rtol=1e-4, atol=1e-5)


def test_a_logit_of_one_of_several_outputs_has_to_be_chosen():
    maximizer = fl.ActivationMaximizer(Tokens().eval(), fl.PixelImage((1, 8, 8)), steps=2, progress=False)
    with pytest.raises(ValueError, match="choose one by the name of the layer that returns it, as in "):
        maximizer.run(fl.objectives.logit(2))
