"""Images to edit: whatever file they are in, they come out upright, opaque, RGB, of 8 bits."""

import io
import logging
import os
import struct
import subprocess
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from gcr.errors import GcrError, UsageError
from gcr.inputs import source

SIZE = (24, 16)


def saved(tmp_path, image, ending=".png", **how):
    path = tmp_path / f"in{ending}"
    image.save(path, **how)
    return path


def pixels(image):
    return np.asarray(image).astype(int)


@pytest.fixture
def ramp():
    """Every pixel another colour."""
    values = np.arange(SIZE[0] * SIZE[1] * 3, dtype="uint32") % 251
    return Image.fromarray(values.astype("uint8").reshape(SIZE[1], SIZE[0], 3))


def test_pixels_stay_as_they_are(tmp_path, ramp):
    path = saved(tmp_path, ramp)
    for given in (path, str(path), ramp):
        read = source.read(given)
        assert (read.mode, read.size) == ("RGB", SIZE)
        assert (pixels(read) == pixels(ramp)).all()


def test_a_picture_is_turned_upright(tmp_path, ramp):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° to the right
    read = source.read(saved(tmp_path, ramp, exif=exif))
    assert read.size == SIZE[::-1]
    assert (pixels(read) == np.rot90(pixels(ramp), -1)).all()
    assert not read.getexif()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    image = Image.new(mode, SIZE, (0, 0, 0, 255) if mode == "RGBA" else (0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0) if mode == "RGBA" else (0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128) if mode == "RGBA" else (0, 128))
    read = source.read(saved(tmp_path, image))
    assert [read.getpixel((x, 0)) for x in range(3)] == [(255,) * 3, (127,) * 3, (0,) * 3]


def test_a_palette_becomes_its_colours(tmp_path):
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 255, 0, 200, 100, 50])
    image.putpixel((0, 0), 0)
    read = source.read(saved(tmp_path, image, transparency=0))
    assert (read.getpixel((0, 0)), read.getpixel((1, 0))) == ((255,) * 3, (200, 100, 50))


def test_sixteen_bits_become_eight(tmp_path):
    values = np.full(SIZE[::-1], 0x8000, dtype="uint16")
    values[0, 0], values[0, 1] = 0xFFFF, 0x00FF
    read = source.read(saved(tmp_path, Image.fromarray(values)))
    assert [read.getpixel((x, 0))[0] for x in range(3)] == [255, 0, 128]


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "HSV"])
def test_every_other_kind_of_pixel_becomes_rgb(mode):
    assert source.read(Image.new(mode, SIZE)).mode == "RGB"


def test_of_an_animation_the_first_picture_is_taken(tmp_path):
    pictures = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
    path = saved(tmp_path, pictures[0], ".webp", save_all=True, append_images=[pictures[1]])
    red, _, blue = source.read(path).getpixel((5, 5))
    assert (red > 200, blue < 50) == (True, True)


def test_a_larger_one_than_can_be_used_is_scaled_and_said(caplog, monkeypatch):
    monkeypatch.setattr(source, "MOST_PIXELS", 64 * 64)
    with caplog.at_level(logging.WARNING):
        assert source.read(Image.new("RGB", (64, 64))).size == (64, 64)
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        assert source.read(Image.new("RGB", (256, 64))).size == (128, 32)
    assert "scaled from 256×64 to 128×32 pixels" in caplog.text


def test_a_file_that_unpacks_to_gigabytes_is_refused(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("RGB", (200, 200)))
    for most in (30_000, 10_000):  # Pillow warns of the one and refuses the other
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(UsageError, match="megapixels"):
            source.read(path)


def missing(path):
    path.unlink()


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def spoiled(path):
    content = bytearray(path.read_bytes())
    content[80:100] = bytes(20)  # inside the pixels
    path.write_bytes(content)


def text(path):
    path.write_text("a red circle")


def empty(path):
    path.write_bytes(b"")


def folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (missing, "No such file"),
        (cut, "cannot read "),
        (spoiled, "cannot read "),
        (text, "is not an image"),
        (empty, "is not an image"),
        (folder, "Is a directory"),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(tmp_path, ramp, spoil, says):
    path = saved(tmp_path, ramp)
    spoil(path)
    with pytest.raises(UsageError, match=says) as caught:
        source.read(path)
    assert "--image" in caught.value.hint
    assert str(path) in caught.value.message


def avif(image):
    """Of which the pixels are damaged: Pillow then raises RuntimeError."""
    file = io.BytesIO()
    image.save(file, "AVIF")
    content = bytearray(file.getvalue())
    at = content.index(b"mdat") + 4
    content[at : at + 8] = b"\xff" * 8
    return bytes(content)


def jpeg2000(image):
    """Whose first part says that it is 4 EiB long: Python makes room for what is to be read."""
    file = io.BytesIO()
    image.save(file, "JPEG2000")
    content = file.getvalue()
    at = content.index(b"jp2h") - 4
    return content[:at] + b"\0\0\0\1jp2h" + struct.pack(">Q", 1 << 62) + content[at + 8 :]


