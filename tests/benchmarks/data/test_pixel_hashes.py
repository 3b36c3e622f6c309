"""Hashes of pixels: what changes them, what does not, and what they cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from ovd_bench.benchmarks.data.images import read_image
from ovd_bench.benchmarks.data.pixel_hashes import PROBE_IMAGES, UNREADABLE, image_sha256, pixels_sha256, probe_sha256

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 36, 3), dtype=np.uint8)


def test_size_and_every_pixel_count() -> None:
    base = image_sha256(PIXELS)
    changed = PIXELS.copy()
    changed[5, 7, 1] ^= 1
    assert image_sha256(changed) != base
    assert image_sha256(PIXELS.reshape(36, 24, 3)) != base, "the same bytes in another shape"
    assert image_sha256(PIXELS[:, ::-1]) == image_sha256(np.ascontiguousarray(PIXELS[:, ::-1])) != base
    assert image_sha256(PIXELS.copy()) == base


def test_the_file_does_not_count_but_what_it_decodes_to(tmp_path: Path) -> None:
    smooth = PIL.Image.fromarray(PIXELS).resize((96, 64))
    hashes = {}
    for name, quality in (("a.png", 0), ("b.bmp", 0), ("a.jpg", 95), ("b.jpg", 60)):
        smooth.save(tmp_path / name, quality=quality)
        hashes[name] = image_sha256(read_image(1, tmp_path / name).pixels)
    assert hashes["a.png"] == hashes["b.bmp"], "lossless formats decode to the same"
    assert len(set(hashes.values())) == 3


def test_orientation_is_applied_before(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(PIXELS).save(tmp_path / "turned.png", exif=exif)
    PIL.Image.fromarray(np.rot90(PIXELS, -1)).save(tmp_path / "upright.png")
    turned, upright = (image_sha256(read_image(1, tmp_path / f"{name}.png").pixels) for name in ("turned", "upright"))
    assert turned == upright


def test_the_order_of_the_images_does_not_count_but_whose_pixels_they_are() -> None:
    assert pixels_sha256({1: "a", 2: "b"}) == pixels_sha256({2: "b", 1: "a"})
    assert pixels_sha256({1: "b", 2: "a"}) != pixels_sha256({1: "a", 2: "b"})
    assert pixels_sha256({1: "a", 2: UNREADABLE}) != pixels_sha256({1: "a"})


@pytest.mark.parametrize("count", [1, 2, PROBE_IMAGES, 3 * PROBE_IMAGES])
def test_the_probe_spans_the_images(tmp_path: Path, count: int) -> None:
    files = [f"{k}.png" for k in range(count)]
    for k, name in enumerate(files):
        PIL.Image.fromarray(np.full((2, 3, 3), k, np.uint8)).save(tmp_path / name)
    ids, sizes = list(range(10, 10 + count)), [(3, 2)] * count
    before = probe_sha256(tmp_path, ids, files, sizes)
    assert probe_sha256(tmp_path, ids, files, sizes) == before
    changing = []
    for k, name in enumerate(files):
        kept = (tmp_path / name).read_bytes()
        PIL.Image.fromarray(np.full((2, 3, 3), 255 - k, np.uint8)).save(tmp_path / name)
        if probe_sha256(tmp_path, ids, files, sizes) != before:
            changing.append(k)
        (tmp_path / name).write_bytes(kept)
    assert len(changing) == min(count, PROBE_IMAGES)
    assert (changing[0], changing[-1]) == (0, count - 1)
    (tmp_path / files[0]).unlink()
    assert probe_sha256(tmp_path, ids, files, sizes) != before, "an image that is gone is another state"
