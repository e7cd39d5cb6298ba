"""Find what was recorded of a layer by any of its names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from featurelens._checks import describe, near_misses


class NoSuchLayer(KeyError):
    """A KeyError, as mappings raise, whose message is shown without quotes."""

    def __str__(self) -> str:
        return str(self.args[0])


def find(name: object, layers: Iterable[str], aliases: Mapping[str, str]) -> str:
    """Return the key in `layers` that `name` refers to: an exact name, an ordinal alias, or one of these with ``#call``.

    >>> find("conv_2#1", ["features.3"], {"conv_2": "features.3"})
    'features.3'
    """
    keys = list(layers)
    if not isinstance(name, str):
        raise NoSuchLayer(f"activations are looked up by layer name; got {describe(name)}")
    if name in keys:
        return name
    base, sign, call = name.partition("#")
    base = aliases.get(base, base)
    if base + sign + call in keys:
        return base + sign + call
    if call == "1" and base in keys:
        return base
    several = [key for key in keys if key.startswith(f"{base}#")]
    if several and not call:
        recorded = "only one call was" if len(several) == 1 else f"{len(several)} calls were"
        raise NoSuchLayer(f"{recorded} recorded of layer {base!r}: {', '.join(several)}")
    raise NoSuchLayer(f"no activations of {describe(name)}{near_misses(name, keys)}")
