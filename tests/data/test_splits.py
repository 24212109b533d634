"""Splits by hash, for files and for groups of files; whatever else is there."""

import hashlib
import shutil

import numpy as np
import pytest
from data_helpers import folder, names, noise
from omegaconf import OmegaConf

from srcolor import runs
from srcolor.data import cache, crops
from srcolor.data.splits import assign_splits
from srcolor.errors import UserError
from srcolor.runs.names import comparable

# Hashes of files whose numbers are 0.75, 0.8125 and 0.9375.
TRAIN, VAL, TEST = (f"{start}{62 * '0'}" for start in ("c0", "d0", "f0"))
PERSON = r"person_(\d+)_"


def number(text):
    return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 16**16


def text_of(split):
    """Return the first of the texts 0, 1, ... whose hash belongs to a split."""
    low, high = {"train": (0, 0.8), "val": (0.8, 0.9), "test": (0.9, 1)}[split]
    return next(str(i) for i in range(1000) if low <= number(str(i)) < high)


def splits(*files):
    """Return the splits of files (hash, official split, group), among one of each split without a group."""
    others = [(TRAIN[:-1] + "1", None, None), (VAL[:-1] + "1", None, None), (TEST[:-1] + "1", None, None)]
    result = assign_splits(*zip(*others, *files, strict=True))
    assert result[:3] == ["train", "val", "test"]
    return result[3:]


def test_a_group_is_split_by_the_hash_of_its_text():
    for split in crops.SPLITS:
        group = text_of(split)
        assert splits((TRAIN, None, group), (VAL, None, group), (TEST, None, None)) == [split, split, "test"]


def test_groups_that_share_a_file_are_in_one_split():
    """Directly, and through another group."""
    train, val, test = map(text_of, crops.SPLITS)
    copies = [(VAL, None, train), (VAL, None, val), (TRAIN, None, val)]
    assert splits(*copies) == ["val"] * 3
    assert splits(*copies, (TRAIN, None, test)) == ["test"] * 4
    assert splits(*reversed(copies), (TRAIN, None, test)) == ["test"] * 4


def test_a_test_image_without_a_group_stays_one_whatever_groups_have_a_copy():
    train, test = text_of("train"), text_of("test")
    assert splits((TEST, None, train), (TRAIN, None, train), (TEST, None, None)) == ["test"] * 3
    assert splits((TRAIN, None, test), (TRAIN, None, None)) == ["train"] * 2
    assert splits((TRAIN, None, train), (TEST, None, train), (TRAIN, None, None), (TEST, None, None)) == ["test"] * 4


def test_an_official_split_takes_the_rest_of_the_group_and_copies_along():
    test = text_of("test")
    assert splits((TRAIN, None, test), (VAL, "train", test), (TEST, None, None)) == ["train", "train", "test"]
    assert splits((TEST, None, None), (TEST, "train", None)) == ["train"] * 2


def test_a_group_in_two_official_splits_is_an_error():
    with pytest.raises(UserError, match=r"group 'ann' are in the folders of two splits, train and test\. Move them"):
        splits((TRAIN, "train", "ann"), (TEST, "test", "ann"))


