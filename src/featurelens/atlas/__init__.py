"""The atlas: a static site with a page for every channel of a network."""

from featurelens.atlas.atlas import Atlas
from featurelens.atlas.card import ChannelCard
from featurelens.atlas.comparing import compare_atlases
from featurelens.atlas.site_folder import AtlasSite

__all__ = ["Atlas", "AtlasSite", "ChannelCard", "compare_atlases"]
