"""Import order, imports of --help, and the content of the package."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

from srcolor.benchmark import published
from srcolor.cli import schema
from srcolor.cli.compose import datamodule
from srcolor.errors import UserError

PACKAGE = ROOT / "srcolor"

# Lowest first. A module imports from its own subpackage and from lower floors only.
FLOORS = [
    {"errors", "signals"},
    {"images", "hardware", "color_code", "class_colors", "bundled", "toned"},
    {"losses", "losses_segment"},
    {"data", "nets", "metrics"},
    {"tasks", "runs"},
    {"training", "benchmark", "inference"},
    {"analysis"},
    {"cli"},
]


def imported(file):
    """Yield the parts of srcolor that a file imports, at module level or inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "srcolor":
            modules = [f"srcolor.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        for module in modules:
            if module.startswith("srcolor."):
                yield module.split(".")[1]


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_a_module_imports_from_lower_floors(file):
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        assert not list(imported(file))
        return
    (floor,) = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert set(imported(file)) - {room, "__version__"} <= set().union(*FLOORS[:floor])


OURS = {"node._target_", "plain._layers"}  # a key of the configuration, and a method of the same class


@pytest.mark.parametrize("file", sorted([*PACKAGE.rglob("*.py"), *ROOT.glob("*.py")]), ids=lambda f: f.stem)
def test_no_library_is_used_by_its_private_names(file):
    private = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            private.append(ast.unparse(node))
        if isinstance(node, ast.ImportFrom):
            private += [alias.name for alias in node.names if re.match(r"_[^_]", alias.name)]
    assert [name for name in private if not name.startswith(("self._", "cls._")) and name not in OURS] == []


@pytest.mark.parametrize(
    ("script", "args", "message"),
    [
        ("train.py", ["--help"], "sr64to128"),
        ("train.py", ["--cfg", "job"], "_target_: srcolor.nets"),
        ("train.py", ["--cfg", "job", "experiment=sr64to128_article"], "_target_: srcolor.nets"),
        ("compare.py", ["--help"], "colorize=<run> sr=<run>"),
        ("eval.py", ["--help"], "python eval.py ckpt="),
        ("eval.py", ["--cfg", "job"], "ckpt: null"),
        ("compare.py", ["--cfg", "job"], "srcolor.data"),
        ("tune.py", ["--help"], "hparams=sr"),
        ("tune.py", ["--cfg", "job"], "optimizer.lr"),
    ],
)
def test_help_and_cfg_do_not_import_torch(script, args, message):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, *{args!r}]\n"
        f"try: runpy.run_path({script!r}, run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert message in done.stdout


def test_prediction_does_not_import_training_libraries():
    code = "import sys; from srcolor.inference import predict; "
    code += "print({'lightning', 'hydra', 'torchmetrics'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_wheel_has_every_package_and_file_of_the_package():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert settings["packages"]["find"]["include"] == ["srcolor*"]
    assert {file.parent for file in PACKAGE.rglob("*.py")} == {file.parent for file in PACKAGE.rglob("__init__.py")}
    files = {file for file in PACKAGE.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert {file for pattern in settings["package-data"]["srcolor"] for file in PACKAGE.glob(pattern)} == files
    assert published.FILE in files


def test_a_missing_configuration_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "CONF", tmp_path / "conf")
    with pytest.raises(UserError, match=r"conf not found: this command must be run from a checkout of srcolor"):
        datamodule(["data=photos"])


def test_every_extra_that_a_message_names_exists():
    """And is installed from the checkout: the name on the package index is not ours."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = set()
    for file in [*PACKAGE.rglob("*.py"), *ROOT.glob("*.py")]:
        text = file.read_text(encoding="utf-8")
        assert "pip install" not in text or file.name == "errors.py", file
        named |= set(re.findall(r"""install_extra\(['"](\w+)['"]\)""", text))
    assert named == {"sweep", "cluster", "export", "foreign", "web", "hub"}
    assert named <= set(extras)


def test_a_script_beside_a_folder_with_the_name_of_the_package_imports_the_package(tmp_path):
    (tmp_path / "srcolor").mkdir()  # a clone has this name
    script = tmp_path / "script.py"
    script.write_text("import srcolor; print(srcolor.__version__)")
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True)
