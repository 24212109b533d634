"""Image files: every format with every property, and metadata."""

import itertools

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms
from test_predict import SMALL

from srcolor.inference import image_files, predict, tiles
from srcolor.nets.bicubic import Bicubic

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ALPHA = np.asarray(Image.linear_gradient("L").resize(SMALL.size))
# Properties of files, with the formats that support them.
PROPERTIES = {
    "suffix": (".jpg", ".png", ".webp", ".tif", ".bmp"),
    "space": ("color", "gray", "palette", "cmyk"),
    "bits": (8, 16),
    "alpha": (False, True),
    "turned": (1, 3, 6, 7),  # EXIF orientation
    "profile": (False, True),
    "mode": ("upscale", "colorize", "restore"),
}


UPRIGHT = {
    1: lambda picture: picture,
    3: lambda picture: picture[::-1, ::-1],
    6: lambda picture: picture.swapaxes(0, 1)[:, ::-1],
    7: lambda picture: picture[::-1, ::-1].swapaxes(0, 1),
}


def is_supported(suffix, space, bits, alpha, turned, profile, mode):
    return (
        (suffix != ".bmp" or (turned == 1 and not profile and not alpha and space != "cmyk"))
        and (suffix != ".webp" or space == "color")
        and (suffix != ".jpg" or (not alpha and space != "palette"))
        and (bits == 8 or suffix == ".tif" or (suffix == ".png" and space in ("color", "gray")))
        and (space != "palette" or (suffix in (".png", ".bmp") and not alpha))
        and (space != "cmyk" or (suffix in (".jpg", ".tif") and not alpha))
        and (not profile or space == "color")
    )


def pairwise():
    """Yield few cases in which every supported pair of properties occurs."""
    cases = [case for case in itertools.product(*PROPERTIES.values()) if is_supported(*case)]
    pairs = {case: set(itertools.combinations(enumerate(case), 2)) for case in cases}
    missing = set().union(*pairs.values())
    while missing:
        best = max(cases, key=lambda case: len(pairs[case] & missing))
        missing -= pairs[best]
        yield best


def make(file, space, bits, alpha, turned, profile):
    """Write SMALL as a file with these properties."""
    if file.suffix == ".bmp":
        {"color": SMALL, "gray": SMALL.convert("L"), "palette": SMALL.quantize(64)}[space].save(file)
        return
    pixels = np.asarray(SMALL.convert({"gray": "L", "cmyk": "CMYK"}.get(space, "RGB")))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if alpha:
        pixels = np.concatenate([pixels, ALPHA[..., None]], 2)
    if bits == 16:
        pixels = pixels.astype(np.uint16) * 257
    interpretation = {"gray": "b-w" if bits == 8 else "grey16", "cmyk": "cmyk"}.get(space)
    image = pyvips.Image.new_from_array(pixels, interpretation=interpretation or ("srgb" if bits == 8 else "rgb16"))
    if turned > 1:
        image.set_type(pyvips.GValue.gint_type, "orientation", turned)
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", PROFILE)
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Make", "a maker")
    image.write_to_file(str(file), **({"palette": True} if space == "palette" else {}))


