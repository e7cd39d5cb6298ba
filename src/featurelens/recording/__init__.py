"""Record what layers return: with hooks around the user's model, or with extractors inserted into a copy."""

from featurelens.recording.extractors import FeatureExtractor, TappedModule, insert_extractors
from featurelens.recording.operations import list_operations
from featurelens.recording.receptive import ReceptiveField, receptive_field
from featurelens.recording.recorder import ActivationRecorder
from featurelens.storage.activations import Activations

__all__ = [
    "ActivationRecorder",
    "Activations",
    "FeatureExtractor",
    "ReceptiveField",
    "TappedModule",
    "insert_extractors",
    "list_operations",
    "receptive_field",
]
