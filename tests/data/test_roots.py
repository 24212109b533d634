"""Sources of several folders."""

import csv
import logging
import shutil

import pytest
from conftest import COMMON, FILES, TINY
from data_helpers import folder, names, noise
from omegaconf import OmegaConf

from srcolor.cli import overrides
from srcolor.data import crops
from srcolor.data.sources.folder import Folder
from srcolor.data.sources.lfw import LFW
from srcolor.errors import UserError

SPLITS = crops.SPLITS


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Two folders of 40 images; the second has folders of its own."""
    parent = tmp_path_factory.mktemp("roots")
    noise(parent / "faces", [f"{i:02d}.bmp" for i in range(40)])
    noise(parent / "faces_more", [f"{'ab'[i % 2]}/{i:02d}.bmp" for i in range(40)], seed=1)
    return parent / "faces", parent / "faces_more"


def several(*roots, **changes):
    return folder([str(root) for root in roots], **changes)


def test_names_start_with_the_folder_and_each_image_keeps_its_split(roots):
    both = several(*roots)
    for split in SPLITS:
        expected = {f"{root.name}/{name}" for root in roots for name in names(folder(root), split)}
        assert names(both, split) == expected
    assert "faces/00.bmp" in both.index.names
    assert "faces_more/a/00.bmp" in both.index.names
    for row, name in enumerate(both.index.names):
        assert both.path(name) == roots[0].parent / name
        assert both.decode(both.items()[row])[1] == both.index.hashes[row].tobytes().hex()


def test_the_order_of_the_folders_does_not_matter(roots):
    one, other = several(*roots), several(*reversed(roots))
    assert one.items() == other.items()
    assert one.identity() == other.identity()


def test_a_list_of_one_folder_is_that_folder(roots):
    one, listed = folder(roots[0]), several(roots[0])
    assert one.items() == listed.items()
    assert (one.identity(), one.settings(), one.folders) == (listed.identity(), listed.settings(), listed.folders)
    assert one.identity() == str(roots[0])


def test_folders_of_the_same_name_are_told_apart_by_those_above(roots, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(roots[0], tmp_path / name / "faces")
    data = several(tmp_path / "one" / "faces", tmp_path / "two" / "faces", roots[1])
    assert sum(name.startswith(("one/faces/", "two/faces/")) for name in data.index.names) == 80
    assert data.path("two/faces/00.bmp") == tmp_path / "two" / "faces" / "00.bmp"
    assert len(set(data.index.names)) == 120


def test_copies_in_two_folders_are_in_one_split(roots, tmp_path):
    shutil.copytree(roots[0], tmp_path / "copies")
    data = several(roots[0], tmp_path / "copies")
    for split in SPLITS:
        assert {n.removeprefix("copies/") for n in names(data, split) if n.startswith("copies/")} == {
            n.removeprefix("faces/") for n in names(data, split) if n.startswith("faces/")
        }


def test_official_splits_of_one_folder_are_those_of_its_files(roots, tmp_path):
    """A copy of an official training image in another folder is a training image."""
    root = tmp_path / "official"
    noise(root, [f"{split}/{i}.bmp" for split in SPLITS for i in range(5)], seed=2)
    copied = next(iter(names(folder(roots[0]), "test")))
    shutil.copy(roots[0] / copied, root / "train" / "copy.bmp")
    data = several(roots[0], root)
    for split in SPLITS:
        content = {f"faces/{name}" for name in names(folder(roots[0]), split)} - {f"faces/{copied}"}
        listed = {f"official/{split}/{i}.bmp" for i in range(5)}
        copies = {f"faces/{copied}", "official/train/copy.bmp"} if split == "train" else set()
        assert names(data, split) == content | listed | copies


def test_excluded_names_are_full_names(roots):
    data = several(*roots, exclude=["faces/0*.bmp", "*/b/*"])
    expected = {f"faces/{i:02d}.bmp" for i in range(10, 40)} | {f"faces_more/a/{i:02d}.bmp" for i in range(0, 40, 2)}
    assert set(data.index.names) == expected
    with pytest.raises(UserError, match=r"'00\.bmp' matches no image in .*faces and .*faces_more \(paths .* faces/00"):
        several(*roots, exclude=["00.bmp"])
    with pytest.raises(UserError, match=r"data\.exclude=\['faces_more/\*'\] excludes every image in .*faces_more\."):
        several(*roots, exclude=["faces_more/*"])


def test_groups_are_searched_below_each_root_and_span_them(tmp_path):
    """The name of a root is no group, and a person in two roots is one person."""
    for seed, root in enumerate(("one", "two")):
        noise(tmp_path / root, [f"{person:02d}/{i}.bmp" for person in range(30) for i in range(2)], seed=seed)
    data = several(tmp_path / "one", tmp_path / "two", group="^([^/]*)/")
    assert {item.group for item in data.items()} == {f"{i:02d}" for i in range(30)}
    people = [{name.split("/")[1] for name in names(data, split)} for split in SPLITS]
    assert sum(map(len, people)) == 30
    assert all(people)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda a, b: [a, b, a], r"data\.root: \S*/faces is the same folder as \S*/faces: expected separate"),
        (lambda a, b: [b / "a", b], r"data\.root: \S*/faces_more/a is inside \S*/faces_more: expected separate"),
        (lambda a, b: [b, a, b / "a"], r"data\.root: \S*/faces_more/a is inside \S*/faces_more: expected separate"),
        (lambda a, b: [a, b / "c"], r"data\.root=\S*/faces_more/c does not exist"),
        (lambda a, b: [a, a / "00.bmp" / ".." / ".." / "none"], r"data\.root=\S*none does not exist"),
        (lambda a, b: [], r"data=folder requires data\.root="),
    ],
)
def test_roots_that_cannot_be_used_together_are_an_error_in_one_line(roots, make, message):
    with pytest.raises(UserError, match=message) as error:
        several(*make(*roots))
    assert "\n" not in str(error.value)


def test_a_folder_without_images_and_a_link_to_another_are_errors(roots, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"data\.root=\S*/empty contains no images"):
        several(*roots, tmp_path / "empty")
    (tmp_path / "link").symlink_to(roots[0])
    with pytest.raises(UserError, match=r"\S*/faces is the same folder as \S*/link"):
        several(*roots, tmp_path / "link")


def test_a_downloaded_data_set_has_one_root(roots):
    data = LFW(**(COMMON | FILES | {"root": [str(root) for root in roots]}))
    with pytest.raises(UserError, match=r"data\.root lists 2 folders: expected one\. Only data=folder"):
        data.setup()


def test_each_root_is_resolved(roots, monkeypatch):
    monkeypatch.setenv("HOME", str(roots[0].parent))
    monkeypatch.chdir(roots[0])
    data = Folder(**(COMMON | FILES | {"root": ["~/faces", "../faces_more"]}))
    assert data.folders == (roots[0], roots[0] / ".." / "faces_more")
    assert {item.name.split("/")[0] for item in data.items()} == {"faces", "faces_more"}


@pytest.mark.parametrize("value", ["[~/faces,~/faces_more]", "[~/a b, /c]", '["/a,b",~/c]', "[/a,/b]"])
def test_a_list_of_roots_needs_no_more_quotes_than_the_shells(value):
    (arg,) = overrides.quote_homes([f"data.root={value}"])
    expected = {"~/faces": ["~/faces", "~/faces_more"], "~/a b": ["~/a b", "/c"], "/a,b": ["/a,b", "~/c"]}
    assert overrides.parse(arg).value() == next((v for k, v in expected.items() if k in value), ["/a", "/b"])


def test_recorded_values_are_written_in_hydras_grammar():
    value = ["~/写真", "/it's, [here]", '/a "b"', "/back\\"]
    assert overrides.parse(f"data.root={overrides._literal(value)}").value() == value


def test_a_rejected_list_is_shown_with_quoted_elements():
    with pytest.raises(UserError) as error:
        overrides.train_args(["data.root=[/it(s,/b]"])
    assert str(error.value).splitlines()[-1].strip() == """'data.root=["/it(s","/b"]'"""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.root=[1,2]", "data.root=[1, 2]: expected text or a list of texts."),
        ("data.root={a: 1}", "data.root={'a': 1}: expected text or a list of texts."),
        ("data.exclude=a.png", "data.exclude=a.png: expected a list of texts."),
        ("data.group=3", "data.group=3: expected text or null."),
    ],
)
def test_values_of_the_wrong_type_are_an_error(override, message, capfd, call, tmp_path):
    assert call("data=folder", "data.root=/x", override, f"hydra.run.dir={tmp_path / 'run'}") == 1
    assert capfd.readouterr().err == f"error: {message}\n"


def test_a_run_on_several_folders_is_resumed_and_tested_from_another_folder(
    roots, call, call_eval, tmp_path, monkeypatch, caplog
):
    """It is tested on one of the folders, and never on an image that it was trained on."""
    monkeypatch.setenv("HOME", str(roots[0].parent))
    monkeypatch.chdir(roots[0].parent)
    run, test = tmp_path / "run", tmp_path / "test"
    group = [r'data.group="b/(\d)\d"', f"hydra.run.dir={run}"]
    assert call(*TINY, "data=folder", "data.root=[~/faces,faces_more]", *group) == 0
    recorded = OmegaConf.load(run / ".hydra" / "config.yaml").data
    assert recorded.root == [str(root) for root in roots]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call(f"resume={run}", "trainer.max_epochs=3") == 0
    assert call_eval(f"ckpt={run}", f"hydra.run.dir={tmp_path / 'same'}") == 0
    assert (tmp_path / "same" / "per_image.csv").read_text() == (run / "per_image.csv").read_text()
    with caplog.at_level(logging.WARNING):
        assert call_eval(f"ckpt={run}", f"data.root={roots[0]}", f"hydra.run.dir={test}") == 0
    assert "used to train" not in caplog.text
    assert OmegaConf.load(test / ".hydra" / "config.yaml").data.root == str(roots[0])
    compared = overrides.compare_args([f"colorize={run}", f"sr={run}"])
    assert [overrides.parse(arg).value() for arg in compared if arg.startswith(("data.root", "data.group"))] == [
        recorded.root,
        recorded.group,
    ]
    tested, of_the_run = (
        {row["file"].split("@")[0] for row in csv.DictReader(open(path / "per_image.csv"))} for path in (test, run)
    )
    assert tested
    assert {f"faces/{name}" for name in tested} == {name for name in of_the_run if name.startswith("faces/")}


def test_an_image_of_a_run_on_several_folders_is_found_in_another_folder(roots, tmp_path):
    run = several(*roots)
    for root in roots:
        assert folder(root).overlap([run.trained_on()]) == []
    noise(tmp_path / "other", [f"{split}/{i}.bmp" for split in SPLITS for i in range(3)], seed=5)
    trained = next(name for name in names(run, "train") if name.startswith("faces_more/"))
    shutil.copy(run.path(trained), tmp_path / "other" / "test" / "leak.bmp")
    assert folder(tmp_path / "other").overlap([run.trained_on()]) == ["test/leak.bmp"]
    assert several(roots[0], tmp_path / "other").overlap([run.trained_on()]) == ["other/test/leak.bmp"]
