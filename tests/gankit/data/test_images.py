import io
import os
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from gankit import command
from gankit.data import images

GREY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def save(path, array, mode=None, **options):
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def chunk(kind, data):
    body = kind + data
    return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def png(width, height, *chunks, bits=8, colour=0):
    """The bytes of a PNG file, with the given (kind, data) after its header."""
    sizes = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    header = chunk(b"IHDR", sizes + bytes([bits, colour, 0, 0, 0]))
    body = b"".join(chunk(*part) for part in chunks)
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


def fails(path):
    """Read a file that can't be used; return the one line, with no warning beside."""
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(command.InputError) as caught,
    ):
        images.read_image(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and "; " in line and "\n" not in line
    return line


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_grey_and_colour(suffix, tmp_path):
    for array, shape in ((GREY, (4, 6, 1)), (COLOUR, (4, 6, 3))):
        path = tmp_path / f"image{suffix}"
        save(path, array, quality=100, subsampling=0)
        pixels = images.read_image(path)
        assert pixels.shape == shape and pixels.dtype == np.uint8
        off = np.abs(pixels.astype(int) - array.reshape(shape)).max()
        assert off <= (0 if suffix == ".png" else 4)


def test_two_levels_and_palettes(tmp_path):
    path = save(tmp_path / "1.png", GREY > 100, "1")
    np.testing.assert_array_equal(
        images.read_image(path)[..., 0], np.where(GREY > 100, 255, 0)
    )
    path = tmp_path / "p.png"
    Image.fromarray(COLOUR).quantize(24).save(path)
    assert Image.open(path).mode == "P"
    np.testing.assert_array_equal(images.read_image(path), COLOUR)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", ".png"), ("P", ".png"), ("RGBA", ".png"), ("RGB", ".jpg")],
)
def test_grey_that_is_stored_with_colours_is_grey(mode, suffix, tmp_path):
    path = save(tmp_path / f"image{suffix}", GREY, mode, quality=100)
    assert Image.open(path).mode == mode
    pixels = images.read_image(path)
    assert pixels.shape == (4, 6, 1)
    assert np.abs(pixels[..., 0].astype(int) - GREY).max() <= (suffix == ".jpg") * 4
    # whoever takes colours gets them as they were
    np.testing.assert_array_equal(
        images.fit_image(pixels, 4, 6, 3), np.asarray(Image.open(path).convert("RGB"))
    )
    # a single pixel that has a colour counts
    array = np.repeat(GREY[..., None], 3, axis=2)
    array[2, 3, 1] ^= 1
    save(path.with_suffix(".png"), array)
    np.testing.assert_array_equal(images.read_image(path.with_suffix(".png")), array)


def test_16_bits_are_scaled_not_clipped(tmp_path):
    path = save(tmp_path / "16.png", GREY.astype(np.uint16) * 257)
    np.testing.assert_array_equal(images.read_image(path)[..., 0], GREY)
    path.write_bytes(
        png(
            *(2, 1, (b"tRNS", b"\x12\x34")),
            *[(b"IDAT", zlib.compress(b"\0\x12\x34\x80\x00"))],
            bits=16,
        )
    )
    assert images.read_image(path).ravel().tolist() == [255, 128]


def test_cmyk(tmp_path):
    path = tmp_path / "cmyk.jpg"
    red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    save(path, red, "CMYK")
    assert Image.open(path).mode == "CMYK"
    pixels = images.read_image(path).astype(int)
    assert pixels.shape == (8, 8, 3) and np.abs(pixels - red).max() < 8


@pytest.mark.parametrize("kind", ["LA", "RGBA", "P", "L and a level", "RGB and one"])
def test_transparent_parts_are_white(kind, tmp_path):
    path, options = tmp_path / "image.png", {}
    colour = kind in ("RGBA", "P", "RGB and one")
    array = np.full((1, 3, 3), (10, 20, 30), np.uint8) if colour else GREY[:1, :3]
    picture = Image.fromarray(array)
    if kind in ("LA", "RGBA"):
        picture.putalpha(Image.fromarray(np.array([[255, 128, 0]], np.uint8)))
    elif kind == "P":
        picture = Image.fromarray(np.array([[1, 1, 0]], np.uint8), "P")
        picture.putpalette([0, 0, 0, 10, 20, 30])
        options["transparency"] = 0
    else:
        picture.putpixel((2, 0), (1, 2, 3) if colour else 77)
        options["transparency"] = (1, 2, 3) if colour else 77
    picture.save(path, **options)
    pixels = images.read_image(path)
    assert pixels.shape == (1, 3, 3 if colour else 1)
    np.testing.assert_array_equal(pixels[0, 0], array[0, 0].ravel())
    assert (pixels[0, 2] == 255).all()
    if kind in ("LA", "RGBA"):
        expected = (array[0, 1].astype(int) * 128 + 255 * 127) / 255
        np.testing.assert_allclose(pixels[0, 1], expected.ravel(), atol=1)


