"""Statistics as a user writes them."""

from dataclasses import dataclass

import torch

import featurelens as fl


@dataclass(eq=False)
class Largest(fl.statistics.Statistic):
    scale: float

    def measure(self, values, first_row, labels):
        return {"largest": values.transpose(0, 1).flatten(1).amax(1)}

    def combine(self, one, other):
        return {"largest": torch.maximum(one["largest"], other["largest"])}

    def summarize(self, state):
        return self.scale * state["largest"]


@dataclass(eq=False)
class Tally(fl.statistics.Statistic):
    """Counts rows, and keeps no tensor."""

    def measure(self, values, first_row, labels):
        return {"number": len(values)}

    def combine(self, one, other):
        return {"number": one["number"] + other["number"]}

    def summarize(self, state):
        return state["number"]
