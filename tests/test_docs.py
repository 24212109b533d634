"""README and docs: their commands compose or parse, their Python runs, their links resolve, and they keep to size."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from skimage import data

import study
from srcolor.cli import hints, overrides, schema, study_choice
from srcolor.errors import UserError
from srcolor.inference import export, predict

PAGES = [*ROOT.glob("*.md"), *(page for page in ROOT.glob("docs/**/*.md") if "_build" not in page.parts)]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
FENCE = re.compile(r"^( *)```(\{?[\w-]*\}?)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
PLACEHOLDER = re.compile(r"<[^<>]+>")


def commands():
    """Yield every command of the fenced blocks and code spans; placeholders become `x`, comments go."""
    for page, text in TEXTS.items():
        if page == "CONTRIBUTING.md":  # its commands need the files that it adds: see test_contributing
            continue
        blocks = [block for _, language, block in FENCE.findall(text) if language in ("", "bash")]
        lines = [line for block in blocks for line in block.split("\n")]
        lines += [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]
        for line in lines:
            if re.match(r"(python|torchrun|srun|make|pip|srcolor-\w+) ", line):
                yield re.sub(r"\s+# .*", "", PLACEHOLDER.sub("x", line))


def lines_of(program):
    """Return the arguments of every command of a program, once each."""
    matches = (re.match(rf"(?:.* )?{program}(?: (.*))?$", line) for line in dict.fromkeys(commands()))
    return [match[1] or "" for match in matches if match is not None]


def arguments(line):
    return [arg for arg in shlex.split(line) if not arg.startswith("$")]


HYDRA = [(script, line) for script in ("train", "eval", "compare", "tune") for line in lines_of(rf"{script}\.py")]


def test_the_pages_have_commands_of_every_program():
    assert {script for script, _ in HYDRA} == {"train", "eval", "compare", "tune"}
    for program in (r"study\.py", "make", "srcolor-predict", "srcolor-export", "pip install"):
        assert lines_of(program)


@pytest.mark.parametrize(("script", "line"), HYDRA)
def test_a_command_composes(script, line):
    args = overrides.quote_homes([arg for arg in arguments(line) if arg not in ("-m", "--help", "--cfg", "job", "x")])
    hints.check_template_keys(args)
    parser = OverridesParser.create()
    for position, override in enumerate(parser.parse_overrides(args)):
        if override.is_sweep_override():
            assert "-m" in arguments(line)
            args[position] = f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
    args = study_choice.choose_study(args) if script == "compare" else args
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        schema.check(compose(script, args))


def test_a_documented_error_is_the_one_that_is_shown():
    examples = re.findall(r"^\$ python train\.py (.*)\nerror: (.*)$", "\n".join(TEXTS.values()), re.MULTILINE)
    assert examples
    for line, message in examples:
        with pytest.raises(UserError, match=re.escape(message)):
            hints.check_template_keys(arguments(line))


@pytest.mark.parametrize("line", lines_of(r"study\.py"))
def test_a_study_parses(line, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["study.py", *arguments(line)])
    study.parse_args()


@pytest.mark.parametrize("line", lines_of("make"))
def test_a_make_target_and_its_variables_exist(line):
    makefile = (ROOT / "Makefile").read_text()
    for arg in arguments(line):
        name, equals, _ = arg.partition("=")
        assert re.search(rf"\$\(.*\b{name}\b" if equals else rf"^{name}:", makefile, re.MULTILINE)


@pytest.mark.parametrize("line", lines_of("pip install"))
def test_an_extra_exists(line):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for names in re.findall(r"\.\[(.*?)\]", line):
        assert set(names.split(",")) <= extras.keys()


@pytest.mark.parametrize("line", lines_of("python"))
def test_a_script_exists(line):
    if not line.startswith("-"):
        assert (ROOT / arguments(line)[0]).is_file()


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The files that the documentation names, in the working directory."""
    (tmp_path / "album").mkdir()
    for name in ("photo.jpg", "old.jpg", "photo_upscale.jpg", "face.png", "scan.tif", "album/one.png"):
        Image.fromarray(data.astronaut()[:64, 200:248]).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("line", [line for line in lines_of("srcolor-predict") if not line.startswith("-")])
def test_a_prediction_parses(line, photos):
    assert predict.parse(arguments(line)).jobs


@pytest.mark.parametrize("line", lines_of("srcolor-export"))
def test_an_export_parses(line, photos, monkeypatch):
    written = []
    for function in ("to_onnx", "to_safetensors", "to_hub"):
        monkeypatch.setattr(export, function, lambda run, file, sharpness: written.append(file) or 0.0)
    export.main(arguments(line))
    assert len(written) == 1


SNIPPETS = [
    pytest.param(code, id=page) for page, text in TEXTS.items() for indent, language, code in FENCE.findall(text)
    if language == "python" and not indent
]  # fmt: skip


@pytest.mark.parametrize("code", SNIPPETS)
def test_python_runs(code, photos):
    exec(code, {})


def anchors(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_local_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", TEXTS[page])):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), target


def test_every_page_of_the_documentation_is_linked_from_its_index():
    index = "".join(TEXTS[page] for page in ("docs/index.md", "docs/networks.md"))
    for page in TEXTS:
        if page.startswith("docs/") and page != "docs/index.md":
            assert f"({page.removeprefix('docs/')})" in index


@pytest.mark.parametrize("page", TEXTS)
def test_lines_paragraphs_and_tables_are_not_too_long(page):
    text = FENCE.sub("", re.sub(r"\A---\n.*?\n---\n", "", TEXTS[page], flags=re.DOTALL))
    lines = text.split("\n")
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []
    assert [line for line in lines if line.startswith("|") and line.count("|") > 9] == []
    paragraphs = re.split(r"\n\s*\n|\n(?= *(?:[-*]|\d+\.) )", text)
    assert [p for p in paragraphs if p.strip().count("\n") >= 6 and not p.strip().startswith("|")] == []


def test_the_readme_is_short_and_starts_with_photos():
    readme = TEXTS["README.md"]
    assert len(readme.splitlines()) <= 150
    assert len(readme.partition("srcolor-predict ")[0].split()) <= 100
    assert all(Path(ROOT, image).stat().st_size < 200_000 for image in re.findall(r"!\[.*?\]\((.*?)\)", readme))
