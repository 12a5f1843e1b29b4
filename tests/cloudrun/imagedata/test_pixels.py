"""Images as they are: depths, orientations whatever else is in the EXIF, formats, and what cannot be read."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloudrun.errors import JobFileError
from cloudrun.imagedata.pixels import UnreadableImage, inspect, read_image
from cloudrun.imagedata.walk import walk
from cloudrun.job.job_file import load_job
from cloudrun.runs.prepare import check_job


@pytest.mark.parametrize(
    ("name", "values", "grey"),
    [
        ("a.png", np.full((8, 8), 40_000, np.uint16), 155),
        ("a.tif", np.full((8, 8), 65_535, np.uint16), 255),
        ("a.pgm", np.full((8, 8), 32_768, np.uint16), 127),
        ("a.tif", np.full((8, 8), 0.5, np.float32), 127),
        ("a.tif", np.full((8, 8), 200.0, np.float32), 200),
        ("a.tif", np.full((8, 8), 40_000.0, np.float32), 155),
        ("a.tif", np.full((8, 8), 30_000, np.int32), 116),
        ("a.png", np.full((8, 8), 77, np.uint8), 77),
    ],
)
def test_grey_values_of_any_depth_are_scaled_to_8_bits(
    tmp_path: Path,
    name: str,
    values: np.ndarray,
    grey: int,  # type: ignore[type-arg]
) -> None:
    Image.fromarray(values).save(tmp_path / name)
    decoded = read_image(tmp_path / name)
    assert decoded.image.mode == "RGB"
    assert decoded.image.getpixel((0, 0)) == pytest.approx((grey,) * 3, abs=1)
    assert inspect(tmp_path / name, decode=False).is_deep == (values.dtype != np.uint8)


def test_values_beyond_any_usual_range_are_scaled_by_their_own(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(-1e6, 1e6, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "a.tif")
    low, high = read_image(tmp_path / "a.tif").image.convert("L").getextrema()
    assert (low, high) == (0, pytest.approx(255, abs=1))


def _exif(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF with entries of one directory: tag, type, count, the four bytes of the value."""
    body = b"".join(struct.pack("<HHL", tag, kind, count) + value for tag, kind, count, value in entries)
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries)) + body + b"\0\0\0\0"


TURNED = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


@pytest.mark.parametrize(
    "broken",
    [
        (0x010F, 1, 4, b"\xff\xff\xff\xff"),
        (0x010F, 2, 500, struct.pack("<L", 10_000)),
        (0x0132, 12, 1, struct.pack("<L", 4)),
        (0x8825, 4, 1, struct.pack("<L", 9_999)),
        (0x8769, 4, 1, struct.pack("<L", 8)),
        (0x8769, 2, 4, b"no\0\0"),
        (0x9286, 7, 1, b"\xff\0\0\0"),
        (0xFFFF, 99, 7, b"\0\0\0\0"),
        (0x011A, 5, 1, struct.pack("<L", 0xFFFFFFFF)),
    ],
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_the_orientation_is_followed_whatever_else_is_broken(
    tmp_path: Path, broken: tuple[int, int, int, bytes], suffix: str
) -> None:
    image = Image.new("RGB", (32, 16), (200, 0, 0))
    path = tmp_path / f"phone.{suffix}"
    image.save(path, exif=_exif(*sorted([TURNED, broken])))
    decoded = read_image(path)
    assert decoded.image.size == (decoded.width, decoded.height) == (16, 32)
    assert inspect(path, decode=True).problem is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    noise = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(noise).save(path, exif=_exif((0x0112, 3, 1, struct.pack("<HH", orientation, 0))))
    with Image.open(path) as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    assert read_image(path).image.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jfif", "JPEG"), ("a.jpe", "JPEG"), ("a.JPG", "JPEG"), ("a.jpg_large", "JPEG"), ("a", "JPEG"), ("a", "PNG"),
        ("a", "WEBP"), ("a", "BMP"), ("a", "GIF"), ("a", "TIFF"), ("a.jp2", "JPEG2000"), ("a.avif", "AVIF"),
        ("a.tga", "TGA"), ("a.pnm", "PPM"), ("a.dib", "DIB"), ("a", "AVIF"), ("a", "JPEG2000"),
    ],
)  # fmt: skip
def test_formats_are_taken_by_suffix_or_content(tmp_path: Path, name: str, kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.new("RGB", (16, 16), (10, 200, 30)).save(tmp_path / name, kind)
    assert walk(tmp_path).images == [tmp_path / name]
    assert read_image(tmp_path / name).image.getpixel((8, 8)) == pytest.approx((10, 200, 30), abs=12)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"hello", "unrecognised image format"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 40, ""),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 20, ""),
        (b"GIF89a" + b"\xff" * 9, ""),
        (b"RIFF\x10\0\0\0WEBPVP8 " + b"\0" * 8, ""),
        (b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40, ""),
    ],
)
def test_whatever_a_decoder_raises_names_the_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "odd.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=f"odd.jpg cannot be read as an image: {reason}") as caught:
        read_image(path)
    assert inspect(path, decode=True).problem == caught.value.reason
    assert caught.value.reason


def test_an_image_beyond_the_limit_says_how_to_allow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (15_000, 13_000)).save(tmp_path / "scan.png")
    assert "15000 x 13000 pixels, 195 megapixels, more than the limit of 179" in str(
        inspect(tmp_path / "scan.png", decode=False).problem
    )
    monkeypatch.setenv("CLOUDRUN_MAX_MEGAPIXELS", "200")
    assert inspect(tmp_path / "scan.png", decode=False).problem is None


def test_the_limit_that_a_job_sets_is_that_of_its_check(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for index in range(2):
            Image.new("L", (8, 8)).save(tmp_path / "data" / name / f"{index}.png")
    Image.new("1", (15_000, 13_000)).save(tmp_path / "data/a/scan.png")

    def check(env: str) -> None:
        text = f"name: x\ninfra: local\ndata: {{source: data}}\nenv: {env}\ntrain: {{pretrained: false}}\n"
        (tmp_path / "job.yaml").write_text(text)
        check_job(load_job(tmp_path / "job.yaml"))

    check("{CLOUDRUN_MAX_MEGAPIXELS: 196}")
    with pytest.raises(JobFileError, match="195 megapixels, more than the limit of 179"):
        check("{}")
    with pytest.raises(JobFileError, match=r"`env.CLOUDRUN_MAX_MEGAPIXELS` is many, and not a number"):
        check("{CLOUDRUN_MAX_MEGAPIXELS: many}")


def test_a_cut_jpeg_is_found_by_its_end_and_one_that_lacks_the_mark_alone_is_fine(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / "a.jpg"
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 5000)
    assert inspect(path, decode=False).problem is None
    path.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in str(inspect(path, decode=False).problem)
