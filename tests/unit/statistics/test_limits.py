"""What statistics cannot take is refused in words, and the rest at the edge of what they take is right."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import featurelens as fl
from featurelens.statistics import Statistic

STATISTICS = [
    fl.statistics.Moments(),
    fl.statistics.Histogram(),
    fl.statistics.Histogram(edges=[0.0, 1.0]),
    fl.statistics.TopK(2),
    fl.statistics.Covariance(),
    fl.statistics.Activity(),
    fl.statistics.MonoScore(torch.eye(3)),
    fl.statistics.Sample(2),
]


@pytest.mark.parametrize("statistic", STATISTICS, ids=repr)
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("sparse_coo float32 tensor (3, 3)", lambda: torch.eye(3).to_sparse()),
        ("meta float32 tensor (3, 3) on meta", lambda: torch.zeros(3, 3, device="meta")),
        (
            "quantized qint8 tensor (3, 3)",
            lambda: torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8),
        ),
    ],
    ids=["sparse", "meta", "quantized"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_dense_are_refused(
    statistic: Statistic, kind: str, values: Callable[[], torch.Tensor]
) -> None:
    statistic = statistic.fresh()
    with pytest.raises(TypeError, match=re.escape(f"values must be a dense tensor; got a {kind}")):
        statistic.update(values())
    assert statistic.state is None
    assert statistic.rows == 0


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"first_row": -1}, ValueError, "first_row must be at least 0; got -1"),
        ({"first_row": 1.5}, TypeError, "first_row must be a whole number; got 1.5"),
        ({"labels": 5}, TypeError, r"labels must be a tensor \(N,\); got 5"),
        ({"labels": torch.tensor(3)}, ValueError, r"one label for each of 3 rows; got int64 tensor \(\)"),
    ],
)
def test_rows_and_labels_are_checked(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    strongest = fl.statistics.TopK(2)
    with pytest.raises(error, match=message):
        strongest.update(torch.rand(3, 2), **kwargs)
    assert strongest.state is None


def test_arrays_that_cannot_be_written_to_are_read() -> None:
    edges = np.linspace(0, 1, 5)
    edges.flags.writeable = False
    histogram = fl.statistics.Histogram(edges=edges)
    histogram.update(torch.rand(9, 2))
    assert histogram.edges == (0, 0.25, 0.5, 0.75, 1)
    assert histogram.compute().quantile(edges).shape == (5, 2)
    assert str(fl.objectives.direction("conv", edges)) == str(fl.objectives.direction("conv", edges.tolist()))


@pytest.mark.parametrize("edges", ["ab", [0, "a"], iter([1, 2])])
def test_edges_are_numbers(edges: Any) -> None:
    with pytest.raises(TypeError, match="edges must be a list of numbers; got"):
        fl.statistics.Histogram(edges=edges)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_the_strongest_of_float8_maps(dtype: torch.dtype) -> None:
    values = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    strongest = fl.statistics.TopK(2)
    strongest.update(values)
    assert torch.equal(strongest.compute().values, values.double().flatten(2).amax(2).T.topk(2).values)


@pytest.mark.parametrize("statistic", [fl.statistics.Moments(), fl.statistics.Covariance()], ids=repr)
def test_sums_beyond_float64_are_told_rather_than_nan(statistic: Statistic) -> None:
    statistic = statistic.fresh()
    for number in range(1000):
        statistic.update(torch.full((1, 2), 1e149 * (1 + number % 2), dtype=torch.float64))
    with pytest.raises(ValueError, match="overflow float64"):
        statistic.compute()


@dataclass(eq=False)
class Along(Statistic):
    """How many values lie on the positive side of a direction."""

    direction: torch.Tensor

    def measure(self, values: torch.Tensor, first_row: int, labels: torch.Tensor | None) -> dict[str, Any]:
        return {"above": (values.flatten(1) @ self.direction > 0).sum()}

    def combine(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        return {"above": one["above"] + other["above"]}

    def summarize(self, state: dict[str, Any]) -> Any:
        return state["above"]


def test_statistics_whose_settings_are_tensors_merge_from_files(tmp_path: Path) -> None:
    recorder = fl.ActivationRecorder(torch.nn.Identity(), "")
    batches = [torch.ones(2, 3), torch.ones(3, 3)]
    for index in range(2):
        part = recorder.stream(batches, Along(torch.arange(3.0)), shard=(index, 2), progress=False)
        part.save(tmp_path / f"{index}.pt")
    merged = fl.StreamResult.merge(tmp_path / f"{index}.pt" for index in (1, 0))
    assert merged[""].along == 5
    with pytest.raises(ValueError, match="other must be a statistic with the same settings"):
        Along(torch.arange(3.0)).merge(Along(torch.ones(3)))