def test_of_an_animation_the_first_image(tmp_path):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    path = tmp_path / "animated.png"
    first.save(path, save_all=True, append_images=[second], duration=100)
    assert Image.open(path).n_frames == 2
    np.testing.assert_array_equal(images.read_image(path)[..., 0], GREY)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_rotation_by_exif(orientation, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # blocks of 8 x 8 for JPEG, whose losses are small then
    array = np.kron(GREY[:2, :3], np.ones((8, 8), np.uint8))
    path = save(tmp_path / f"image{suffix}", array, exif=exif)
    turned = [
        *(array, array[:, ::-1], array[::-1, ::-1], array[::-1]),
        *(array.T, array.T[:, ::-1], array.T[::-1, ::-1], array.T[::-1]),
    ][orientation - 1]
    difference = images.read_image(path)[..., 0].astype(int) - turned
    assert np.abs(difference).max() < 4


def test_broken_exif_data_do_not_matter(tmp_path):
    path = save(tmp_path / "image.jpg", GREY, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with warnings.catch_warnings(action="error"):
        assert images.read_image(path).shape == (4, 6, 1)


def test_the_number_of_pixels_is_bounded(tmp_path):
    path = tmp_path / "bomb.png"
    zeros = zlib.compress(bytes(1 << 20), 9)
    for width, height in ((7072, 7072), (2**31 - 1, 2**31 - 1), (50_000_001, 1)):
        path.write_bytes(png(width, height, (b"IDAT", zeros)))
        assert f"has {width} x {height} pixels" in fails(path) or (
            "can't be read" in fails(path)
        )
    text = b"key\0\0" + zlib.compress(bytes(64 << 20), 9)
    path.write_bytes(png(1, 1, (b"zTXt", text), (b"IDAT", zlib.compress(b"\0\0"))))
    assert "can't be read" in fails(path)
    with open(path, "wb") as file:
        file.truncate(images.LARGEST_FILE + 1)
    assert "has 190 MiB; make it smaller" in fails(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9])
def test_files_that_are_cut_short(suffix, share, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), np.uint8)
    path = save(tmp_path / f"image{suffix}", noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    fails(path)


def test_what_is_no_image(tmp_path):
    text = tmp_path / "text.png"
    text.write_text("not an image")
    assert "not a PNG or JPEG image" in fails(text)
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "GIF")
    text.write_bytes(buffer.getvalue())
    assert "not a PNG or JPEG image" in fails(text)
    assert "no such file" in fails(tmp_path / "gone.png")
    assert "not a file" in fails(tmp_path)
    os.mkfifo(tmp_path / "fifo.png")
    assert "not a file" in fails(tmp_path / "fifo.png")
    assert "not a file" in fails("/dev/zero")
    # the content counts
    save(tmp_path / "no_suffix", GREY, format="PNG")
    assert images.read_image(tmp_path / "no_suffix").shape == (4, 6, 1)


def test_an_image_that_fits_stays_as_it_is():
    for array in (GREY[..., None], COLOUR):
        fitted = images.fit_image(array, *array.shape)
        np.testing.assert_array_equal(fitted, array)


def test_fitting_keeps_proportions_and_fills_with_the_border():
    image = np.full((40, 20, 1), 200, np.uint8)
    image[10:30, 5:15] = 0
    fitted = images.fit_image(image, 28, 28, 1)[..., 0]
    assert fitted.shape == (28, 28) and fitted.dtype == np.uint8
    assert (fitted[:, :7] == 200).all() and (fitted[:, 21:] == 200).all()
    dark = fitted < 100
    # half as high and half as wide as the image, which is 28 x 14 by now
    assert dark.any(axis=1).sum() == 14 and dark.any(axis=0).sum() in (6, 7, 8)
    for shape in ((1, 5000, 3), (5000, 1, 1)):
        thin = images.fit_image(np.full(shape, 9, np.uint8), 28, 28, shape[2])
        assert thin.shape == (28, 28, shape[2]) and (thin == 9).all()


def test_fitting_blurs_before_it_leaves_pixels_out():
    stripes = np.zeros((280, 280, 1), np.uint8)
    stripes[:, ::2] = 255
    inner = images.fit_image(stripes, 28, 28, 1)[:, 2:-2].astype(int)
    assert np.abs(inner - 127.5).max() < 10


def test_grey_and_colour_become_each_other():
    grey = images.fit_image(COLOUR, 4, 6, 1)
    expected = COLOUR @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(grey[..., 0], expected, atol=1)
    colour = images.fit_image(GREY[..., None], 8, 12, 3)
    assert colour.shape == (8, 12, 3) and (colour == colour[..., :1]).all()


def test_scaling():
    x = np.array([[[0, 51, 255]]], np.uint8)
    for array in (x, x[..., np.newaxis]):
        scaled = images.scale_images(array)
        assert scaled.shape == (1, 1, 3, 1) and scaled.dtype == np.float32
        np.testing.assert_allclose(scaled.ravel(), [-1, -0.6, 1], rtol=1e-6)
    assert x.ravel().tolist() == [0, 51, 255]


def test_finding_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    others = ("c.txt", ".hidden.png", ".git/e.png", "__MACOSX/f.png", "Thumbs.db")
    for name in ("b.png", "a.JPG", "sub/d.jpeg", "e.jfif", "f.jpe", "g.Jif", *others):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder" / "sub" / "loop").symlink_to(tmp_path / "folder")
    (tmp_path / "a[1].png").touch()

    def found(*paths):
        return [str(path) for path in images.find_images(paths)]

    names = ("a.JPG", "b.png", "e.jfif", "f.jpe", "g.Jif", "sub/d.jpeg")
    everything = [f"folder/{name}" for name in names]
    assert found("folder") == found("folder/") == everything
    assert found("fold*") == everything
    assert found("folder/*.png", "folder/c.txt") == ["folder/b.png", "folder/c.txt"]
    assert found("folder/[s-t]*/?.jpeg") == ["folder/sub/d.jpeg"]
    assert found("a[1].png", "gone.png", "x*.png") == ["a[1].png", "gone.png", "x*.png"]
    assert found() == []
