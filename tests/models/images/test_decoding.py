import io
import pickle
import struct
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from models.images import decoding, side_data
from models.images.decoding import ImageFault, ImageInfo, check, decode
from models.inference.classifier import ImageModel
from udfs.hashes import pdq
from udfs.inference.classify import _pixels

LIMIT = 100.0


def encoded(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def tiff(tags: dict[int, int], pixels: bytes = b"") -> bytes:
    """Returns an 8-bit grey TIFF whose pixels begin at byte 8."""
    tags = {258: 8, 259: 1, 262: 1, 277: 1, **tags}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + directory


def progressive(more_scans: int = 0) -> bytes:
    """Returns a progressive grey JPEG with 6 scans, with the last scan repeated."""
    data = encoded(halves("L"), "JPEG", progressive=True)
    assert data.count(b"\xff\xda") == 6
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * more_scans + b"\xff\xd9"


def coloured(mode: str) -> Image.Image:
    """Returns noise in any mode, 64 pixels wide and 30 high."""
    rng = np.random.default_rng(0)
    if mode == "I":
        return Image.fromarray(rng.integers(0, 65_536, (30, 64), dtype=np.int32))
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (64, 30), rng.bytes(64 * 30 * 2))
    picture = Image.frombytes(mode, (64, 30), rng.bytes(64 * 30 * len(Image.new(mode, (1, 1)).getbands())))
    if mode in ("P", "PA"):
        picture.putpalette(rng.bytes(768))
    return picture


def halves(mode: str = "RGB", size: tuple[int, int] = (40, 20)) -> Image.Image:
    """Returns an image that is red on the left and blue on the right."""
    picture = Image.new("RGB", size, "red")
    picture.paste((0, 0, 255), (size[0] // 2, 0, *size))
    return picture.convert(mode)


def noise(size: tuple[int, int] = (300, 200)) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def reason_of(data: bytes) -> str:
    with pytest.raises(ImageFault) as caught:
        check(data, LIMIT)
    assert caught.value.detail
    return caught.value.reason


def near(pixel: object, colour: tuple[int, int, int], tolerance: int = 6) -> bool:
    return bool(np.abs(np.subtract(pixel, colour)).max() <= tolerance)


def test_marks_of_scans_are_counted_wherever_they_begin():
    rng = np.random.default_rng(0)
    for size in range(2, 40):
        data = bytes(rng.choice(np.array([0xFF, 0xDA, 0], np.uint8), size))
        assert decoding._scan_marks(data) == data.count(b"\xff\xda")


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "MPO"])
def test_the_format_is_detected_from_the_content(fmt: str) -> None:
    options = {"save_all": True, "append_images": [halves()]} if fmt == "MPO" else {}
    data = encoded(halves(), fmt, **options)

    assert check(data, LIMIT) == ImageInfo(40, 20, fmt)
    picture = decode(data, 1000)
    assert picture.mode == "RGB"
    assert near(picture.getpixel((5, 10)), (255, 0, 0)) and near(picture.getpixel((35, 10)), (0, 0, 255))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_jpeg_is_a_fault(progressive: bool, share: float) -> None:
    data = encoded(noise(), "JPEG", progressive=progressive)

    assert reason_of(data[: int(len(data) * share)]) == "truncated"


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "GIF", "BMP"])
def test_an_image_cut_in_the_middle_is_a_fault(fmt: str) -> None:
    data = encoded(noise(), fmt)

    assert reason_of(data[: len(data) // 2]) in ("truncated", "corrupt")


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_bare_signature_is_corrupt(fmt: str) -> None:
    assert reason_of(encoded(halves(), fmt)[:18]) in ("truncated", "corrupt")


def test_an_empty_file_is_a_fault() -> None:
    assert reason_of(b"") == "empty"


def test_text_is_not_an_image() -> None:
    assert reason_of(b"<html><body>404 Not Found</body></html>") == "not an image"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC"),
        (b"\0\0\1\0\1\0\x10\x10" + bytes(20), "ICO"),
        (b"II\xbc\x01" + bytes(20), "JPEG XR"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<!DOCTYPE svg PUBLIC ''>\n<svg width='1'/>", "SVG"),
        (b"\n\t <!-- <b> --><svg:svg/>", "SVG"),
        ("\ufeff<?xml version='1.0' encoding='utf-16'?><SVG>".encode("utf-16-le"), "SVG"),
    ],
)
def test_the_fault_names_a_known_unsupported_format(data: bytes, name: str) -> None:
    with pytest.raises(ImageFault, match=f"^unsupported: {name} is not read: convert it to one of JPEG, "):
        check(data, LIMIT)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"<!DOCTYPE HTML><title>404</title><svg/>", "an HTML page"),
        (b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><svg/></html>", "an HTML page"),
        (b"\r\n<html><body>404 Not Found</body></html>", "an HTML page"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "an MP4 video"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "a QuickTime video"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", "a WebM or Matroska video"),
        (b"<?xml version='1.0'?><svgfont/>", "no known image format begins with"),
        (b"an <svg> in text", "no known image format begins with b'an <svg>"),
    ],
)
def test_the_fault_says_what_comes_in_place_of_an_image(data: bytes, what: str) -> None:
    with pytest.raises(ImageFault, match=f"^not an image: {what}"):
        check(data, LIMIT)


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    assert reason_of(png(50_000, 50_000, 8, 2, b"")) == "decompression bomb"


