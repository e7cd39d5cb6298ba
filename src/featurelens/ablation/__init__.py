"""Channel ablation: what a model does without some of a layer's channels, or with one of them alone."""

from featurelens.ablation.ablator import ChannelAblator
from featurelens.ablation.result import AblationResult

__all__ = ["AblationResult", "ChannelAblator"]