@pytest.mark.parametrize(tuple(PROPERTIES), list(pairwise()))
def test_formats_and_metadata_are_kept(suffix, space, bits, alpha, turned, profile, mode, bicubic, color, tmp_path):
    file = tmp_path / f"it's{suffix}"
    make(file, space, bits, alpha, turned, profile)
    # Colors of an untrained network are extreme: WebP, which halves their resolution, would change the luma.
    runs = {"upscale": ["--run", bicubic], "colorize": ["--run", color, "--saturation", "0.3"]}
    runs["restore"] = [*runs["colorize"], "--sr-run", bicubic]
    assert predict.main([str(file), "-m", mode, *runs[mode]]) == 0
    written = tmp_path / f"it's_{mode}{suffix}"
    if suffix == ".bmp":  # libvips does not read it
        result = pyvips.Image.new_from_array(np.asarray(Image.open(written)))
        if space == "gray" and mode == "upscale":
            result = result.copy(interpretation="b-w")
    else:
        result = pyvips.Image.new_from_file(str(written))
    scale = 1 if mode == "colorize" else 2
    pixels = result.numpy()
    upright = UPRIGHT[turned]
    assert pixels.shape[:2] == tuple(scale * side for side in upright(ALPHA).shape)
    assert result.format == {8: "uchar", 16: "ushort"}[bits]
    assert result.get_typeof("orientation") == 0 or result.get("orientation") == 1
    if suffix in (".jpg", ".png", ".webp"):
        assert result.get("exif-ifd0-Make").startswith("a maker")
    if profile:
        assert result.get("icc-profile-data") == PROFILE
    assert result.hasalpha() == alpha
    gray = space == "gray" and mode == "upscale"
    assert result.bands == (1 if gray else 3) + alpha
    pixels = np.asarray(result.resize(1 / scale, kernel="linear").numpy(), float) / (1 if bits == 8 else 257)
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if alpha:
        assert np.abs(pixels[..., -1] - upright(ALPHA)).mean() < 2
    if gray:
        pixels = pixels[..., :1].repeat(3, 2)
    expected = upright(np.asarray(SMALL.convert("CMYK" if space == "cmyk" else "RGB").convert("RGB"))).astype(float)
    pixels = pixels[..., :3]
    if space == "gray" or mode != "upscale":
        pixels, expected = (picture @ (0.299, 0.587, 0.114) for picture in (pixels, expected))
    assert np.abs(pixels - expected).mean() < (
        25 if space == "cmyk" else 8
    )  # the result uses a CMYK profile, Pillow does not


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bands", [3, 4])
def test_16_bits_are_kept(suffix, bands, bicubic, color, tmp_path):
    ramp = np.linspace(0, 65535, 256 * 4).reshape(4, 256, 1).round().astype(np.uint16).repeat(bands, 2)
    pyvips.Image.new_from_array(ramp, interpretation="rgb16").write_to_file(str(tmp_path / f"deep{suffix}"))
    for mode, run, scale in (("upscale", bicubic, 2), ("colorize", color, 1)):
        assert predict.main([str(tmp_path / f"deep{suffix}"), "--run", run, "--mode", mode]) == 0
        result = pyvips.Image.new_from_file(str(tmp_path / f"deep_{mode}{suffix}"))
        assert (result.width, result.height, result.bands, result.format) == (256 * scale, 4 * scale, bands, "ushort")
        assert len(np.unique(result.numpy()[..., :3])) > 700
        if bands == 4 and scale == 1:
            np.testing.assert_array_equal(result.numpy()[..., 3], ramp[..., 3])


