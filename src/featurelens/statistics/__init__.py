"""Statistics of a layer's output that are measured batch by batch and merge exactly, from any parts of a data set."""

from featurelens.statistics.activity import Activity, ActivityResult
from featurelens.statistics.base import Statistic
from featurelens.statistics.class_selectivity import ClassSelectivity, ClassSelectivityResult
from featurelens.statistics.covariance import Covariance, CovarianceResult
from featurelens.statistics.histogram import Histogram, HistogramResult
from featurelens.statistics.joint_counts import JointCounts, JointCountsResult
from featurelens.statistics.moments import Moments, MomentsResult
from featurelens.statistics.mono_score import MonoScore, MonoScoreResult
from featurelens.statistics.nearest import NearestChannels
from featurelens.statistics.sample import Sample, SampleResult
from featurelens.statistics.stream_result import LayerStatistics, StreamResult
from featurelens.statistics.top_k import TopK, TopKResult

__all__ = [
    "Activity",
    "ActivityResult",
    "ClassSelectivity",
    "ClassSelectivityResult",
    "Covariance",
    "CovarianceResult",
    "Histogram",
    "HistogramResult",
    "JointCounts",
    "JointCountsResult",
    "LayerStatistics",
    "Moments",
    "MomentsResult",
    "MonoScore",
    "MonoScoreResult",
    "NearestChannels",
    "Sample",
    "SampleResult",
    "Statistic",
    "StreamResult",
    "TopK",
    "TopKResult",
]
