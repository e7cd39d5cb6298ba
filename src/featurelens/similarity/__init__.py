"""How alike two representations of the same images are."""

from featurelens.similarity.measures import cka, procrustes, rsa
from featurelens.similarity.results import SimilarityResult

__all__ = ["SimilarityResult", "cka", "procrustes", "rsa"]
