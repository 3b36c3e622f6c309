"""Images in various file formats, read as by the runner."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import PIL.Image

from ovd_bench.benchmarks.conformance.outcome import CheckFailed, TestedDetector
from ovd_bench.benchmarks.conformance.pictures import Pixels, figures
from ovd_bench.benchmarks.conformance.tolerance import SAME, expect_same
from ovd_bench.benchmarks.data.images import image_file, read_image

_ORIENTATION = 0x0112
_TURN_CLOCKWISE = 6


def file_forms(subject: TestedDetector) -> str:
    """Grey, 16-bit, palette, RGBA, CMYK and EXIF-rotated files give the results of the image that they show."""
    pixels = figures(200, 130, seed=7)
    with tempfile.TemporaryDirectory() as folder:
        shown = _write_forms(Path(folder), pixels)
        for name, expected in shown.items():
            image = read_image(101, image_file(Path(folder), name), (expected.shape[1], expected.shape[0]))
            if not np.array_equal(image.pixels, expected):
                raise CheckFailed(f"the original pixels from {name}", "other pixels")
            alone = subject.ask(expected)
            found = subject.again([image])[0]
            expect_same(alone, found, SAME, f"the same answer for {name} as for the upright RGB pixels")
    return ", ".join(shown)


def _write_forms(folder: Path, pixels: Pixels) -> dict[str, Pixels]:
    """Write the files; returns the expected pixels by name, uint8 (H, W, 3). All formats are lossless."""
    colour = PIL.Image.fromarray(pixels)
    grey = colour.convert("L")
    levels = np.asarray(grey)
    palette = colour.quantize(64)
    exif = PIL.Image.Exif()
    exif[_ORIENTATION] = _TURN_CLOCKWISE
    grey.save(folder / "grey.png")
    PIL.Image.fromarray(levels.astype(np.uint16) * 257).save(folder / "grey16.png")
    palette.save(folder / "palette.png")
    colour.convert("RGBA").save(folder / "rgba.png")
    colour.convert("CMYK").save(folder / "cmyk.tif")
    colour.transpose(PIL.Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=exif)
    three = np.repeat(levels[:, :, None], 3, axis=2)
    return {
        "grey.png": three,
        "grey16.png": three,
        "palette.png": np.array(palette.convert("RGB")),
        "rgba.png": pixels,
        "cmyk.tif": pixels,
        "turned.png": pixels,
    }
