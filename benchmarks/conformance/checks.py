"""All checks in order, and their execution."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ovd_bench.benchmarks.conformance import contract, files, geometry, vocabularies
from ovd_bench.benchmarks.conformance.outcome import CheckFailed, CheckOutcome, CheckSkipped, Status, TestedDetector
from ovd_bench.benchmarks.data.text import printable
from ovd_bench.detectors.interface import Detector

CHECKS: dict[str, Callable[[TestedDetector], str]] = {
    "answers": contract.answers,
    "card": contract.card,
    "unprepared": contract.unprepared,
    "order-of-scores": contract.order_of_scores,
    "top-k": contract.top_k,
    "repeats": contract.repeats,
    "state": contract.keeps_no_state,
    "batch": contract.batch,
    "inputs": contract.inputs,
    "memory-layout": contract.memory_layout,
    "frame": geometry.frame,
    "place": geometry.place,
    "finds": geometry.finds,
    "thin-and-huge": contract.thin_and_huge,
    "files": files.file_forms,
    "one-class": contract.one_class,
    "1203-classes": contract.many,
    "odd-names": contract.odd_names,
    "same-name": contract.same_name,
    "names-apart": vocabularies.tells_names_apart,
    "switching": contract.switching,
    "order-of-classes": contract.order_of_classes,
    "company": contract.company,
    "templates": contract.templates,
    "grounding": contract.grounding,
}


def check_detector(name: str, load: Callable[[int], Detector]) -> Iterator[CheckOutcome]:
    """Run all checks, one after the other; an exception in one is a failure of that check only.

    Args:
        name: name of the detector, as given by the user.
        load: loads a new instance of the detector, for a given ``top_k``; called a few times.

    Raises:
        Exception: whatever ``load`` raises the first time.
    """
    subject = TestedDetector(name, load)
    _ = subject.detector
    for check_name, check in CHECKS.items():
        begin = time.perf_counter()
        status, detail = verdict(check, subject)
        about = (check.__doc__ or "").strip().splitlines()[0].replace("``", "")
        yield CheckOutcome(check_name, about, status, printable(detail), time.perf_counter() - begin)


def verdict(check: Callable[[TestedDetector], str], subject: TestedDetector) -> tuple[Status, str]:
    """Run one check."""
    try:
        return "passed", check(subject)
    except CheckFailed as failure:
        return "failed", str(failure)
    except CheckSkipped as reason:
        return "skipped", str(reason)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - third-party code may raise anything; it is reported
        return "failed", f"expected an answer, got {type(error).__name__}: {error}"
