"""The mean AP of a detector over the data sets of a suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ovd_bench.benchmarks.data.catalog.suites import Suite
from ovd_bench.benchmarks.store.schema import Metric, Result
from ovd_bench.metrics.intervals import half_width_of_mean

_NOTHING = Metric(value=None)


@dataclass(frozen=True)
class SuiteMean:
    """AP of one detector on the sets of a suite.

    Attributes:
        suite: the suite.
        results: by name of the member; those that are not there are missing.
    """

    suite: Suite
    results: Mapping[str, Result]

    def metric(self, member: str) -> Metric:
        """AP on a set; the value is None where it is undefined or missing."""
        result = self.results.get(member)
        return _NOTHING if result is None else result.metrics.get("AP", _NOTHING)

    @property
    def there(self) -> int:
        """Number of sets with AP."""
        return sum(self.metric(name).value is not None for name in self.suite.names)

    @property
    def complete(self) -> bool:
        """Whether all sets have AP."""
        return self.there == len(self.suite.members)

    @property
    def partial(self) -> bool:
        """Whether a run is on a part of its images."""
        return any(result.partial for result in self.results.values())

    @property
    def extent(self) -> str:
        """``11 of 13 sets``."""
        return f"{self.there} of {len(self.suite.members)} sets"

    @property
    def mean(self) -> Metric:
        """Unweighted mean over all sets, with its interval; no value unless the suite is complete."""
        values = [value for name in self.suite.names if (value := self.metric(name).value) is not None]
        if len(values) < len(self.suite.members):
            return _NOTHING
        mean = sum(values) / len(values)
        together = {name for group in self.suite.shared for name in group}
        groups = [*self.suite.shared, *((name,) for name in self.suite.names if name not in together)]
        half = half_width_of_mean([[self._half_width(name) for name in group] for group in groups])
        return Metric(value=mean, ci95=None if half is None else (mean - half, mean + half))

    def _half_width(self, member: str) -> float | None:
        ends = self.metric(member).ci95
        return None if ends is None else (ends[1] - ends[0]) / 2
