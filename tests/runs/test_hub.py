"""Networks of the Hugging Face Hub, from a folder that is served on this machine."""

import http.server
import json
import os
import subprocess
import sys
import threading

import pytest
import torch
from conftest import ROOT

from srcolor import bundled, runs
from srcolor.errors import UserError
from srcolor.inference import export
from srcolor.runs import cards, hub, weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = "from srcolor import runs; print(type(runs.load_net({!r})).__name__)"


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers like the Hub: one repository, one file, one commit."""

    def do_HEAD(self):
        owner, name, _, revision, file = self.path.strip("/").split("/")
        error = None
        if (owner, name) != ("me", "net"):
            error = "RepoNotFound"
        elif revision not in ("main", "v1", COMMIT):
            error = "RevisionNotFound"
        elif file != hub.FILE:
            error = "EntryNotFound"
        self.send_response(200 if error is None else 404)
        if error is not None:
            self.send_header("X-Error-Code", error)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"abc"')
        self.send_header("Content-Length", str(len(self.server.content) if error is None else 0))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network as a folder for the Hub."""
    folder = tmp_path_factory.mktemp("hub") / "net"
    export.main(["--run", "srcolor/sr_x2_small", "--format", "hub", "--output", str(folder)])
    return folder


@pytest.fixture
def load(folder, tmp_path):
    """A function that loads a network by name in a new process, whose Hub is on this machine."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.content = (folder / hub.FILE).read_bytes()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"

    def run(name, **variables):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_ENDPOINT": address, "HF_HOME": str(tmp_path)}
        command = [sys.executable, "-c", CODE.format(name)]
        done = subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, cwd=tmp_path)
        return done.stdout.strip(), done.stderr

    yield run
    server.shutdown()
    server.server_close()


def test_a_network_of_the_hub_is_loaded_and_its_commit_printed_also_offline_later(load):
    net, printed = load("hf:me/net@v1")
    assert net == type(runs.load_net("srcolor/sr_x2_small")).__name__
    assert f"hf:me/net@v1: commit {COMMIT}" in printed
    assert load("hf:me/net@v1", HF_HUB_OFFLINE="1")[0] == net


@pytest.mark.parametrize(
    ("name", "variables", "message"),
    [
        ("hf:me/other", {}, "hf:me/other: no such repository on the Hub"),
        ("hf:me/net@v2", {}, "hf:me/net@v2: the repository has no branch, tag or commit v2."),
        ("hf:me/net", {"HF_HUB_OFFLINE": "1"}, "hf:me/net: the Hub cannot be reached"),
    ],
)
def test_what_the_hub_does_not_have_is_an_error_in_one_line(name, variables, message, load):
    net, printed = load(name, **variables)
    assert net == ""
    assert message in printed.strip().splitlines()[-1]


@pytest.mark.parametrize("name", ["hf:net", "hf:me/net/file", "hf:me/net@", "hf:../x@y z"])
def test_an_invalid_name_is_an_error(name):
    with pytest.raises(UserError, match="expected hf:<owner>/<name>"):
        runs.find(name)


def test_the_folder_has_weights_configuration_card_and_pictures(folder):
    assert {file.name for file in folder.iterdir()} == {hub.FILE, "config.json", "README.md", "sr_x2_small.jpg"}
    config = json.loads((folder / "config.json").read_text())
    assert config["net_config"] == weights.read(folder / hub.FILE)["net_config"]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: ")
    assert "](sr_x2_small.jpg)" in card
    assert "](../" not in card
    x = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    nets = (runs.load_net(name) for name in (str(folder / hub.FILE), "srcolor/sr_x2_small"))
    with torch.inference_mode():
        one, other = (net(x) for net in nets)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)  # the exported one is in inference form


def test_the_card_of_a_run_has_its_test_figures_but_no_path_of_this_computer(tmp_path):
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / "checkpoints").mkdir()
    config = {"_target_": "srcolor.nets.bicubic.Bicubic", "scale": 2}
    torch.save({"net_config": config, "state_dict": {}, "trained_on": []}, run / "checkpoints" / "best.ckpt")
    (run / ".hydra" / "hydra.yaml").write_text("hydra: {runtime: {choices: {experiment: sr64to128, data: folder}}}\n")
    (run / ".hydra" / "overrides.yaml").write_text(f"[experiment=sr64to128, data.root={tmp_path}]\n")
    (run / "metrics.json").write_text(json.dumps({"test": {"psnr": 30.123456}}))
    export.main(["--run", str(run), "--format", "hub", "--output", str(tmp_path / "out")])
    card = (tmp_path / "out" / "README.md").read_text()
    assert "value: 30.12\n" in card
    assert "python train.py experiment=sr64to128 data.root=<folder>" in card
    assert str(tmp_path) not in card
    assert "test.png" not in card


def test_a_folder_that_exists_or_was_not_named_is_refused(tmp_path, capsys):
    for arguments in (["--output", str(tmp_path)], []):
        with pytest.raises(SystemExit):
            export.main(["--run", "srcolor/sr_x2_small", "--format", "hub", *arguments])
    assert "already exists" in (errors := capsys.readouterr().err)
    assert "--format hub requires --output" in errors


def test_every_bundled_network_says_what_it_is_not_for():
    for name in bundled.names():
        assert "**Not for**" in cards.purpose(f"srcolor/{name}")
        assert "](" not in cards.purpose(f"srcolor/{name}")
    assert cards.purpose("latest") == ""
