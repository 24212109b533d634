"""Ctrl-C, SIGTERM and kill -9 at chosen moments: the message, what is left on the disk, and the resumed run."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from conftest import COMMON, FILES, ROOT, TINY

from srcolor import runs
from srcolor.data import cache, locks
from srcolor.data.sources.folder import Folder
from srcolor.errors import UserError
from srcolor.runs import records
from srcolor.training.checkpoints import AtomicCheckpointIO
from srcolor.training.stop import StopTogether

# Run train.py in another process, after a line that slows something down or kills the process.
RUNNER = (
    "import sys, runpy, time, os\n{inject}\nsys.argv[0] = 'train.py'\nrunpy.run_path('train.py', run_name='__main__')"
)
SLOW_CACHE = (
    "from srcolor.data.sources.folder import Folder; decode = Folder.decode\n"
    "Folder.decode = lambda self, item: time.sleep(0.5) or decode(self, item)"
)
SLOW_TEST = (
    "from srcolor.tasks.base import Task; step = Task.test_step\n"
    "Task.test_step = lambda *args: open(os.environ['MARK'], 'w').close() or time.sleep(60)"
)
KILLED_IN_CACHE = (
    "from srcolor.data.sources.folder import Folder; decode = Folder.decode\n"
    "Folder.decode = lambda self, item: os.kill(os.getpid(), 9) if item.name == 'b/13.png' else decode(self, item)"
)
KILLED_IN_SAVE = (
    "import torch; save = torch.save\n"
    "def killed(state, path):\n"
    "    save(state, path)\n"
    "    if state['epoch'] == 2:\n"
    "        os.truncate(path, 1000)\n"
    "        os.kill(os.getpid(), 9)\n"
    "torch.save = killed"
)


class Process:
    """train.py in another process."""

    def __init__(self, tmp_path, args, inject=""):
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "MARK": str(tmp_path / "mark")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER.format(inject=inject), *args],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def stop_when(self, happened, number):
        """Send a signal once something has happened; return the exit code and the last line of stderr."""
        deadline = time.monotonic() + 120
        while not happened():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.process.send_signal(number)
        return self.end()

    def end(self):
        _, error = self.process.communicate(timeout=120)
        assert "Traceback" not in error, error
        return self.process.returncode, error.strip().splitlines()[-1] if error.strip() else ""


def long_run(pictures, run):
    return [*TINY, "trainer.max_epochs=1000", "data=folder", f"data.root={pictures}", f"hydra.run.dir={run}"]


def saved_epoch(run):
    return runs.read(run / "checkpoints" / "last.ckpt")["epoch"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_training_ends_with_the_command_to_resume(number, code, pictures, tmp_path, call):
    """The resumed run ends as if there had been no signal, bit by bit."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    last = run / "checkpoints" / "last.ckpt"
    args = [*long_run(pictures, run), "schedule=constant"]  # the same rate for any budget
    ended, line = Process(tmp_path, args).stop_when(last.exists, number)
    assert ended == code
    epoch = saved_epoch(run)
    assert line == f"stopped; resume with: python train.py resume={run}"
    assert call(f"resume={run}", f"trainer.max_epochs={epoch + 3}") == 0
    assert saved_epoch(run) == epoch + 2
    assert call(*args, f"trainer.max_epochs={epoch + 3}", f"hydra.run.dir={whole}") == 0
    states = [runs.read(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (run, whole)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


SWALLOWED = """
import signal, sys, time
from srcolor import signals

class Discarding:
    def __del__(self):
        print("ready", flush=True)
        while True:
            time.sleep(0.01)

signals.listen()
Discarding()  # an exception in `__del__` is discarded
print("discarded", flush=True)
while True:
    try:
        time.sleep(0.01)
    except BaseException:
        print("swallowed", flush=True)
"""


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_always_ends_the_process(first, second):
    process = subprocess.Popen([sys.executable, "-c", SWALLOWED], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(first)
    assert process.stdout.readline() == "discarded\n"
    process.send_signal(second)
    assert process.wait(30) == -second
    assert process.stdout.read() == ""


def test_a_second_signal_ends_a_process_whose_batch_never_ends(monkeypatch):
    """With multiple processes the first one waits for the end of the batch."""
    ended = []
    monkeypatch.setattr("srcolor.signals.end_process", ended.append)
    together = StopTogether()
    together._receive(signal.SIGUSR1, None)
    together._receive(signal.SIGTERM, None)  # SLURM's time is over: the first that stops
    assert not ended
    together._receive(signal.SIGINT, None)
    assert ended == [signal.SIGINT]


def test_a_signal_while_the_cache_is_built(pictures, tmp_path):
    run = tmp_path / "run"
    process = Process(tmp_path, long_run(pictures, run), SLOW_CACHE)
    code, line = process.stop_when(lambda: list(tmp_path.rglob("pixels.bin")), signal.SIGINT)
    assert code == 130
    assert line == "stopped before anything was saved"
    assert not list((tmp_path / "cache").rglob("*.bin"))


def test_resume_after_signal_during_testing_reruns_the_test(pictures, tmp_path, call):
    run = tmp_path / "run"
    args = [*long_run(pictures, run), "trainer.max_epochs=1"]
    code, line = Process(tmp_path, args, SLOW_TEST).stop_when((tmp_path / "mark").exists, signal.SIGTERM)
    assert code == 143
    assert line == f"stopped; resume with: python train.py resume={run}"
    assert runs.state(run) == "unfinished"
    trained = (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    assert call(line.partition("python train.py ")[2]) == 0
    assert runs.state(run) == "done"
    assert (run / "checkpoints" / "last.ckpt").stat().st_mtime_ns == trained  # tested, not trained again


def test_killed_checkpoint_write_keeps_the_previous_checkpoint(pictures, tmp_path, call):
    run = tmp_path / "run"
    assert Process(tmp_path, long_run(pictures, run), KILLED_IN_SAVE).end()[0] == -signal.SIGKILL
    for file in (run / "checkpoints").glob("*.ckpt"):
        runs.read(file)  # whole
    assert saved_epoch(run) == 1
    assert call(f"resume={run}", "trainer.max_epochs=4") == 0
    assert saved_epoch(run) == 3
    assert not list(run.rglob("*.unfinished"))


def test_killed_cache_build_leaves_no_final_folder(pictures, tmp_path, monkeypatch):
    run = tmp_path / "run"
    assert Process(tmp_path, long_run(pictures, run), KILLED_IN_CACHE).end()[0] == -signal.SIGKILL
    (left,) = [path.parent for path in tmp_path.rglob("pixels.bin")]
    assert left.name.startswith("unfinished-")
    monkeypatch.setattr(cache, "ABANDONED", -1)
    data = folder(pictures, tmp_path / "cache" / "srcolor")
    assert len(data.index.names) == 24
    assert not left.exists()


# -- in this process -----------------------------------------------------------------------------------------------


def folder(root, where):
    data = Folder(root=str(root), **COMMON | FILES | {"cache_dir": str(where)})
    data.setup()
    return data


def test_concurrent_cache_builds_without_shared_locks(pictures, tmp_path, monkeypatch):
    """Threads stand for machines: they meet on the disk only."""
    monkeypatch.setattr(locks.FileLock, "acquire", lambda self, timeout=None: None)
    barrier, done, decode = threading.Barrier(2), [], Folder.decode

    class Slow(Folder):
        def decode(self, item):
            if item.name == "a/00.png":
                barrier.wait(30)  # both are building now
            return decode(self, item)

    def build():
        data = Slow(root=str(pictures), **COMMON | FILES | {"cache_dir": str(tmp_path)})
        data.setup()
        done.append([batch.images.clone() for batch in data.test_dataloader()])

    threads = [threading.Thread(target=build) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2
    for one, two in zip(*done, strict=True):
        assert torch.equal(one, two)
    assert len([path for path in tmp_path.rglob("*") if path.is_dir() and (path / "index.json").exists()]) == 1
    assert not list(tmp_path.rglob("unfinished-*"))


@pytest.mark.parametrize("left", [0.0, 0.5])
@pytest.mark.parametrize("name", ["pixels.bin", "index.npz", "index.json"])
def test_a_truncated_cache_is_rebuilt(name, left, pictures, tmp_path, caplog):
    expected = [batch.images.clone() for batch in folder(pictures, tmp_path).test_dataloader()]
    (file,) = tmp_path.rglob(name)
    file.write_bytes(file.read_bytes()[: int(left * file.stat().st_size)])
    rebuilt = [batch.images.clone() for batch in folder(pictures, tmp_path).test_dataloader()]
    assert "is damaged" in caplog.text
    for one, two in zip(expected, rebuilt, strict=True):
        assert torch.equal(one, two)


def test_caches_of_two_settings_of_one_source_coexist(pictures, tmp_path, monkeypatch):
    folder(pictures, tmp_path)
    data = Folder(root=str(pictures), **COMMON | FILES | {"cache_dir": str(tmp_path), "size": 24})
    data.setup()
    assert len(list(tmp_path.rglob("pixels.bin"))) == 2
    monkeypatch.setattr(Folder, "decode", lambda *_: pytest.fail("decoded again"))
    assert folder(pictures, tmp_path).index.shapes[0].tolist() == [32, 32, 3]


def test_a_full_disk_is_reported_and_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    target = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, target)

    def full(state, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        UserError, match=r"cannot write .*last\.ckpt: .*No space left.*The previous checkpoint is unchanged"
    ):
        AtomicCheckpointIO().save_checkpoint({"epoch": 2}, target)
    assert torch.load(target) == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_elsewhere_is_reported_in_one_line(pictures, tmp_path, call, monkeypatch, capfd):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "record", full)
    args = [*TINY, "trainer=debug", "data=folder", f"data.root={pictures}", f"hydra.run.dir={tmp_path / 'run'}"]
    assert call(*args) == 1
    assert capfd.readouterr().err.startswith(f"error: No space left on device: {tmp_path / 'run'}. Free some space")


def test_a_full_disk_while_the_cache_is_built(pictures, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "savez", full)
    with pytest.raises(UserError, match=r"cannot write the cache .*No space left.*data\.cache_dir"):
        folder(pictures, tmp_path)
    assert not list(tmp_path.rglob("*.bin"))


def test_slurm_signal_takes_effect_once_after_the_batch(monkeypatch):
    class OneProcess:
        world_size = 1

    did = []
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGUSR1, lambda number, frame: did.append(number))  # as Lightning does under SLURM
        together = StopTogether()
        together.on_train_start(OneProcess(), None)
        assert signal.getsignal(signal.SIGTERM) is before[signal.SIGTERM]  # one process alone stops at once
        signal.raise_signal(signal.SIGUSR1)
        assert not did
        together.on_train_batch_end(OneProcess(), None)
        together.on_train_batch_end(OneProcess(), None)
        assert did == [signal.SIGUSR1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_resumes_from_slurm_checkpoint_if_newest(tiny_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    last, requeued = run / "checkpoints" / "last.ckpt", run / "hpc_ckpt_1.ckpt"
    shutil.copy(last, requeued)
    for newest, file in ((requeued, last), (last, requeued)):
        os.utime(file, (1, 1))
        os.utime(newest, (2, 2))
        assert runs.checkpoint_file(str(run), "last") == newest
        assert runs.checkpoint_file(str(run)) == run / "checkpoints" / "best.ckpt"
