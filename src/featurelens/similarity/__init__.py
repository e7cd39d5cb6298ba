"""How alike two representations of the same images are, and on how many dimensions one lies."""

from featurelens.similarity.comparing import compare
from featurelens.similarity.dimension import IntrinsicDimensionResult, intrinsic_dimension
from featurelens.similarity.layer_results import LayerSimilarityResult
from featurelens.similarity.measures import cka, procrustes, rsa
from featurelens.similarity.nearest import nearest_channels
from featurelens.similarity.results import SimilarityResult

__all__ = [
    "IntrinsicDimensionResult",
    "LayerSimilarityResult",
    "SimilarityResult",
    "cka",
    "compare",
    "intrinsic_dimension",
    "nearest_channels",
    "procrustes",
    "rsa",
]
