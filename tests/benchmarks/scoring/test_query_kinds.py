"""``score`` on a file of queries: AP of the kinds, with intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ovd_bench.benchmarks.data.files.queries import QueryLine, write_queries
from ovd_bench.benchmarks.scoring.score import ScoreRequest, score


def test_ap_of_kinds_and_its_intervals(tmp_path: Path) -> None:
    box = (10.0, 10.0, 20.0, 20.0)
    asked = [("a dog", "pres"), ("a dog without a leash", "abs")]
    lines = [
        QueryLine(
            query_id=10 * image + number, image_id=image, file_name=f"{image}.jpg", width=100, height=100, text=text,
            kinds=[kind], present=None if (image + number) % 2 else False, boxes=[box] if (image + number) % 2 else [],
        )
        for image in range(1, 9) for number, (text, kind) in enumerate(asked)
    ]  # fmt: skip
    write_queries(tmp_path / "q.jsonl", lines)
    # the dog is always found where it is; the other description is answered in every image, where it is not the best
    results = [{"image_id": image, "category_id": 1, "bbox": box, "score": 0.9} for image in range(1, 9, 2)]
    results += [
        {"image_id": image, "category_id": 2, "bbox": box, "score": 0.5 + 0.3 * (image % 2)} for image in range(1, 9)
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    request = ScoreRequest(
        tmp_path / "results.json", tmp_path / "q.jsonl", "queries", extra_metrics=["queries"], resamples=50
    )
    outcome = score(request)
    assert outcome.metrics["queries/AP/pres"] == pytest.approx(1.0)
    assert outcome.metrics["queries/AP/abs"] == pytest.approx(0.5)
    assert outcome.metrics["queries/APpool/abs"] == pytest.approx(0.5)
    assert outcome.metrics["AP"] == pytest.approx(0.75)
    assert {"queries/AP/pres", "queries/AP/abs"} <= set(outcome.ci95)
    low, high = outcome.ci95["queries/AP/abs"]
    assert low < 0.5 < high