def test_the_limit_is_in_megapixels() -> None:
    data = encoded(Image.new("L", (1000, 1001)), "PNG")

    assert check(data, 1.001).width == 1000
    with pytest.raises(ImageFault, match="over the limit of 1"):
        check(data, 1.0)


@pytest.mark.parametrize("call", [lambda data: check(data, LIMIT), lambda data: decode(data, 8)])
def test_the_side_of_an_image_is_limited(call: Callable[[bytes], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_SIDE", 100)

    call(encoded(Image.new("L", (100, 1)), "PNG"))
    for size in ((101, 1), (1, 101)):
        with pytest.raises(ImageFault, match=r"decompression bomb: .* side over the limit of 100 pixels"):
            call(encoded(Image.new("L", size), "PNG"))


def test_a_side_may_be_as_long_as_in_a_jpeg() -> None:
    assert check(encoded(Image.new("L", (65_535, 1)), "GIF"), LIMIT).width == 65_535
    assert reason_of(png(1, 65_536, 8, 0, b"\0\0" * 65_536)) == "decompression bomb"


def test_a_tile_larger_than_the_image_counts_towards_the_limit() -> None:
    pixels = zlib.compress(bytes(64 * 64))
    data = tiff({256: 16, 257: 16, 259: 8, 322: 64, 323: 64, 324: 8, 325: len(pixels)}, pixels)

    assert check(data, 0.0041) == ImageInfo(16, 16, "TIFF")
    with pytest.raises(ImageFault, match="decompression bomb: a tile of 64 x 64"):
        check(data, 0.004)


def test_a_strip_ends_with_the_image() -> None:
    pixels = zlib.compress(bytes(16 * 16))
    data = tiff({256: 16, 257: 16, 259: 8, 273: 8, 278: 60_000, 279: len(pixels)}, pixels)

    assert check(data, 0.001) == ImageInfo(16, 16, "TIFF")


def test_a_tiff_with_missing_strips_is_truncated() -> None:
    whole = tiff({256: 8, 257: 4, 273: 8, 278: 4, 279: 32}, bytes(32))
    first = tiff({256: 8, 257: 4, 273: 8, 278: 1, 279: 8}, bytes(8))

    assert check(whole, LIMIT) == ImageInfo(8, 4, "TIFF")
    assert reason_of(first) == "truncated"


def test_a_large_gif_is_refused_before_its_frame_is_allocated() -> None:
    screen = b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6)
    replaced_by_background = b"!\xf9\x04" + bytes([2 << 2, 0, 0, 0, 0])
    frame = b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0) + b"\x02\x02\x4c\x01\x00;"

    # Pillow's own message: it stops while it reads the header, which would take 4 GB.
    with pytest.raises(ImageFault, match=r"decompression bomb: Image size .* exceeds limit of 1000000000 pixels"):
        check(screen + replaced_by_background + frame, LIMIT)


