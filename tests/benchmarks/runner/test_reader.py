"""Images read ahead: order, bound, errors, end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from ovd_bench.benchmarks.runner.reader import Reader, Wanted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(12):
        PIL.Image.fromarray(np.full((4, 6, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "5.png").write_bytes(b"no image")
    return tmp_path


def wanted(count: int = 12, shards: int = 3) -> list[Wanted]:
    return [Wanted(number * shards // count, number, f"{number}.png", (6, 4)) for number in range(count)]


def test_in_order_with_reasons_for_what_failed(root: Path) -> None:
    with Reader(root, [*wanted(), Wanted(2, 99, "../x.png", None), Wanted(2, 7, "7.png", (4, 6))], 2) as reader:
        read = list(reader)
    assert [item.wanted.image_id for item in read] == [*range(12), 99, 7]
    for item in read[:5]:
        assert item.image is not None
        assert (item.image.pixels == item.wanted.image_id).all()
    assert read[5].image is None
    assert "is not an image" in read[5].reason
    assert str(root) not in read[5].reason  # reasons go into result files
    assert "leaves the folder" in read[12].reason
    assert "6 x 4, the annotations say 4 x 6" in read[13].reason


def test_no_more_than_asked_for_is_read_ahead(root: Path) -> None:
    begun = 0

    def counted() -> Iterator[Wanted]:
        nonlocal begun
        for item in wanted():
            begun += 1
            yield item

    with Reader(root, counted(), 3) as reader:
        taken = iter(reader)
        for number in range(6):
            next(taken)
            time.sleep(0.02)
            assert begun <= number + 1 + 3 + 2  # in the queue, in the thread's hand, just asked for


def test_skipped_shards_are_not_given(root: Path) -> None:
    with Reader(root, wanted(), 2) as reader:
        taken = iter(reader)
        assert next(taken).wanted.shard == 0
        reader.skip(0)
        reader.skip(1)
        assert [item.wanted.shard for item in taken] == [2, 2, 2, 2]


def test_leaving_early_ends_the_thread(root: Path) -> None:
    before = threading.active_count()
    with Reader(root, wanted(), 1) as reader:
        next(iter(reader))
    assert threading.active_count() == before


def test_an_error_of_the_thread_is_raised_where_images_are_taken(root: Path) -> None:
    def broken() -> Iterator[Wanted]:
        yield wanted()[0]
        raise KeyError("lost")

    with Reader(root, broken(), 2) as reader, pytest.raises(KeyError, match="lost"):
        list(reader)
