"""Numbers with uncertainty: the rule for all intervals and probabilities of the suite.

An interval is ``value ± t × sd``, so a number always lies in its interval. ``sd`` is the standard deviation of the
bootstrap over images, corrected for classes that occur in one or two images. ``t`` is the 97.5 % point of Student's t.

Percentiles of the resamples are not used: a resample has about 63 % distinct images, and class-averaged interpolated AP
is higher for smaller samples. The resamples of a number are biased to one side of it, and so are those of a difference
of two runs of unequal quality, because their biases differ.

Correction: a class in one image is either wholly in a resample or not. The bootstrap shows its noise only through the
variance between classes, about 60 % of it; for a class in two images about 80 %; for three or more nearly all. The
missing part is estimated by the variance between classes, as in survey statistics for strata with one sampled unit
(collapsed strata: Cochran 1977, "Sampling techniques", 5A.12). The interval is too wide if the true values differ.

Mean over n fixed data sets: the errors of sets with different images are independent, so the variance of the mean is
the sum of their variances over n². Results keep only the half-widths ``t × sd``, and the root of the sum of their
squares, over n, is that of the mean. It is never below that of Cochran & Cox (1957, "Experimental designs"), whose t is
the mean of the single ones weighted by variance. Sets with the same images may err together: theirs are added first.

Degrees of freedom: the variance of a mean over classes is a sum of one part per class, estimated from the images of
that class. Satterthwaite (1946, "An approximate distribution of estimates of variance components") gives the degrees of
freedom of the sum; each part is assumed to be proportional to one over the number of images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassValues:
    """The terms of a mean over classes (K classes).

    Attributes:
        values: float64 (K,), NaN for classes that the mean leaves out.
        images: int64 (K,), number of images with the class.
    """

    values: Floats
    images: Ints

    @staticmethod
    def alone(value: float, images: int) -> ClassValues:
        """For a statistic that is not a mean over classes but is computed over ``images`` images."""
        return ClassValues(np.array([value]), np.array([images]))

    def only(self, classes: npt.NDArray[np.intp]) -> ClassValues:
        """For the mean over some of the classes, given by position."""
        values = np.full(len(self.values), np.nan)
        values[classes] = self.values[classes]
        return ClassValues(values, self.images)


@dataclass(frozen=True)
class Estimate:
    """One statistic, or a difference of two on the same images.

    Attributes:
        value: on the original images.
        samples: float64 (n,) on resamples of the images, NaN where undefined there.
        classes: terms that ``value`` is the mean of.
    """

    value: float
    samples: Floats
    classes: ClassValues

    def __sub__(self, other: Estimate) -> Estimate:
        """The paired difference; both were estimated on the same resamples of the same images."""
        values = ClassValues(self.classes.values - other.classes.values, self.classes.images)
        return Estimate(self.value - other.value, self.samples - other.samples, values)

    @staticmethod
    def mean(estimates: Sequence[Estimate]) -> Estimate:
        """The mean of estimates on the same resamples of the same images, at least one."""
        first = estimates[0]
        values = np.mean([one.classes.values for one in estimates], axis=0)
        return Estimate(
            float(np.mean([one.value for one in estimates])),
            np.mean([one.samples for one in estimates], axis=0),
            replace(first.classes, values=values),
        )

    @property
    def sd(self) -> float | None:
        """Standard deviation over data sets of as many images; None if one image decides or too few samples exist."""
        defined = self.samples[~np.isnan(self.samples)]
        if len(defined) < 2 or self.degrees == 0:
            return None
        return math.sqrt(float(np.var(defined, ddof=1)) * _lone_factor(self._counts) + self._unseen_variance())

    @property
    def degrees(self) -> float:
        """Degrees of freedom of ``sd``; 0 where it is not known."""
        counts = self._counts
        if len(counts) < 2:
            return float(counts.sum() - 1) if counts.sum() > 1 else 0.0
        parts = 1 / counts
        return float(parts.sum() ** 2 / np.sum(parts**2 / np.maximum(counts - 1, 1)))

    @property
    def ci95(self) -> tuple[float, float] | None:
        """95 % interval; None where ``sd`` is."""
        half = self.half_width
        return None if half is None else (self.value - half, self.value + half)

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval; None where ``sd`` is."""
        sd = self.sd
        return None if sd is None else student_quantile(self.degrees) * sd

    @property
    def p_positive(self) -> float | None:
        """Probability that the statistic is above 0, by the distribution of the interval; None where ``sd`` is."""
        sd = self.sd
        return None if sd is None else float(probability_above(self.value, sd, self.degrees))

    @property
    def _counts(self) -> Floats:
        """Images of each class in the mean."""
        counted = ~np.isnan(self.classes.values) & (self.classes.images > 0)
        return self.classes.images[counted].astype(np.float64)

    def _unseen_variance(self) -> float:
        """Variance that the bootstrap misses because a class occurs in one or two images."""
        defined = ~np.isnan(self.classes.values)
        count = int(defined.sum())
        if count < 2:
            return 0.0
        values, images = self.classes.values[defined], self.classes.images[defined]
        apart = (values - values.mean()) ** 2 * count / (count - 1)
        return float(sum(np.sum(apart[images == few]) * _unseen_share(few) for few in (1, 2))) / count**2