@pytest.mark.parametrize("call", [lambda data: check(data, LIMIT), lambda data: decode(data, 8)])
def test_a_jpeg_with_many_scans_is_a_decompression_bomb(call: Callable[[bytes], object]) -> None:
    call(progressive(94))
    with pytest.raises(ImageFault, match="decompression bomb: a JPEG of more than 100 scans"):
        call(progressive(95))


def test_fill_bytes_before_a_scan_do_not_hide_it() -> None:
    assert reason_of(progressive(95).replace(b"\xff\xda", b"\xff\xff\xff\xda")) == "decompression bomb"


def test_scans_of_other_images_in_a_file_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MOST_SCANS", 6)
    mpo = encoded(halves("L"), "MPO", save_all=True, append_images=[halves("L")] * 3, progressive=True)
    with_thumbnail = encoded(halves("L"), "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0" + progressive())
    with_film = progressive() + b"film\xff\xda" * 9

    assert mpo.count(b"\xff\xda") == 24 and check(mpo, LIMIT) == ImageInfo(40, 20, "MPO")
    assert with_thumbnail.count(b"\xff\xda") == 12 and check(with_thumbnail, LIMIT) == ImageInfo(40, 20, "JPEG")
    assert check(with_film, LIMIT) == ImageInfo(40, 20, "JPEG")


def test_a_normal_progressive_jpeg_is_accepted() -> None:
    assert check(encoded(noise(), "JPEG", progressive=True), LIMIT) == ImageInfo(300, 200, "JPEG")


def test_decode_applies_the_given_limit() -> None:
    data = png(20_000, 10_000, 8, 6, b"")

    with pytest.raises(ImageFault, match="over the limit of 180"):
        decode(data, 8, decoding.MAX_MEGAPIXELS)


@pytest.mark.parametrize(
    "is_null",
    [
        lambda data: pdq.pdq.func(pd.Series([data])).hash[0] is None,
        lambda data: _pixels(data, ImageModel("any.onnx", (8, 8))) is None,
    ],
)
def test_unchecked_images_are_decoded_within_the_limit(
    is_null: Callable[[bytes], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(halves(), "BMP")
    assert not is_null(data)

    monkeypatch.setattr(decoding, "MAX_MEGAPIXELS", 0.0001)

    assert is_null(data)


def test_the_limit_without_settings_equals_their_default() -> None:
    settings = tomllib.loads((Path(decoding.__file__).parents[2] / "conf" / "winnow.toml").read_text())

    assert settings["ingest"]["max_megapixels"] == decoding.MAX_MEGAPIXELS


def test_a_wrong_checksum_in_a_png_is_corrupt() -> None:
    data = bytearray(encoded(noise(), "PNG"))
    data[data.index(b"IDAT") + 100] ^= 0xFF

    assert reason_of(bytes(data)) in ("corrupt", "truncated")


def test_bytes_after_the_end_of_a_jpeg_are_ignored() -> None:
    data = encoded(halves(), "JPEG")

    assert check(data + b"garbage" * 500, LIMIT) == check(data, LIMIT)
    assert decode(data + b"garbage" * 500, 1000).tobytes() == decode(data, 1000).tobytes()


def test_cmyk_becomes_rgb() -> None:
    data = encoded(halves("CMYK"), "JPEG", quality=95)

    assert check(data, LIMIT) == ImageInfo(40, 20, "JPEG")
    picture = decode(data, 1000)
    assert near(picture.getpixel((5, 10)), (255, 0, 0), 12) and near(picture.getpixel((35, 10)), (0, 0, 255), 12)


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    data = png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 0x80FF, 0xFF00))

    assert check(data, LIMIT) == ImageInfo(2, 1, "PNG")
    assert np.asarray(decode(data, 1)).tolist() == [[[0x80] * 3, [0xFF] * 3]]


def test_sixteen_bit_rgb_keeps_its_high_bytes() -> None:
    data = png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 0x1122, 0x8000, 0xFE01))

    assert decode(data, 1).getpixel((0, 0)) == (0x11, 0x80, 0xFE)


