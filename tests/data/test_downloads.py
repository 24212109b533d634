"""Each downloadable data set, against a small local archive of the same layout."""

import hashlib
import io
import multiprocessing
import tarfile
import threading
import time
import urllib.error
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import filelock
import pytest
import torchvision.datasets
from conftest import COMMON, FILES
from PIL import Image
from scipy.io import savemat
from skimage import data

from srcolor.data import downloads
from srcolor.data.sources import celeba, flowers102, lfw, oxford_pets
from srcolor.data.splits import SHARES
from srcolor.errors import UserError

PHOTO = Image.fromarray(data.coffee())
OPTIONS = COMMON | FILES


def jpeg(number):
    file = io.BytesIO()
    PHOTO.crop((7 * number, 5 * number, 7 * number + 40, 5 * number + 48)).save(file, "JPEG")
    return file.getvalue()


def tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def serve():
    """Serve a folder over HTTP on the loopback interface and return its address."""
    servers = []

    def start(folder):
        handler = partial(Quiet, directory=str(folder))
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    """A server that logs nothing."""

    def log_message(self, *args):
        pass


@pytest.fixture
def flowers_archive(tmp_path, monkeypatch, serve):
    source = tmp_path / "source"
    source.mkdir()
    tar(source / "102flowers.tgz", {f"jpg/image_{i:05d}.jpg": jpeg(i) for i in range(1, 10)})
    savemat(source / "imagelabels.mat", {"labels": [1] * 9})
    savemat(source / "setid.mat", {"trnid": [1, 2, 3], "valid": [4, 5], "tstid": [6, 7, 8, 9]})
    original = torchvision.datasets.Flowers102
    files = {key: (name, md5(source / name)) for key, (name, _) in original._file_dict.items()}
    monkeypatch.setattr(original, "_file_dict", files)
    monkeypatch.setattr(original, "_download_url_prefix", f"{serve(source)}/")
    return source


def splits(datamodule):
    names = {}
    for item in datamodule.items():
        names.setdefault(item.split, []).append(item.name)
    return names


def test_flowers102_with_its_official_splits(flowers_archive, tmp_path):
    datamodule = flowers102.Flowers102(root=str(tmp_path / "data"), **OPTIONS)
    by_split = splits(datamodule)
    assert {split: len(names) for split, names in by_split.items()} == {"train": 3, "val": 2, "test": 4}
    assert "flowers-102/jpg/image_00006.jpg" in by_split["test"]
    datamodule.setup()
    assert [len(datamodule._splits[split]) for split in ("train", "val", "test")] == [3, 2, 4]


def test_oxford_pets_takes_val_from_trainval(tmp_path, monkeypatch, serve):
    source = tmp_path / "source"
    source.mkdir()
    ids = {"trainval": [f"cat_{i}" for i in range(30)], "test": [f"dog_{i}" for i in range(4)]}
    number = {name: i for i, name in enumerate(ids["trainval"] + ids["test"])}
    tar(source / "images.tar.gz", {f"images/{name}.jpg": jpeg(i) for name, i in number.items()})
    lists = {f"annotations/{s}.txt": "".join(f"{n} 1 1 1\n" for n in names).encode() for s, names in ids.items()}
    tar(source / "annotations.tar.gz", lists)
    names = ("images.tar.gz", "annotations.tar.gz")
    resources = [(f"{serve(source)}/{name}", md5(source / name)) for name in names]
    monkeypatch.setattr(torchvision.datasets.OxfordIIITPet, "_RESOURCES", resources)
    datamodule = oxford_pets.OxfordPets(root=str(tmp_path / "data"), **OPTIONS)
    assert {split: len(names) for split, names in splits(datamodule).items()} == {"train": 30, "test": 4}
    datamodule.setup()
    sizes = {split: len(crops) for split, crops in datamodule._splits.items()}
    assert sizes["test"] == 4
    assert sizes["val"] > 0
    assert sizes["train"] + sizes["val"] == 30


def test_celeba_with_its_official_splits(tmp_path, monkeypatch):
    names = [f"{i:06d}.jpg" for i in range(1, 8)]
    source = tmp_path / "source"
    source.mkdir()
    with zipfile.ZipFile(source / "img_align_celeba.zip", "w") as archive:
        for i, name in enumerate(names):
            archive.writestr(f"img_align_celeba/{name}", jpeg(i))
    columns = {"identity_CelebA.txt": ([], 1), "list_attr_celeba.txt": (["7", "smiling"], 1)}
    columns |= {"list_bbox_celeba.txt": (["7", "x y w h"], 4), "list_landmarks_align_celeba.txt": (["7", "x y"], 2)}
    for file, (header, width) in columns.items():
        rows = [f"{name} {' '.join(['1'] * width)}" for name in names]
        (source / file).write_text("\n".join([*header, *rows]) + "\n")
    partition = "".join(f"{name} {split}\n" for name, split in zip(names, [0, 0, 0, 1, 1, 2, 2], strict=True))
    (source / "list_eval_partition.txt").write_text(partition)
    files = [(file, md5(source / name), name) for file, _, name in torchvision.datasets.CelebA.file_list]
    monkeypatch.setattr(torchvision.datasets.CelebA, "file_list", files)

    def copy(file_id, root, filename, checksum):  # in place of Google Drive
        (target := downloads.Path(root)).mkdir(parents=True, exist_ok=True)
        (target / filename).write_bytes((source / filename).read_bytes())

    monkeypatch.setattr(torchvision.datasets.celeba, "download_file_from_google_drive", copy)
    by_split = splits(celeba.CelebA(root=str(tmp_path / "data"), **OPTIONS))
    assert {split: len(files) for split, files in by_split.items()} == {"train": 3, "val": 2, "test": 2}
    assert by_split["val"] == [f"celeba/img_align_celeba/00000{i}.jpg" for i in (4, 5)]