def test_the_first_frame_of_an_animation_is_read_with_a_remark(bicubic, tmp_path, capsys):
    frames = [SMALL, SMALL.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert predict.main([str(tmp_path / "a.webp"), "--run", bicubic]) == 0
    assert "a.webp: first of 2 frames" in capsys.readouterr().err.replace("\n", "")
    with Image.open(tmp_path / "a_upscale.webp") as result:
        pixels = np.asarray(result.convert("RGB").resize(SMALL.size, Image.Resampling.BOX)).astype(float)
    assert np.abs(pixels - np.asarray(SMALL)).mean() < 8


def test_bitmap_with_the_wrong_suffix_is_read(bicubic, tmp_path):
    SMALL.save(tmp_path / "x.bmp", dpi=(300, 300))
    (tmp_path / "y.png").write_bytes((tmp_path / "x.bmp").read_bytes())
    assert predict.main([str(tmp_path), "--run", bicubic, "--tile", "64"]) == 0
    with Image.open(tmp_path / "x_upscale.bmp") as one, Image.open(tmp_path / "y_upscale.png") as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert one.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_the_orientation_in_xmp_is_reset(bicubic, tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="t"/></x:xmpmeta>'
    exif = Image.Exif()
    exif[0x112] = 6
    SMALL.save(tmp_path / "x.jpg", exif=exif, xmp=xmp)
    assert predict.main([str(tmp_path / "x.jpg"), "--run", bicubic]) == 0
    with Image.open(tmp_path / "x_upscale.jpg") as result:
        assert result.size == (66, 94)
        assert result.getexif()[0x112] == 1
        assert b'tiff:Orientation="1" dc:title="t"' in result.info["xmp"]


def test_the_first_frame_of_an_animated_png_is_read_with_a_remark(bicubic, tmp_path, capsys):
    frames = [SMALL, SMALL.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert predict.main([str(tmp_path / "a.png"), "--run", bicubic]) == 0
    assert "a.png: first of multiple frames" in capsys.readouterr().err


def test_the_description_of_a_tiff_is_kept(bicubic, tmp_path):
    SMALL.save(tmp_path / "x.tif", description="a day at the lake")
    assert predict.main([str(tmp_path / "x.tif"), "--run", bicubic]) == 0
    with Image.open(tmp_path / "x_upscale.tif") as result:
        assert result.tag_v2[270] == "a day at the lake"


def test_bitmap_beyond_pillows_limit_is_refused_by_max_megapixels(bicubic, tmp_path, capsys):
    SMALL.save(tmp_path / "x.bmp")
    content = bytearray((tmp_path / "x.bmp").read_bytes())
    content[18:26] = (20_000).to_bytes(4, "little") + (15_000).to_bytes(4, "little")
    (tmp_path / "x.bmp").write_bytes(content)
    assert predict.main([str(tmp_path / "x.bmp"), "--run", bicubic]) == 1
    assert (
        "20000x15000 is 300 megapixels: possible decompression bomb. Raise --max-megapixels, now 250"
        in capsys.readouterr().out
    )


def test_resolution_and_kind_of_a_tiff_are_kept(bicubic, tmp_path):
    SMALL.save(tmp_path / "x.tif", dpi=(300, 300))
    SMALL.save(tmp_path / "x.png", dpi=(300, 300))
    assert predict.main([str(tmp_path), "--run", bicubic]) == 0
    for suffix in (".tif", ".png"):
        with Image.open(tmp_path / f"x_upscale{suffix}") as result:
            assert result.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert (tmp_path / "x_upscale.tif").read_bytes()[:4] == b"II*\0"  # not BigTIFF


def test_a_gray_image_keeps_its_profile_and_a_colorized_one_loses_it(bicubic, color, tmp_path):
    profile = PROFILE[:16] + b"GRAY" + PROFILE[20:]  # color space in its header
    SMALL.convert("L").save(tmp_path / "x.png", icc_profile=profile)
    assert predict.main([str(tmp_path / "x.png"), "--run", bicubic, "--tile", "64"]) == 0
    assert predict.main([str(tmp_path / "x.png"), "--run", color, "-m", "colorize"]) == 0
    with Image.open(tmp_path / "x_upscale.png") as larger, Image.open(tmp_path / "x_colorize.png") as colored:
        assert (larger.mode, larger.info.get("icc_profile")) == ("L", profile)
        assert (colored.mode, colored.info.get("icc_profile")) == ("RGB", None)
        expected = tiles.enlarge(Bicubic(), np.asarray(SMALL.convert("L").convert("RGB")), tile=64)[..., 0]
        np.testing.assert_array_equal(np.asarray(larger), expected)


def test_the_thumbnail_of_the_source_is_removed(bicubic, tmp_path):
    SMALL.resize((16, 16)).save(tmp_path / "small.jpg")
    image = pyvips.Image.new_from_array(np.asarray(SMALL))
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Make", "a maker")
    image.set_type(pyvips.GValue.blob_type, "jpeg-thumbnail-data", (tmp_path / "small.jpg").read_bytes())
    image.write_to_file(str(tmp_path / "x.jpg"))
    assert pyvips.Image.new_from_file(str(tmp_path / "x.jpg")).get_typeof("jpeg-thumbnail-data")
    assert predict.main([str(tmp_path / "x.jpg"), "--run", bicubic]) == 0
    result = pyvips.Image.new_from_file(str(tmp_path / "x_upscale.jpg"))
    assert not result.get_typeof("jpeg-thumbnail-data")
    assert result.get("exif-ifd0-Make").startswith("a maker")


def test_the_transparency_of_a_bitmap_is_dropped_with_a_remark(bicubic, tmp_path, capsys):
    header = b"BM" + (138 + 16).to_bytes(4, "little") + bytes(4) + (138).to_bytes(4, "little")
    header += (124).to_bytes(4, "little") + (2).to_bytes(4, "little") * 2 + b"\1\0" + b"\x20\0"
    header += (3).to_bytes(4, "little") + (16).to_bytes(4, "little") + bytes(16)  # bit fields
    header += b"".join((255 << shift).to_bytes(4, "little") for shift in (16, 8, 0, 24)) + b"BGRs" + bytes(64)
    (tmp_path / "x.bmp").write_bytes(header + bytes([10, 20, 30, 128] * 4))
    assert predict.main([str(tmp_path / "x.bmp"), "--run", bicubic]) == 0
    assert "x.bmp: transparency dropped" in capsys.readouterr().err
    assert Image.open(tmp_path / "x_upscale.bmp").getpixel((0, 0)) == (30, 20, 10)


def test_a_damaged_tiff_is_refused(bicubic, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.tif", compression="tiff_deflate")
    content = bytearray((tmp_path / "x.tif").read_bytes())
    half = len(content) // 2
    content[half : half + 3000] = bytes(3000)
    (tmp_path / "x.tif").write_bytes(content)
    assert predict.main([str(tmp_path / "x.tif"), "--run", bicubic]) == 1
    assert not (tmp_path / "x_upscale.tif").exists()


def test_an_image_within_the_limit_is_read(bicubic, tmp_path):
    SMALL.save(tmp_path / "x.png")
    assert image_files.read(tmp_path / "x.png", 0.01).shape == (33, 47, 3)