@pytest.mark.parametrize("damaged", [avif, jpeg2000])
def test_a_format_that_fails_in_its_own_way_is_wrong_usage(tmp_path, ramp, damaged):
    path = tmp_path / "image"
    path.write_bytes(damaged(ramp))
    with pytest.raises(UsageError, match=r"cannot read|is not an image"):
        source.read(path)


def test_an_image_of_pillow_that_turns_out_to_be_damaged_is_wrong_usage(tmp_path, ramp):
    path = saved(tmp_path, ramp)
    cut(path)
    with Image.open(path) as lazy, pytest.raises(UsageError, match="cannot read the image given"):
        source.read(lazy)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (Image.new("RGB", (15, 400)), "only 15×400 pixels"),
        (Image.new("F", SIZE), "pixels of 32 bits"),
        (Image.new("I", SIZE), "pixels of 32 bits"),
        (np.zeros((16, 16, 3)), "cannot be a ndarray"),
        ("", "the name of the image is empty"),
    ],
)
def test_what_is_no_picture_is_wrong_usage(image, says):
    with pytest.raises(UsageError, match=says):
        source.read(image)


def test_the_digest_is_of_pixels_and_not_of_files(tmp_path, ramp):
    expected = source.digest(ramp)
    for how in ({"compress_level": 0}, {"compress_level": 9}):
        source.check(saved(tmp_path, ramp, **how), expected)
    tall = Image.frombytes("RGB", SIZE[::-1], ramp.tobytes())
    assert source.digest(tall) != expected


def other(path):
    Image.new("RGB", SIZE).save(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [(missing, "is missing"), (text, "cannot be read"), (other, "was changed since")],
)
def test_a_copy_that_is_not_what_it_was_is_an_error(tmp_path, ramp, spoil, says):
    path = saved(tmp_path, ramp)
    spoil(path)
    with pytest.raises(GcrError, match=says):
        source.check(path, source.digest(ramp))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(UsageError, match="it is not a regular file"):
            source.read(path)
    with pytest.raises(UsageError, match="Is a directory"):
        source.read(tmp_path)
    with pytest.raises(GcrError, match="cannot be read"):
        source.check(tmp_path / "pipe.png", "")


def claiming(tmp_path, width, height):
    """A PNG of a few bytes that claims a size."""
    content = bytearray(saved(tmp_path, Image.new("L", (1, 1))).read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path = tmp_path / "claiming.png"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("size", "says"),
    [
        ((9500, 9500), "more than 89 megapixels"),  # Pillow only warns of this one
        ((60_000, 60_000), "more than 89 megapixels"),
        ((1_000_000, 16), "1000000×16 pixels: one side is more than 64 times the other"),
        ((16, 1_000_000), "16×1000000 pixels: one side is more than 64 times the other"),
        ((15, 15), "has only 15×15 pixels"),
    ],
)
def test_a_size_is_refused_before_anything_is_decoded(tmp_path, size, says, monkeypatch):
    path = claiming(tmp_path, *size)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as the tool has it
        with pytest.raises(UsageError, match=says):
            source.read(path)
    with pytest.raises(UsageError, match="64 times"):
        source.read(Image.new("L", (2000, 16)))


def test_no_other_program_is_run_to_read_an_image(tmp_path, monkeypatch):
    """Pillow would hand this one to Ghostscript."""
    path = tmp_path / "in.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n")
    monkeypatch.setattr(subprocess, "check_call", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(UsageError, match="is not an image"):
        source.read(path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_a_transparent_picture_is_laid_on_white_band_by_band(tmp_path, monkeypatch, mode):
    values = np.random.default_rng(3).integers(0, 256, (40, 24, 4), "uint8")
    image = Image.fromarray(values).convert(mode)
    if mode == "P":
        image.info["transparency"] = 7
    white = Image.new("RGBA", image.size, "white")
    whole = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    monkeypatch.setattr(source, "BAND", 16)
    assert (pixels(source.read(image)) == pixels(whole)).all()


def test_a_picture_that_no_memory_is_left_for_is_named(tmp_path, monkeypatch, ramp):
    def full(*_):
        raise MemoryError

    path = saved(tmp_path, ramp)
    monkeypatch.setattr(source, "_bounded", full)
    with pytest.raises(UsageError, match="no memory is left to read"):
        source.read(path)


def test_a_picture_without_its_palette_is_damaged(tmp_path):
    whole = saved(tmp_path, Image.new("P", SIZE)).read_bytes()
    start = whole.index(b"PLTE") - 4
    (length,) = struct.unpack(">I", whole[start : start + 4])
    path = tmp_path / "damaged.png"
    path.write_bytes(whole[:start] + whole[start + 12 + length :])
    with pytest.raises(UsageError, match=r"cannot read .*: its colours are numbers"):
        source.read(path)
