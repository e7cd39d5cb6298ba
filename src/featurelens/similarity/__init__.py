"""How alike two representations of the same images are."""

from featurelens.similarity.comparing import compare
from featurelens.similarity.layer_results import LayerSimilarityResult
from featurelens.similarity.measures import cka, procrustes, rsa
from featurelens.similarity.results import SimilarityResult

__all__ = ["LayerSimilarityResult", "SimilarityResult", "cka", "compare", "procrustes", "rsa"]