def test_groups_count_as_one_image_each():
    with pytest.raises(UserError, match=r"2 distinct usable image\(s\), counting each group of data.group as one:"):
        assign_splits([TRAIN, VAL, TEST], [None] * 3, ["a", "a", "b"])
    assert sorted(assign_splits([TRAIN, VAL, TEST], [None] * 3, ["a", "b", "c"])) == ["test", "train", "val"]


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Ten people with three images each, in two folders, and 30 images of nobody."""
    root = tmp_path_factory.mktemp("people")
    noise(root, [f"nobody_{i}.bmp" for i in range(30)])
    noise(root, [f"{'ab'[k % 2]}/person_{i}_{k}.bmp" for i in range(10) for k in range(3)], seed=1)
    return root


def by_person(data):
    """Return the splits of each person."""
    result = {}
    for split in crops.SPLITS:
        for name in names(data, split):
            if "person" in name:
                result.setdefault(name.split("_")[1], set()).add(split)
    return result


def test_no_person_is_in_two_splits(people):
    found = by_person(folder(people, group=PERSON))
    assert found.keys() == {str(i) for i in range(10)}
    for person, (split, *others) in found.items():
        assert others == []
        assert split == ("train" if number(person) < 0.8 else "val" if number(person) < 0.9 else "test")
    assert any(len(found) > 1 for found in by_person(folder(people)).values())


def test_files_without_a_group_keep_the_split_of_their_content(people):
    alone, grouped = folder(people), folder(people, group=PERSON)
    for split in crops.SPLITS:
        assert {n for n in names(alone, split) if "nobody" in n} == {n for n in names(grouped, split) if "nobody" in n}


def test_a_person_keeps_the_split_when_files_are_added_or_removed(people, tmp_path):
    before = by_person(folder(people, group=PERSON))
    root = tmp_path / "more"
    shutil.copytree(people, root)
    for i in range(10):
        (root / "a" / f"person_{i}_0.bmp").unlink()
    noise(root, [f"person_{i}_9.bmp" for i in range(20)], seed=2)
    after = by_person(folder(root, group=PERSON))
    assert {person: after[person] for person in before} == before


def test_identical_files_of_two_people_put_both_in_one_split(people, tmp_path):
    root = tmp_path / "copies"
    shutil.copytree(people, root)
    train, test = text_of("train"), text_of("test")
    noise(root, [f"person_{train}_7.bmp", f"person_{test}_8.bmp"], seed=3)
    shutil.copy(root / f"person_{train}_7.bmp", root / f"person_{test}_7.bmp")
    found = by_person(folder(root, group=PERSON))
    assert found[train] == found[test] == {"test"}


def test_the_group_is_part_of_the_settings_only_if_it_is_set(people):
    """The cache and the record of a run of a folder without groups are those of older versions."""
    data, grouped = folder(people), folder(people, group=PERSON)
    assert data.settings() == {"size": 32, "crop": "center", "min_side": 32, "max_side": None}
    assert grouped.settings() == data.settings() | {"group": PERSON}
    key = hashlib.sha256(
        b'[4, 3, {"crop": "center", "max_side": null, "min_side": 32, "size": 32}]'
        + b"".join(repr((name, stamp, split)).encode() for name, stamp, split, _ in data.items())
    )
    path = cache._folder(data, data.items(), people)
    assert path.relative_to(people).parts == (
        hashlib.sha256(str(people).encode()).hexdigest()[:16],
        key.hexdigest()[:16],
    )
    assert cache._folder(grouped, grouped.items(), people) != path


def test_runs_from_before_groups_are_ranked_with_runs_without_a_group(tiny_run, tmp_path):
    old, grouped = (shutil.copytree(tiny_run, tmp_path / name) for name in ("old", "grouped"))
    config = runs.configuration(old)
    assert config.data.pop("group") is None
    OmegaConf.save(config, old / ".hydra" / "config.yaml")
    runs.record_settings(grouped, {"data.group": PERSON})
    groups = comparable([tiny_run, old, grouped])
    assert {label: set(paths) for label, paths in groups.items()} == {
        "data.group=None": {tiny_run, old},
        f"data.group={PERSON}": {grouped},
    }


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("person_(", r"data\.group=person_\( is not a regular expression \(.*\)\. Expected one group,"),
        ("person", r"data\.group=person has 0 groups\. Expected one .*: 'data\.group=.person_\(\\d\+\)_.'\."),
        (r"(per)son_(\d)", r"has 2 groups\. Expected one"),
        (
            r"persn_(\d)",
            r"data\.group=persn_\(\\d\) matches no image in .*people\S* \(paths there .* a/person_0_0\.bmp\)\. Correct",
        ),
    ],
)
def test_an_unusable_group_is_an_error_in_one_line(people, group, message):
    with pytest.raises(UserError, match=message) as error:
        folder(people, stage="fit", group=group)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("stage", ["test", None])
def test_a_group_that_matches_nothing_is_no_error_in_a_test(people, stage):
    """A network trained on several folders is tested on one of them, with the settings of its run."""
    data = folder(people, group=r"lfw_(\d+)_", stage=stage)
    for split in crops.SPLITS:
        assert names(data, split) == names(folder(people), split)


def test_an_optional_group_without_a_match_is_no_group(people):
    data = folder(people, group=r"nobody|person_(\d+)_")
    assert {item.group for item in data.items()} == {None, *(str(i) for i in range(10))}
    assert np.array_equal(data.index.splits, folder(people, group=PERSON).index.splits)
