"""Two atlases side by side: two epochs, two seeds, two networks."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featurelens import similarity
from featurelens._checks import check_choice, check_path, check_type, describe
from featurelens.atlas.neighbours import standardized
from featurelens.atlas.numbers import column, rounded
from featurelens.atlas.pages import write_data, write_pages
from featurelens.atlas.parts import Parts
from featurelens.atlas.site_folder import AtlasSite

PARTNERS = ("number", "correlation")

HALF_PRECISION = 15
"""The largest power of two that half precision holds."""


def compare_atlases(
    one: AtlasSite | str | os.PathLike[str],
    other: AtlasSite | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    partners: str = "number",
    titles: Sequence[str] | None = None,
) -> Path:
    """Write a site that shows the layers of two atlases side by side, and return its first page.

    ::

        fl.atlas.compare_atlases("epoch1/", "epoch30/", "comparison/")
        fl.atlas.compare_atlases("seed0/", "seed1/", "seeds/", partners="correlation")

    Layers of the same name are compared. The pages refer to the atlases by relative paths: move all folders together.

    Parameters
    ----------
    one, other
        Atlases of the same images, or their folders.
    folder
        An empty folder.
    partners
        Which channel of the other network a channel is shown beside: that of the same "number", as for two epochs of one
        training, or the one of largest "correlation" over the sampled images, as for two seeds.
    titles
        Names of the two; by default those of the atlases, or of their folders where these are the same.

    Raises
    ------
    TypeError, ValueError, FileExistsError
        If an argument is not one of the above, or the atlases have no layer in common or were made of other images.
    """
    check_choice(partners, PARTNERS, argument="partners")
    sites = [site if isinstance(site, AtlasSite) else AtlasSite(site) for site in (one, other)]
    place = check_path(folder, argument="folder", expected="a folder's path")
    if place.exists() and any(place.iterdir()):
        raise FileExistsError(f"{place} is not empty: choose another folder")
    names, common = _titles(sites, titles), _common(*sites)
    content = {
        "format": 1,
        "title": " and ".join(names),
        "compared": [
            {"title": name, "prefix": f"{Path(os.path.relpath(site.folder, place)).as_posix()}/"}
            for name, site in zip(names, sites, strict=True)
        ],
        "layers": [_layer(name, sites, partners) for name in common],
    }
    write_data(Parts(place), "manifest", content)
    write_pages(Parts(place))
    return (place / "index.html").absolute()


def _common(one: AtlasSite, other: AtlasSite) -> list[str]:
    """Return the layers that both atlases have."""
    if one.manifest["rows"] != other.manifest["rows"]:
        raise ValueError("the atlases must be of the same images, with the same sample and seed")
    common = [name for name in one.layers if name in other.layers]
    if not common:
        raise ValueError(f"the atlases have no layer in common: {one.layers} and {other.layers}")
    return common


def write_values(parts: Parts, folder: str, values: torch.Tensor) -> None:
    """Keep the values ``(n, C)`` of a layer's channels in the sampled images, in half precision.

    They are scaled by a power of two, which changes no correlation or similarity, to fit its range.
    """
    values, stream = values.nan_to_num(0, 0, 0), io.BytesIO()
    exponent = math.frexp(float(values.abs().max()))[1] - HALF_PRECISION
    np.save(stream, torch.ldexp(values, torch.tensor(-exponent)).half().numpy())
    parts.write(f"data/{folder}/values.npy", stream.getvalue())


def values_of(site: AtlasSite, layer: str) -> torch.Tensor:
    """Return what `write_values` kept."""
    folder = next(entry["folder"] for entry in site.manifest["layers"] if entry["name"] == layer)
    return torch.from_numpy(np.load(site.folder / "data" / folder / "values.npy", allow_pickle=False)).float()


def _layer(name: str, sites: Sequence[AtlasSite], partners: str) -> dict[str, Any]:
    """Return the entry of one layer of both networks."""
    x, y = (values_of(site, name) for site in sites)
    entry: dict[str, Any] = {"name": name, "similarity": None, "match": None, "correlation": None}
    with suppress(ValueError):  # a constant layer, or too few images
        entry["similarity"] = rounded(similarity.cka(x, y, null=None, confidence=None).value)
    first, second = standardized(x), standardized(y)
    if partners == "correlation":
        best = (first.T @ second).max(1)
        entry["match"] = best.indices.tolist()
        entry["correlation"] = column(best.values)
    elif x.shape == y.shape:
        entry["correlation"] = column((first * second).sum(0))
    return entry


def _titles(sites: Sequence[AtlasSite], titles: Sequence[str] | None) -> list[str]:
    if titles is None:
        found = [site.manifest["title"] for site in sites]
        return found if found[0] != found[1] else [site.folder.absolute().name for site in sites]
    check_type(titles, list | tuple, argument="titles", expected="two names")
    if len(titles) != 2:
        raise ValueError(f"titles must be two names; got {describe(titles)}")
    for title in titles:
        check_type(title, str, argument="titles", expected="two names")
    return list(titles)
