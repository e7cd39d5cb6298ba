"""One table of all channels, with everything that was measured of them."""

from featurelens.describing.channel_table import channel_table
from featurelens.describing.table import ChannelTable

__all__ = ["ChannelTable", "channel_table"]