def half_width_of_mean(groups: Sequence[Sequence[float | None]]) -> float | None:
    """Half of the 95 % interval of a mean over data sets, each with its own interval.

    Args:
        groups: half-widths of the sets; those of sets that share images are one group. None = no interval.

    Returns:
        None if a set has no interval, or there is no set.
    """
    parts = [math.inf if half is None else half for group in groups for half in group]
    total = math.hypot(*(sum(math.inf if half is None else half for half in group) for group in groups))
    return total / len(parts) if parts and math.isfinite(total) else None


def student_quantile(degrees: float) -> float:
    """97.5 % point of Student's t."""
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to import

    return float(stdtrit(min(degrees, 1e9), 0.975))


def probability_above(value: npt.ArrayLike, sd: npt.ArrayLike, degrees: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Student's t: probability that a quantity estimated as ``value`` with error ``sd`` is above 0; ½ for 0 ± 0."""
    from scipy.special import stdtr

    above_zero, error = np.asarray(value, np.float64), np.asarray(sd, np.float64)
    with np.errstate(all="ignore"):
        ratio = np.where((above_zero == 0) & (error == 0), 0.0, above_zero / error)
    endless = np.isinf(ratio)  # without error the sign is certain
    return np.where(endless, ratio > 0, stdtr(np.minimum(degrees, 1e9), np.where(endless, 0.0, ratio)))


@cache
def lone_class_factor(images: int) -> float:
    """Variance of the mean over some images as a multiple of the one that the bootstrap shows; infinite for one image.

    The resamples in which none of the images is drawn are left out. Of ``m`` images, ``n`` are then drawn with the
    probabilities of Poisson's law, and the bootstrap shows ``(m - 1) / m × mean of 1 / n`` of the variance of an image.
    """
    if images < 2:
        return math.inf
    return 1 / ((images - 1) * _mean_inverse(images)) if images < _MANY else 1.0


#: From this many images per class on, the bootstrap variance is right to within 6 %, and not too small.
_MANY = 4


def _lone_factor(counts: Floats) -> float:
    """``lone_class_factor`` of a statistic that is one class; 1 for a mean over several."""
    return lone_class_factor(int(counts[0])) if len(counts) == 1 else 1.0


@cache
def _unseen_share(images: int) -> float:
    """Share of the variance of a class's value that the bootstrap of a mean over classes does not show.

    The bootstrap shows the variance between the images of the class (see ``lone_class_factor``) and, when the class
    drops out of a resample, the variance between classes.
    """
    drawn = 1 - math.exp(-images)
    return 1 - (images - 1) * _mean_inverse(images) / drawn - (1 / drawn - 1)


def _mean_inverse(images: int) -> float:
    """Mean of 1 / n where n follows Poisson's law with the mean ``images`` and is above 0."""
    terms = [math.exp(n * math.log(images) - math.lgamma(n + 1) - images) for n in range(1, 60)]
    return sum(term / n for n, term in enumerate(terms, 1)) / sum(terms)