@pytest.fixture
def lfw_archive(tmp_path, monkeypatch, serve):
    archive = tmp_path / "lfw.tgz"
    people = [f"Person_{i}" for i in range(20)]
    tar(archive, {f"lfw/{p}/{p}_{k:04d}.jpg": jpeg(2 * i + k) for i, p in enumerate(people) for k in (0, 1)})
    monkeypatch.setattr(lfw, "URL", f"{serve(tmp_path)}/lfw.tgz")
    monkeypatch.setattr(lfw, "SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    return archive


def test_lfw_keeps_each_person_in_one_split(lfw_archive, tmp_path):
    datamodule = lfw.LFW(root=str(tmp_path / "data"), **OPTIONS)
    by_split = splits(datamodule)
    people = {split: {name.split("/")[1] for name in names} for split, names in by_split.items()}
    assert sum(map(len, people.values())) == len(set.union(*people.values())) == 20
    for split, names in people.items():
        low, high = SHARES[split]
        for name in names:
            assert low <= int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) / 16**16 < high


def test_a_second_use_downloads_nothing(lfw_archive, tmp_path):
    datamodule = lfw.LFW(root=str(tmp_path / "data"), **OPTIONS)
    first = datamodule.items()
    lfw_archive.unlink()
    assert datamodule.items() == first


def test_a_killed_download_is_repeated_cleanly(lfw_archive, tmp_path, monkeypatch):
    datamodule = lfw.LFW(root=str(tmp_path / "data"), **OPTIONS)
    with monkeypatch.context() as patch:

        def killed(archive, folder):
            raise KeyboardInterrupt

        patch.setattr(downloads, "extract_archive", killed)
        with pytest.raises(KeyboardInterrupt):
            datamodule.items()
    (tmp_path / "data" / "lfw.unfinished" / "lfw").mkdir(parents=True)  # leftovers of kill -9
    assert len(datamodule.items()) == 40
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"lfw", "lfw.lock"}


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(lfw_archive, tmp_path, monkeypatch):
    monkeypatch.setattr(lfw, "SHA256", "0" * 64)
    with pytest.raises(UserError, match=r"cannot download lfw: .* has SHA-256 .*, expected 0000"):
        lfw.LFW(root=str(tmp_path / "data"), **OPTIONS).items()
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["lfw.lock"]


def test_one_process_downloads_while_the_other_waits(meeting, tmp_path):
    archive = tmp_path / "set.tgz"
    tar(archive, {f"set/{i}.jpg": jpeg(i) for i in range(5)})
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()

    def download(root):
        meeting.wait("set")
        downloads.download_archive(archive.as_uri(), checksum, root)

    def work():
        downloads.fetch(tmp_path / "data" / "set", download)
        return len(list((tmp_path / "data" / "set").iterdir()))

    assert meeting.of(work) == [5, 5]
    assert meeting.file.read_text() == "set\n"


def test_a_killed_download_does_not_block_others(tmp_path):
    folder = tmp_path / "data" / "set"
    context = multiprocessing.get_context("fork")
    started = context.Event()

    def hang(root):
        started.set()
        time.sleep(60)

    process = context.Process(target=downloads.fetch, args=(folder, hang))
    process.start()
    assert started.wait(60)
    with pytest.raises(filelock.Timeout):
        filelock.FileLock(folder.with_name("set.lock")).acquire(timeout=0)
    process.kill()
    process.join()
    downloads.fetch(folder, lambda root: (root / "set").mkdir())
    assert folder.is_dir()


@pytest.mark.parametrize("name", ["flowers102", "oxford_pets", "lfw", "celeba"])
def test_without_a_network_the_error_is_one_line_with_a_fix(name, tmp_path, monkeypatch, call, capfd):
    def refused(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", refused)
    monkeypatch.setattr(torchvision.datasets.celeba, "download_file_from_google_drive", refused)
    assert call(f"data={name}", f"data.root={tmp_path / 'data'}", f"hydra.run.dir={tmp_path / 'run'}") == 1
    error = capfd.readouterr().err
    assert "error: cannot download " in error
    assert "The first use requires a network connection. Alternatively, put the unpacked data set in " in error
    assert "Traceback" not in error
