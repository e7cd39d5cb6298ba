"""Statistics of a layer's output that are measured batch by batch and merge exactly, from any parts of a data set."""

from featurelens.statistics.base import Statistic
from featurelens.statistics.covariance import Covariance, CovarianceResult
from featurelens.statistics.histogram import Histogram, HistogramResult
from featurelens.statistics.joint_counts import JointCounts, JointCountsResult
from featurelens.statistics.moments import Moments, MomentsResult
from featurelens.statistics.random_sample import RandomSample, RandomSampleResult
from featurelens.statistics.stream_result import LayerStatistics, StreamResult
from featurelens.statistics.top_k import TopK, TopKResult

__all__ = [
    "Covariance",
    "CovarianceResult",
    "Histogram",
    "HistogramResult",
    "JointCounts",
    "JointCountsResult",
    "LayerStatistics",
    "Moments",
    "MomentsResult",
    "RandomSample",
    "RandomSampleResult",
    "Statistic",
    "StreamResult",
    "TopK",
    "TopKResult",
]
