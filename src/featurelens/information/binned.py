"""Mutual information from a table of counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from featurelens._checks import check_choice, check_whole
from featurelens.information.discretization import STRATEGIES, Strategy, bin_codes
from featurelens.information.entropy import (
    CORRECTIONS,
    Correction,
    information_from_codes,
    pointwise_information,
)
from featurelens.information.estimator import Measurement, MutualInformation
from featurelens.information.resampling import Scatter
from featurelens.information.variables import Variable, label_codes

if TYPE_CHECKING:
    import torch

MOST_BINS = 64
SAMPLES_PER_CELL = 5
HEAVY_VALUE = 0.05


@final
@dataclass(frozen=True, kw_only=True)
class BinnedMutualInformation(MutualInformation):
    """Mutual information of the variables after cutting each column into bins.

    The plug-in value is ``(S_xy - S_x - S_y) / n + log n`` with ``S = sum c log c`` over the cell counts c. It is too
    high by about ``cells / 2n``. The default correction removes this bias exactly where there is no dependence, for
    every number of samples, bins and labels. The value is the information between the *binned* variables: dependence
    within a bin is not counted.

    Parameters
    ----------
    bins : int or "auto"
        Bins per continuous column, at least 2. ``"auto"`` aims for five samples per cell of the joint table:
        about ``sqrt(N / 5)`` bins per side (at most 64), shared between the columns of a side. Labels are
        never binned.
    strategy : {"quantile", "uniform"}
        Equal counts (a value that repeats often gets a bin of its own) or equal widths.
    correction : {"permutation", "miller-madow", "grassberger", "none"}
        The exact mean of the plug-in value over all pairings with the same counts per bin (Vinh, Epps & Bailey 2010),
        scaled by how many cells are occupied; Miller (1955), "Note on the bias of information estimates"; Grassberger
        (2003), "Entropy estimates from insufficient samplings", which is up to 0.08 nats off for bins of equal count;
        or none.

    Raises
    ------
    TypeError, ValueError
        If an option is not one of the above.

    Examples
    --------
    >>> import torch
    >>> x = torch.arange(1000) % 8
    >>> result = BinnedMutualInformation().estimate(x, x // 2, units="bits")
    >>> round(result.value, 2)
    2.0
    """

    bins: int | Literal["auto"] = "auto"
    strategy: Strategy = "quantile"
    correction: Correction = "permutation"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bins", check_binning(self.bins, self.strategy, self.correction))

    def _measure(self, x: Variable, y: Variable, generator: torch.Generator) -> Measurement:
        bins_x, bins_y = self._bins_per_column(x, y), self._bins_per_column(y, x)
        (codes_x, levels_x), (codes_y, levels_y) = self._codes(x, bins_x), self._codes(y, bins_y)
        found = information_from_codes(
            codes_x, codes_y, levels_x=levels_x, levels_y=levels_y, correction=self.correction
        )
        # The number of labels limits the true information; bins and samples limit only the estimate.
        limits = [len(x), *(levels for side, levels in ((x, levels_x), (y, levels_y)) if not side.discrete)]
        notes = [*_heavy_value_note(x), *_heavy_value_note(y)]
        return Measurement(
            value=found.value,
            ceiling=math.log(min(limits)),
            notes=tuple(notes),
            caution=found.caution,
        )

    def _scatter(
        self, x: Variable, y: Variable, measured: Measurement, generator: torch.Generator
    ) -> Scatter:
        """Return the error of a mean of the pointwise terms: parts of the data would have fewer samples for each cell."""
        codes = (
            self._codes(*side)[0]
            for side in ((x, self._bins_per_column(x, y)), (y, self._bins_per_column(y, x)))
        )
        return Scatter(float(pointwise_information(*codes).std()) / math.sqrt(len(x)), len(x) - 1)

    def _bins_per_column(self, side: Variable, other: Variable) -> int:
        if self.bins != "auto":
            return self.bins
        if other.discrete:
            budget = len(side) / (SAMPLES_PER_CELL * other.levels)
        else:
            budget = math.sqrt(len(side) / SAMPLES_PER_CELL)
        columns = 1 if side.discrete else side.values.shape[1]
        return max(2, int(min(budget, MOST_BINS) ** (1 / columns) + 1e-9))

    def _codes(self, side: Variable, bins: int) -> tuple[torch.Tensor, int]:
        codes = side.values
        if not side.discrete:
            rows = bin_codes(side.values.T.contiguous(), bins, self.strategy)
            codes = rows[0].long() if len(rows) == 1 else label_codes(rows.T)
        return codes, int(codes.max()) + 1


def check_binning(bins: Any, strategy: object, correction: object) -> int | Literal["auto"]:
    """Return the bins, a number of any kind as an int; raise unless these are settings of `BinnedMutualInformation`."""
    automatic = isinstance(bins, str) and bins == "auto"
    number = 0 if automatic else check_whole(bins, argument="bins", least=2, most=2**16)
    check_choice(strategy, STRATEGIES, argument="strategy")
    check_choice(correction, CORRECTIONS, argument="correction")
    return "auto" if automatic else number


def _heavy_value_note(side: Variable) -> list[str]:
    if side.discrete:
        return []
    value, share = side.heaviest_value()
    return [f"{share:.0%} of {side.name} equal {value:g}: a point mass"] if share > HEAVY_VALUE else []
