"""Every kind of picture becomes RGB in [0, 1], or one sentence that says why not."""

import numpy as np
import pytest
import torch
from PIL import Image

from perceptio.errors import InputError
from perceptio.ops import image_files
from perceptio.ops.held_files import HeldFile
from perceptio.ops.image_files import as_image, read_image, shown_size

RED = (255, 0, 0)


def saved(path, image, **options):
    image.save(path, **options)
    return path


def test_an_rgb_file_is_read_exactly(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = read_image(saved(tmp_path / "a.png", Image.fromarray(pixels)))
    assert image.shape == (3, 9, 12) and image.dtype == torch.float32
    np.testing.assert_array_equal((image * 255).round().numpy().astype(np.uint8), pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK"])
def test_gray_palette_and_print_colors_become_rgb(tmp_path, mode):
    name = "a.tiff" if mode == "CMYK" else "a.png"
    image = read_image(saved(tmp_path / name, Image.new("RGB", (10, 8), (255, 255, 255)).convert(mode)))
    assert image.shape == (3, 8, 10)
    torch.testing.assert_close(image, torch.ones(3, 8, 10), atol=0.02, rtol=0)


def test_sixteen_bits_keep_their_precision(tmp_path):
    gray = np.full((8, 8), 257 * 100 + 13, dtype=np.uint16)
    image = read_image(saved(tmp_path / "a.png", Image.fromarray(gray)))
    assert image[0, 0, 0].item() == pytest.approx((257 * 100 + 13) / 65535, abs=1e-7)


def test_what_is_transparent_lies_over_white(tmp_path):
    picture = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    picture.putpixel((3, 3), (*RED, 255))
    image = read_image(saved(tmp_path / "a.png", picture))
    assert image[:, 0, 0].tolist() == [1.0, 1.0, 1.0]
    assert image[:, 3, 3].tolist() == [1.0, 0.0, 0.0]


def test_a_turned_photograph_is_set_upright(tmp_path):
    picture = Image.new("RGB", (20, 10))
    picture.paste(RED, (0, 0, 10, 10))  # The left half.
    exif = Image.Exif()
    exif[0x0112] = 6  # To be shown turned a quarter to the right.
    image = read_image(saved(tmp_path / "a.png", picture, exif=exif))
    assert image.shape == (3, 20, 10)
    assert image[0, :10].mean() > 0.9 and image[0, 10:].mean() < 0.1  # Red is above.


def animated(path):
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, (0, 255, 0))]
    return saved(path.with_suffix(".gif"), frames[0], save_all=True, append_images=frames[1:])


def truncated(path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = saved(path, Image.fromarray(noise)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def written(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "does not exist: check the path"),
        (lambda path: path.parent, "is a folder: name a file in it"),
        (lambda path: written(path, b""), "is empty: write or download it again"),
        (lambda path: written(path, b"hello"), "is no image that can be read"),
        (truncated, "cannot be read to its end"),
        (animated, "holds 2 pictures"),
        (lambda path: saved(path, Image.new("RGB", (1, 1))), "is 1x1 pixels: an image needs at least 8"),
        (
            lambda path: saved(path.with_suffix(".tiff"), Image.new("F", (9, 9))),
            "holds floating point numbers",
        ),
    ],
)
def test_what_cannot_be_looked_at_is_said_in_a_sentence(tmp_path, make, message):
    with pytest.raises(InputError, match=message):
        read_image(make(tmp_path / "a.png"))


def test_an_enormous_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_PIXELS", 99)
    with pytest.raises(InputError, match="10x10 pixels, more than 99 in all: make it smaller first"):
        read_image(saved(tmp_path / "a.png", Image.new("RGB", (10, 10))))


def test_a_pillow_image_in_hand_is_left_as_it_was():
    picture = Image.new("P", (9, 9))
    as_image(picture)
    assert picture.mode == "P"


@pytest.mark.parametrize("orientation", range(1, 10))
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_the_shown_size_is_that_of_the_picture_as_it_is_read(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / name, Image.new("RGB", (20, 10), RED), exif=exif)
    assert shown_size(path) == tuple(read_image(path).shape[1:])
    assert shown_size(path) == ((20, 10) if 5 <= orientation <= 8 else (10, 20))


def test_a_file_in_memory_is_read_as_one_on_disk(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGB", (10, 8), RED))
    assert torch.equal(read_image(HeldFile("row 1", path.read_bytes())), read_image(path))
    with pytest.raises(InputError, match="row 1 is no image that can be read: save it as PNG or JPEG"):
        read_image(HeldFile("row 1", b"no picture"))
    with pytest.raises(InputError, match="row 1 cannot be read to its end"):
        read_image(HeldFile("row 1", path.read_bytes()[:-30]))
