"""What a table of counts seems to share by chance: exact means over all pairings with the same margins."""

from __future__ import annotations

from typing import NamedTuple, final

import torch

from featurelens.information.chunks import row_slices

TERMS_AT_A_TIME = 2**22


class Chance(NamedTuple):
    """Means over random pairings, and the scale by which observed cells change the bias; tensors of one shape.

    `information` is the plug-in estimate in nats, `cells` the number of cells as :func:`cells_seen` counts them.
    """

    information: torch.Tensor
    cells: torch.Tensor
    freedom: torch.Tensor

    def taken_off(self, plug_in: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Return plug-in information in nats without its bias, given the number of cells that were seen.

        The bias of a plug-in estimate grows with the number of cells that can be occupied (Miller 1955), and
        dependence empties cells. So the mean under chance is multiplied by a factor that falls with the number of
        cells and averages to 1 under chance. The bias is never negative, so the value never exceeds `plug_in`, nor an
        entropy.
        """
        share = 1.0 + (cells - self.cells) / self.freedom
        return plug_in - self.information * share.clamp_min(0.0)


def cells_seen(counts: torch.Tensor) -> torch.Tensor:
    """Return the number of occupied cells of tables ``(..., cells)``; each cell seen once stands for another unseen."""
    return (counts > 0).sum(dim=-1) + (counts == 1).sum(dim=-1)


@final
class ChanceTable:
    """Exact means of all tables whose margins are among the given counts.

    With fixed margins, a cell's count is hypergeometric under random pairing (Vinh, Epps & Bailey 2010, "Information
    theoretic measures for clusterings comparison"). Its distribution depends on the two margins only, and tables repeat
    the same margins many times.

    Parameters
    ----------
    first, second
        Counts of any shape: all margins that occur on either side.
    n
        Number of samples.
    """

    def __init__(self, first: torch.Tensor, second: torch.Tensor, n: int) -> None:
        self.n = n
        self._first, self._second = torch.unique(first), torch.unique(second)
        means = _cell_means(self._first.cpu(), self._second.cpu(), n)
        self._share, self._seen = (mean.to(first.device) for mean in means)

    def of(self, first: torch.Tensor, second: torch.Tensor) -> Chance:
        """Return the means ``(A, B)`` for all pairs of margins ``(A, I)`` and ``(B, J)``.

        Of ``(N, A, I)`` and ``(N, B, J)`` each of the N has its own pairs, ``(N, A, B)``.
        """
        rows, columns = torch.searchsorted(self._first, first), torch.searchsorted(self._second, second)
        each = columns.numel() // (len(columns) if rows.ndim == 3 else 1)
        share, cells = [], []
        for part in row_slices(len(rows), rows[:1].numel() * each, TERMS_AT_A_TIME):
            beside = columns[part] if rows.ndim == 3 else columns
            place = rows[part][..., :, None, :, None], beside[..., None, :, None, :]
            share.append(self._share[place].sum(dim=(-2, -1)))
            cells.append(self._seen[place].sum(dim=(-2, -1)))
        rows_used, columns_used = ((margins > 0).sum(dim=-1).double() for margins in (first, second))
        rows_used, columns_used = rows_used[..., :, None], columns_used[..., None, :]
        seen = torch.cat(cells)
        # In a sparse table nearly every sample has a cell to itself, whatever the dependence: there the number of
        # occupied cells says little, and the scale must not fall to 0.
        least = (0.5 * (rows_used - 1) * (columns_used - 1)).clamp_min(0.5)
        freedom = torch.maximum(seen - rows_used - columns_used + 1, least)
        return Chance(torch.cat(share), seen, freedom)


def _cell_means(first: torch.Tensor, second: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, for all pairs of margins a and b, a cell's mean part of the information and how often it is seen.

    The part of a cell with c samples is ``c/n log(n c / (a b))`` nats.
    """
    log_factorial = torch.lgamma(torch.arange(n + 1, dtype=torch.float64) + 1.0)
    parts, seen = [], []
    for a, b in _pair_chunks(first, second, n):
        count, valid = _likely_counts(a, b, n)
        ways = [log_factorial[side] for side in (a, b, n - a, n - b)]
        rest = [log_factorial[side] for side in (count, a - count, b - count, n - a - b + count)]
        log_chance = (ways[0] + ways[1] + ways[2] + ways[3] - log_factorial[n]) - (
            rest[0] + rest[1] + rest[2] + rest[3]
        )
        chance = log_chance.exp_().masked_fill_(~valid, 0.0)
        ratio = (n * count.double() / (a * b).clamp_min(1)).clamp_min(1e-300)
        parts.append((chance * (count.double() / n) * ratio.log()).sum(dim=1))
        seen.append((chance * ((count > 0).double() + (count == 1))).sum(dim=1))
    shape = len(first), len(second)
    return torch.cat(parts).reshape(shape), torch.cat(seen).reshape(shape)


def _pair_chunks(
    first: torch.Tensor, second: torch.Tensor, n: int
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return all pairs as columns ``(P, 1)``, in parts whose likely counts fit into memory."""
    a, b = (side.reshape(-1, 1) for side in torch.meshgrid(first, second, indexing="ij"))
    widest = int(_reach(torch.stack([first.max(), first.max()]), second.max(), n).max()) * 2 + 1
    return [(a[part], b[part]) for part in row_slices(len(a), widest, TERMS_AT_A_TIME)]


def _reach(a: torch.Tensor, b: torch.Tensor, n: int) -> torch.Tensor:
    """Return how far from its mean a cell's count is ever worth a term: ten standard deviations, and ten."""
    return 10 + (10 * (a.double() * b / n).sqrt()).long()


def _likely_counts(a: torch.Tensor, b: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return counts ``(P, W)`` around the mean of each pair's cell, and which of them are possible."""
    mean, reach = a * b // n, _reach(a, b, n)
    low = torch.maximum((mean - reach).clamp_min(0), a + b - n)
    high = torch.minimum(torch.minimum(a, b), mean + reach + 1)
    count = low + torch.arange(int((high - low).max()) + 1)
    return torch.minimum(count, high), count <= high
