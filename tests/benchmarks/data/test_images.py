"""Finding and reading images: every mode with known pixels, every orientation, and files made to do harm."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ovd_bench.benchmarks.data import images
from ovd_bench.benchmarks.data.images import ImageError, image_file, read_image
from ovd_bench.metrics.errors import DataError

#: 2 rows, 3 columns, all six pixels different.
PIXELS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [200, 100, 50], [255, 255, 255]]], np.uint8)
ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(folder: Path, data: bytes, size: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    path = folder / "image"
    path.write_bytes(data)
    return read_image(5, path, size).pixels


def rgb(folder: Path, image: Image.Image, kind: str = "PNG") -> list[list[int]]:
    """Colours of the first row."""
    colours: list[list[int]] = read(folder, encoded(image, kind))[0].tolist()
    return colours


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


# ---- names


@pytest.mark.parametrize("name", ["a.png", "sub/b.png", "./sub/../a.png", "inner.png", "größe.jpg", "no/such/file.jpg"])
def test_names_inside_the_root(tmp_path: Path, name: str) -> None:
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (root / "a.png").touch()
    (root / "inner.png").symlink_to(root / "a.png")
    path = image_file(root, name)
    assert path.is_relative_to(root.resolve())
    assert path == (root / name).resolve()


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/hostname", "sub/../../secret", "out.png", "folder/secret", "a\0b.png", "loop", "\ud800.png"],
)
def test_names_never_leave_the_root(tmp_path: Path, name: str) -> None:
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret").touch()
    (root / "out.png").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(DataError, match=r"^image path .*correct it in the annotation file") as caught:
        image_file(root, name)
    assert "\n" not in str(caught.value)


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.png").touch()
    (tmp_path / "link").symlink_to("real")
    assert image_file(tmp_path / "link", "a.png").is_file()


# ---- colour


def test_rgb_is_untouched_and_writable(tmp_path: Path) -> None:
    pixels = read(tmp_path, encoded(Image.fromarray(PIXELS)))
    np.testing.assert_array_equal(pixels, PIXELS)
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous


def test_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(PIXELS)))
    image = read_image(-7, path, (3, 2))
    assert (image.id, image.width, image.height, image.path) == (-7, 3, 2, str(path))


def test_suffix_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "wrong.jpg"
    path.write_bytes(encoded(Image.fromarray(PIXELS)))
    np.testing.assert_array_equal(read_image(1, path).pixels, PIXELS)


def test_bilevel_and_grey(tmp_path: Path) -> None:
    assert rgb(tmp_path, Image.fromarray(np.array([[True, False]]))) == [[255] * 3, [0] * 3]
    assert rgb(tmp_path, Image.fromarray(np.array([[0, 77, 255]], np.uint8))) == [[0] * 3, [77] * 3, [255] * 3]


def test_transparency_is_dropped(tmp_path: Path) -> None:
    hidden = np.array([[[9, 8, 7, 0], [1, 2, 3, 128], [4, 5, 6, 255]]], np.uint8)
    assert rgb(tmp_path, Image.fromarray(hidden)) == [[9, 8, 7], [1, 2, 3], [4, 5, 6]]
    assert rgb(tmp_path, Image.fromarray(np.array([[[50, 0], [60, 255]]], np.uint8), "LA")) == [[50] * 3, [60] * 3]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transparent", [False, True])
def test_palette(tmp_path: Path, transparent: bool) -> None:
    image = Image.fromarray(np.array([[2, 0, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 128, 0, 7, 8, 9])
    path = tmp_path / "p.png"
    options: dict[str, Any] = {"transparency": b"\x00\x80\xff"} if transparent else {}
    image.save(path, **options)
    with Image.open(path) as opened:
        assert opened.mode == "P"
        assert ("transparency" in opened.info) == transparent
    assert read_image(1, path).pixels[0].tolist() == [[7, 8, 9], [255, 0, 0], [0, 128, 0]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, kind: str) -> None:
    wide = np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16)
    assert rgb(tmp_path, Image.fromarray(wide), kind) == [[v] * 3 for v in (0, 0, 1, 128, 255)]


def test_16_bit_grey_big_endian(tmp_path: Path) -> None:
    tiff = struct.pack(">2sHIH", b"MM", 42, 8, 9)
    strip = struct.pack(">2H", 0x1234, 0xFF00)
    entries = [(256, 3, 2), (257, 3, 1), (258, 3, 16), (259, 3, 1), (262, 3, 1), (277, 3, 1), (278, 3, 1)]
    end = 8 + 2 + 12 * 9 + 4
    for tag, kind, value in entries:
        tiff += struct.pack(">HHIHH", tag, kind, 1, value, 0)
    tiff += struct.pack(">HHII", 273, 4, 1, end) + struct.pack(">HHII", 279, 4, 1, len(strip)) + b"\0\0\0\0" + strip
    with Image.open(io.BytesIO(tiff)) as opened:
        assert opened.mode == "I;16B"
    assert read(tmp_path, tiff)[0].tolist() == [[0x12] * 3, [0xFF] * 3]


def test_16_bit_colour_agrees_with_16_bit_grey(tmp_path: Path) -> None:
    values = (0x00FF, 0x1234, 0xFFFF)
    grey = read(tmp_path, png(3, 1, 16, 0, b"\0" + struct.pack(">3H", *values)))
    colour = read(tmp_path, png(3, 1, 16, 2, b"\0" + struct.pack(">9H", *np.repeat(values, 3).tolist())))
    np.testing.assert_array_equal(grey, colour)


def test_integers_and_floats(tmp_path: Path) -> None:
    assert rgb(tmp_path, Image.fromarray(np.array([[0, 65535]], np.int32)), "TIFF") == [[0] * 3, [255] * 3]
    assert rgb(tmp_path, Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF") == [
        [0] * 3,
        [128] * 3,
        [255] * 3,
    ]


@pytest.mark.parametrize("values", [[-1, 5], [0, 65536]])
def test_integers_without_a_white(tmp_path: Path, values: list[int]) -> None:
    with pytest.raises(ImageError, match=f"pixels from {values[0]} to {values[1]} have no defined white"):
        rgb(tmp_path, Image.fromarray(np.array([values], np.int32)), "TIFF")


@pytest.mark.parametrize("values", [[0.0, 255.0], [-0.5, 1.0], [0.0, float("nan")], [0.0, float("inf")]])
def test_floats_without_a_white(tmp_path: Path, values: list[float]) -> None:
    with pytest.raises(ImageError, match="have no defined white"):
        rgb(tmp_path, Image.fromarray(np.array([values], np.float32)), "TIFF")


def test_other_colour_spaces(tmp_path: Path) -> None:
    cmyk = Image.fromarray(np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8), "CMYK")
    assert rgb(tmp_path, cmyk, "TIFF") == [[255] * 3, [0, 255, 255], [0] * 3]
    lab = Image.fromarray(np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8), "LAB")  # a and b are signed
    np.testing.assert_allclose(rgb(tmp_path, lab, "TIFF"), [[0] * 3, [255] * 3], atol=1)
    ycc = Image.fromarray(np.array([[[0, 128, 128], [255, 128, 128]]], np.uint8), "YCbCr")
    assert rgb(tmp_path, ycc, "TIFF") == [[0] * 3, [255] * 3]


def test_inverted_cmyk_of_adobe_jpegs(tmp_path: Path) -> None:
    white = Image.new("CMYK", (8, 8), (0, 0, 0, 0))
    np.testing.assert_array_equal(read(tmp_path, encoded(white, "JPEG")), np.full((8, 8, 3), 255))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_first_frame_of_an_animation(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = read(tmp_path, encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    np.testing.assert_array_equal(pixels, np.full((4, 4, 3), (255, 0, 0)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_what_pillow_converts_right_is_left_to_it(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    data = encoded(image, "TIFF")
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(read(tmp_path, data), expected)


# ---- orientation and size


def turned(orientation: int) -> Image.Image:
    """What a camera held that way stores of ``PIXELS``."""
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(PIXELS)
    return image.transpose(inverse[orientation]) if orientation in inverse else image


def with_tag(image: Image.Image, orientation: int, kind: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(image, kind, exif=exif, **options)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_orientation_is_applied(tmp_path: Path, orientation: int, kind: str) -> None:
    if kind == "TIFF" and orientation in (0, 9):
        pytest.skip("the TIFF reader refuses tags outside 1 … 8 itself")
    np.testing.assert_array_equal(read(tmp_path, with_tag(turned(orientation), orientation, kind), (3, 2)), PIXELS)


def test_size_before_a_quarter_turn_is_refused(tmp_path: Path) -> None:
    data = with_tag(turned(6), 6)
    with pytest.raises(ImageError, match=r"image is 3 x 2, the annotations say 2 x 3, its size before EXIF orient.*6"):
        read(tmp_path, data, (2, 3))


def test_damaged_exif_counts_as_none(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(PIXELS), "PNG", exif=b"Exif\0\0garbage that is no TIFF header")
    np.testing.assert_array_equal(read(tmp_path, data), PIXELS)


def test_unknown_size(tmp_path: Path) -> None:
    for size in (None, (0, 0), (0, 2)):
        np.testing.assert_array_equal(read(tmp_path, encoded(Image.fromarray(PIXELS)), size), PIXELS)


def test_wrong_size(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(PIXELS))
    for size in ((3, 3), (2, 3), (30, 20)):
        with pytest.raises(ImageError, match=rf"image is 3 x 2, the annotations say {size[0]} x {size[1]}$"):
            read(tmp_path, data, size)


# ---- hostile and damaged files


def test_error_has_path_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "none.jpg"
    with pytest.raises(ImageError) as caught:
        read_image(1, path)
    assert (str(caught.value), caught.value.reason) == (f"{path}: no such file", "no such file")


def test_bomb_header_is_refused_before_decoding(tmp_path: Path) -> None:
    for side in (8193, 20_000, 2**31 - 1):
        with pytest.raises(ImageError, match="decompression bomb"):
            read(tmp_path, png(side, side, 8, 2, b""))


def test_limit_is_ours_not_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(PIXELS))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(images, "MAX_PIXELS", 6)
    assert read(tmp_path, data).shape == (2, 3, 3)
    monkeypatch.setattr(images, "MAX_PIXELS", 5)
    with pytest.raises(ImageError, match="3 x 2 pixels, at most 5 are read"):
        read(tmp_path, data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_truncated(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ImageError) as caught:
        read(tmp_path, data[: len(data) // 2])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an image",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/hostname) (r) file\n",
        b"#define im_width 8\n#define im_height 8\nstatic char im_bits[] = {0};\n",
    ],
)
def test_other_formats_are_not_tried(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ImageError, match="is not an image in a supported format"):
        read(tmp_path, data)


def test_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ImageError, match="is not a regular file"):
            read_image(1, path)


def test_reason_is_one_printable_line() -> None:
    error = ImageError(Path("a.jpg"), "two\nlines \x1b[31m" + "x" * 500)
    assert error.reason.startswith("two lines ?[31mxxx")
    assert len(error.reason) == 200


def _samples() -> list[bytes]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8))
    kinds = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")
    tagged = [with_tag(image, 6, kind) for kind in ("PNG", "JPEG", "TIFF")]
    return [encoded(image, kind) for kind in kinds] + tagged


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sample=st.sampled_from(_samples()),
    changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 2**16),
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")  # Pillow's remarks
def test_changed_bytes_give_an_image_or_an_image_error(
    tmp_path: Path, sample: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    data = bytearray(sample)
    for position, value in changes:
        data[position % len(data)] = value
    try:
        pixels = read(tmp_path, bytes(data[: cut % (2 * len(data))]))
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2] == 3
        assert pixels.size


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    magic=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"II*\0", b"MM\0*", b"BM", b"P6 "]),
    rest=st.binary(max_size=300),
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
def test_random_bytes_give_an_image_or_an_image_error(tmp_path: Path, magic: bytes, rest: bytes) -> None:
    try:
        assert read(tmp_path, magic + rest).size
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017
