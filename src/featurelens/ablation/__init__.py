"""Channel ablation: what a model does without some of a layer's channels, or with one of them alone."""

from featurelens.ablation.ablator import ChannelAblator
from featurelens.ablation.decoder import DeconvDecoder, Encoding
from featurelens.ablation.importance_result import AblationCurve, ImportanceResult
from featurelens.ablation.result import AblationResult

__all__ = [
    "AblationCurve",
    "AblationResult",
    "ChannelAblator",
    "DeconvDecoder",
    "Encoding",
    "ImportanceResult",
]
