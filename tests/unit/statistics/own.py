"""A statistic as a user writes one."""

from dataclasses import dataclass

import torch

import featurelens as fl


@dataclass(eq=False)
class Largest(fl.Statistic):
    scale: float

    def measure(self, values, first_row, labels):
        return {"largest": values.transpose(0, 1).flatten(1).amax(1)}

    def combine(self, one, other):
        return {"largest": torch.maximum(one["largest"], other["largest"])}

    def summarize(self, state):
        return self.scale * state["largest"]