def test_transparent_palette_colours_become_white() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putdata([0, 1])
    data = encoded(picture, "PNG", transparency=0)

    assert np.asarray(decode(data, 1)).reshape(-1, 3).tolist() == [[255, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_half_transparent_pixels_are_mixed_with_white(mode: str) -> None:
    picture = Image.new(mode, (1, 1), (0, 0, 0, 128) if mode == "RGBA" else (0, 128))

    assert near(decode(encoded(picture, "PNG"), 1).getpixel((0, 0)), (127, 127, 127), 1)


@pytest.mark.parametrize(
    ("mode", "fmt", "transparency"),
    [
        *[("RGBA", fmt, None) for fmt in ("PNG", "TIFF", "WEBP", "AVIF")],
        *[("LA", "PNG", None), ("PA", "TIFF", None), ("P", "GIF", 3), ("P", "PNG", 3), ("P", "PNG", bytes(range(256)))],
        *[("L", "PNG", 7), ("RGB", "PNG", (1, 2, 3))],
    ],
)
def test_converting_transparency_in_bands_gives_the_same_pixels(
    mode: str, fmt: str, transparency: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions converted the whole image at once. The hashes of their lakes must stay valid."""
    data = encoded(coloured(mode), fmt, **({} if transparency is None else {"transparency": transparency}))
    rgba = Image.open(io.BytesIO(data)).convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")

    for pixels in (1, 7 * 64, 10**6):
        monkeypatch.setattr(decoding, "_BAND_PIXELS", pixels)
        assert decode(data, 1).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("mode", "fmt"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF"), ("I", "TIFF")])
def test_converting_sixteen_bits_in_bands_gives_the_same_pixels(
    mode: str, fmt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(coloured(mode), fmt)
    grey = np.asarray(Image.open(io.BytesIO(data))).astype(np.int64).clip(0, 65535) >> 8
    expected = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)

    for pixels in (1, 7 * 64, 10**6):
        monkeypatch.setattr(decoding, "_BAND_PIXELS", pixels)
        assert np.array_equal(np.asarray(decode(data, 1)), expected)


def test_transparency_is_converted_one_band_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    whole = Image.alpha_composite
    monkeypatch.setattr(decoding.Image, "alpha_composite", lambda *pair: sizes.append(pair[1].size) or whole(*pair))

    decode(encoded(Image.new("RGBA", (1024, 1000)), "PNG"), 1)

    assert sizes == [(1024, 256)] * 3 + [(1024, 232)]


@pytest.mark.parametrize("fmt", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(fmt: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if fmt == "WEBP" else {}
    data = encoded(frames[0], fmt, save_all=True, append_images=frames[1:], **options)

    assert check(data, LIMIT) == ImageInfo(16, 16, fmt)
    assert decode(data, 1).getpixel((8, 8)) == (255, 0, 0)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "size", "red_at"),
    [(1, (40, 20), (5, 10)), (3, (40, 20), (35, 10)), (6, (20, 40), (10, 5)), (8, (20, 40), (10, 35))],
)
def test_the_exif_orientation_is_applied(
    fmt: str, orientation: int, size: tuple[int, int], red_at: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(halves(), fmt, exif=exif)

    assert check(data, LIMIT) == ImageInfo(*size, fmt)
    picture = decode(data, 1000)
    assert picture.size == size
    assert near(picture.getpixel(red_at), (255, 0, 0))


def test_an_image_with_broken_exif_is_decoded() -> None:
    exif = b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 40
    data = encoded(halves(), "JPEG", exif=exif)

    assert check(data, LIMIT) == ImageInfo(40, 20, "JPEG")
    assert decode(data, 1000).size == (40, 20)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "GIF"])
def test_an_image_of_one_pixel_is_decoded(fmt: str) -> None:
    data = encoded(Image.new("RGB", (1, 1), "white"), fmt)

    assert check(data, LIMIT) == ImageInfo(1, 1, fmt)
    assert near(decode(data, 64).getpixel((0, 0)), (255, 255, 255))


def test_modes_without_rgb_are_refused() -> None:
    data = encoded(Image.new("LAB", (4, 4)), "TIFF")

    assert reason_of(data) == "unsupported"


def test_a_jpeg_is_not_decoded_larger_than_needed() -> None:
    data = encoded(halves(size=(640, 480)), "JPEG")

    assert decode(data, 100).size == (160, 120)
    assert decode(data, 481).size == (640, 480)
    assert check(data, LIMIT) == ImageInfo(640, 480, "JPEG")


def test_a_file_is_decoded_once_at_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = decoding._load
    monkeypatch.setattr(decoding, "_load", lambda image: loads.append(image.size) or load(image))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = decoding.Decoder(encoded(halves(size=(640, 480)), "JPEG", exif=exif))

    sizes = [file.at_least(side).size for side in (100, 120, 100, 481, 900)]

    assert sizes == [(120, 160)] * 3 + [(480, 640)] * 2 and file.size == (480, 640)
    assert loads == [(160, 120), (640, 480)]


@pytest.mark.parametrize("call", [lambda data: check(data, LIMIT), lambda data: decode(data, 8)])
def test_a_memory_error_is_not_an_image_fault(call: Callable[[bytes], object], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(self: Image.Image) -> None:
        raise MemoryError

    data = encoded(halves(), "BMP")
    monkeypatch.setattr(decoding.Image.Image, "load", no_room)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", no_room)

    with pytest.raises(MemoryError):
        call(data)


def test_a_fault_can_be_pickled() -> None:
    fault = pickle.loads(pickle.dumps(ImageFault("truncated", "7 bytes short")))

    assert (fault.reason, fault.detail) == ("truncated", "7 bytes short")


# Side data ------------------------------------------------------------------------------------------------------------

HUGE = zlib.compress(bytes(3 << 20))
# A profile, text, sizes and an animation, damaged or too large: Pillow refuses each.
PNG_SIDE = {
    "large iCCP": chunk(b"iCCP", b"p\0\0" + HUGE),
    "iCCP with another method": chunk(b"iCCP", b"p\0\7" + zlib.compress(b"profile")),
    "empty iCCP": chunk(b"iCCP", b""),
    "large iTXt": chunk(b"iTXt", b"k\0\1\0\0\0" + HUGE),
    "large zTXt": chunk(b"zTXt", b"k\0\0" + HUGE),
    "zTXt with another method": chunk(b"zTXt", b"k\0\7."),
    "tEXt with a wrong checksum": chunk(b"tEXt", b"k\0v")[:-1] + b"?",
    "tEXt with a long length": b"\0\1\0\0" + chunk(b"tEXt", b"k\0v")[4:],
    "tEXt with a short length": b"\0\0\0\1" + chunk(b"tEXt", b"k\0value")[4:],
    "no letters": chunk(b"t\0\xffX", b"k\0v"),
    "short pHYs": chunk(b"pHYs", b"\0"),
    "short tRNS": chunk(b"tRNS", b"\0"),
    "short gAMA": chunk(b"gAMA", b""),
    "short cHRM": chunk(b"cHRM", b"\0"),
    "short sRGB": chunk(b"sRGB", b""),
    "eXIf with a wrong checksum": chunk(b"eXIf", b"II*\0")[:-1] + b"?",
    "short acTL": chunk(b"acTL", b"\0"),
    "fcTL beyond the image": chunk(b"fcTL", struct.pack(">5IHHBB", 0, 999, 999, 0, 0, 1, 1, 0, 0)),
}


def with_chunk(data: bytes, part: bytes, before: bytes = b"IDAT") -> bytes:
    place = data.index(before) - 4
    return data[:place] + part + data[place:]


def refused_by_pillow(data: bytes) -> bool:
    try:
        Image.open(io.BytesIO(data)).load()
    except Exception:
        return True
    return False


@pytest.mark.parametrize("name", PNG_SIDE)
def test_side_data_cost_no_png(name: str) -> None:
    sound = encoded(noise((30, 20)), "PNG")
    data = with_chunk(sound, PNG_SIDE[name])
    assert refused_by_pillow(data)

    assert check(data, LIMIT) == check(sound, LIMIT)
    assert decode(data, 1).tobytes() == decode(sound, 1).tobytes()


@pytest.mark.parametrize("name", ["large iTXt", "large zTXt", "tEXt with a long length"])
def test_side_data_after_the_pixels_cost_no_png(name: str) -> None:
    sound = encoded(noise((30, 20)), "PNG")
    data = with_chunk(sound, PNG_SIDE[name], b"IEND")
    assert refused_by_pillow(data)

    assert check(data, LIMIT) == check(sound, LIMIT)
    file = decoding.Decoder(data)
    assert file.at_least(1).tobytes() == decode(sound, 1).tobytes() and file.at_least(9).size == file.size == (30, 20)


def test_a_png_that_ends_in_its_text_is_decoded() -> None:
    sound = encoded(noise((30, 20)), "PNG")
    data = with_chunk(sound, chunk(b"tEXt", b"k\0" + b"v" * 900), b"IEND")[:-500]
    assert refused_by_pillow(data)

    assert decode(data, 1).tobytes() == decode(sound, 1).tobytes()


def test_a_png_without_damaged_side_data_keeps_its_transparency_and_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGB", (4, 2), (1, 2, 3))
    sound = encoded(picture, "PNG", transparency=(1, 2, 3), exif=exif)
    data = with_chunk(sound, PNG_SIDE["short pHYs"], b"tRNS")
    long = with_chunk(sound, PNG_SIDE["tEXt with a long length"], b"tRNS")

    for changed in (data, long):
        assert check(changed, LIMIT) == ImageInfo(2, 4, "PNG")
        assert decode(changed, 1).tobytes() == decode(sound, 1).tobytes() == b"\xff" * 24


def test_an_animated_png_with_damaged_frames_gives_its_first() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    sound = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    place = sound.index(b"fcTL")
    data = sound[: place + 4] + b"\xff" * 26 + sound[place + 30 :]
    assert refused_by_pillow(data)

    assert decode(data, 1).tobytes() == decode(sound, 1).tobytes()


@pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_copies_without_side_data_have_the_same_pixels(fmt: str) -> None:
    frames = {"save_all": True, "append_images": [noise((30, 20)).rotate(180)]} if fmt in ("PNG", "WEBP") else {}
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(noise((30, 20)), fmt, exif=exif, icc_profile=b"profile", **frames)

    copies = list(side_data.copies(data))

    assert copies
    assert {decode(copy, 100).tobytes() for copy in copies[:1]} == {decode(data, 100).tobytes()}
    assert all(b"profile" not in copy for copy in copies) or fmt == "TIFF"


def test_pixels_are_not_joined_across_other_chunks() -> None:
    sound = encoded(noise((30, 20)), "PNG")
    place = sound.index(b"IDAT") - 4
    pixels = sound[place + 8 : sound.index(b"IEND") - 8]
    parts = [chunk(b"IDAT", part) for part in (pixels[:400], pixels[400:800], pixels[800:])]
    parts[1] = parts[1].replace(b"IDAT", b"iDAT")

    assert reason_of(sound[:place] + b"".join(parts) + sound[-12:]) == "truncated"


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_png_with_a_damaged_critical_chunk_stays_a_fault(kind: bytes) -> None:
    data = bytearray(encoded(halves().convert("P"), "PNG"))
    data[data.index(kind) + 5] ^= 0xFF

    assert reason_of(bytes(data)) == "corrupt"


def test_an_image_that_is_too_large_stays_refused_without_its_side_data() -> None:
    data = with_chunk(png(50_000, 50_000, 8, 2, b""), PNG_SIDE["large zTXt"])

    assert reason_of(data) == "corrupt"  # by Pillow, before the size is known
    with pytest.raises(ImageFault, match="decompression bomb"):
        check(next(side_data.copies(data)), LIMIT)


@pytest.mark.parametrize(
    ("marker", "content"),
    [(0xE0, b"JFIF"), (0xE0, b"JFIF\0\1"), (0xE2, b"ICC_PROFILE\0"), (0xED, b"Photoshop 3.0\0008BIM\3\xed"),
     (0xEE, b"Adobe")],
)  # fmt: skip
def test_short_application_segments_cost_no_jpeg(marker: int, content: bytes) -> None:
    sound = encoded(halves(), "JPEG")
    data = sound[:2] + struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content + sound[2:]
    assert refused_by_pillow(data)

    assert check(data, LIMIT) == check(sound, LIMIT)
    assert decode(data, 1000).tobytes() == decode(sound, 1000).tobytes()


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("part", [b"ICCP", b"EXIF", b"XMP "])
def test_damaged_side_data_cost_no_webp(lossless: bool, part: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    sound = encoded(noise((30, 20)), "WEBP", lossless=lossless, icc_profile=b"profile", exif=exif, xmp=b"<x/>")
    place = sound.index(part) + 4
    data = sound[:place] + b"\xff\xff\0\0" + sound[place + 4 :]
    assert refused_by_pillow(data)

    assert check(data, LIMIT) == check(sound, LIMIT)
    assert decode(data, 1).tobytes() == decode(sound, 1).tobytes()
    assert decode(sound[:-3], 1).tobytes() == decode(sound, 1).tobytes()


@pytest.mark.parametrize("order", ["II", "MM"])
def test_an_unneeded_tag_beyond_the_end_costs_no_tiff(order: str) -> None:
    mark = "<" if order == "II" else ">"
    entries = [(256, 4, 1, 4), (257, 4, 1, 2), (258, 4, 1, 8), (259, 4, 1, 1), (262, 4, 1, 1), (270, 2, 40, 90_000)]
    entries += [(273, 4, 1, 8), (277, 4, 1, 1), (278, 4, 1, 2), (279, 4, 1, 8)]
    directory = struct.pack(f"{mark}H", len(entries)) + b"".join(struct.pack(f"{mark}HHII", *each) for each in entries)
    start = b"II*\0" if order == "II" else b"MM\0*"
    data = start + struct.pack(f"{mark}I", 16) + bytes(range(8)) + directory + bytes(4)
    assert refused_by_pillow(data)

    assert check(data, LIMIT) == ImageInfo(4, 2, "TIFF")
    assert np.asarray(decode(data, 1))[..., 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


# Values of more than 8 bits -------------------------------------------------------------------------------------------


def grey_tiff(values: object, dtype: type) -> bytes:
    return encoded(Image.fromarray(np.array([values], dtype)), "TIFF")


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 0.25, 0.999, 1], np.float32, [0, 64, 255, 255]),
        ([0, 0, 0], np.float32, [0, 0, 0]),
        ([0, 0.9, 1.5, 127.9, 255], np.float32, [0, 0, 1, 127, 255]),
        ([0, 1, 255], np.int32, [0, 1, 255]),
        ([0, 255, 256, 65_535], np.int32, [0, 0, 1, 255]),
    ],
)
def test_large_values_are_scaled_by_their_range(
    values: list[float], dtype: type, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = grey_tiff(values, dtype)

    for pixels in (1, 10**6):
        monkeypatch.setattr(decoding, "_BAND_PIXELS", pixels)
        assert check(data, LIMIT) == ImageInfo(len(values), 1, "TIFF")
        assert np.asarray(decode(data, 1)).tolist() == [[[value] * 3 for value in expected]]


@pytest.mark.parametrize(
    ("values", "dtype", "found"),
    [
        ([0, 255.5], np.float32, "float values from 0 to 255.5"),
        ([-0.5, 1], np.float32, "float values from -0.5 to 1"),
        ([0, 1.2], np.float32, "float values from 0 to 1.2"),
        ([0, np.inf], np.float32, "float values from 0 to inf"),
        ([0, np.nan, 1], np.float32, "float values from nan to nan"),
        ([-1, 5], np.int32, "32-bit values from -1 to 5"),
        ([0, 1 << 20], np.int32, "32-bit values from 0 to 1048576"),
    ],
)
def test_values_on_no_known_scale_are_refused(values: list[float], dtype: type, found: str) -> None:
    data = grey_tiff(values, dtype)

    for call in (lambda: check(data, LIMIT), lambda: decode(data, 1)):
        with pytest.raises(ImageFault, match=f"^unsupported: {found}"):
            call()


def test_signed_values_of_16_bits_keep_their_high_byte() -> None:
    pixels = struct.pack("<4h", -5, 0, 256, 32_767)
    data = tiff({256: 4, 257: 1, 258: 16, 273: 8, 278: 1, 279: 8, 339: 2}, pixels)

    assert check(data, LIMIT) == ImageInfo(4, 1, "TIFF")
    assert np.asarray(decode(data, 1))[0, :, 0].tolist() == [0, 0, 1, 127]
