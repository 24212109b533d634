import shlex

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from omegaconf import ValidationError

from srcolor.cli import overrides, schema
from srcolor.errors import UserError


def composed(*overrides, script="train"):
    schema.register()
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        return compose(script, list(overrides))


PARTS = {"chain64to128": ("first", "second"), "segment_guided64to128": ("net",)}


@pytest.mark.parametrize("program", ["eval", "tune"])
def test_eval_and_tune_keep_the_settings_of_an_experiment(program):
    with initialize_config_dir(str(schema.CONF), version_base="1.3"):
        schema.register()
        cfg = compose(program, ["experiment=colorize64"])
    assert (cfg.scale, cfg.monitor, cfg.size, cfg.resume) == (1, "val/ab_rmse", 128, None)
    with pytest.raises(ValidationError):
        cfg.scale = "two"


@pytest.mark.parametrize("experiment", schema.options("experiment"))
def test_every_experiment_passes_the_check(experiment):
    cfg = composed(f"experiment={experiment}", *(f"net.{part}.run=x" for part in PARTS.get(experiment, ())))
    schema.check(cfg)
    if "Colorization" in cfg.task._target_:  # colors are the target and must not be jittered
        assert cfg.data.jitter == 0
        assert cfg.data.drop_gray
        assert cfg.monitor == ("val/ab_rmse" if cfg.adversary is None else "val/lpips")


@pytest.mark.parametrize("script", ["eval", "tune"])
def test_an_experiment_sets_the_same_values_for_every_command(script):
    """Also those at the top level, which the schema of the command knows defaults of."""
    expected, cfg = composed("experiment=colorize64"), composed("experiment=colorize64", script=script)
    assert (cfg.scale, cfg.monitor) == (1, "val/ab_rmse")
    assert {key: cfg[key] for key in expected} == dict(expected)
    assert composed("experiment=colorize64", "scale=3", script=script).scale == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+net.chanels=24", r"unknown key net\.chanels\. Did you mean channels\?"),
        ("+optimizer.weight_decai=1", r"unknown key optimizer\.weight_decai\. Did you mean weight_decay\?"),
        ("+task.baselines.bicubic.scal=2", r"unknown key task\.baselines\.bicubic\.scal\. Did you mean scale\?"),
        ("+trainer.max_epoch=2", r"unknown key trainer\.max_epoch\. Did you mean max_epochs\?"),
        ("+data.rot=x", r"unknown key data\.rot\."),
        (
            "net._target_=srcolor.nets.residual.Residuall",
            r"net\._target_=srcolor\.nets\.residual\.Residuall: no such class",
        ),
        ("net.channels=???", r"net\.channels is required"),
    ],
)
def test_check_names_the_path_and_the_nearest_key(override, message):
    with pytest.raises(UserError, match=message):
        schema.check(composed(override))


def test_a_typo_in_an_experiment_file_is_found(tmp_path, capfd, call):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nnet:\n  chanels: 24\n")
    code = call("--config-dir", str(tmp_path), "experiment=mine", f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 1
    assert capfd.readouterr().err == "error: unknown key net.chanels. Did you mean channels?\n"


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["net.chanels=24"], "Did you mean net.channels?"),
        (["sede=1"], "Did you mean seed?"),
        (["experiment=sr64to12"], "Did you mean sr64to128?"),
        (["data=foldr"], "Did you mean folder?"),
        (["data=folder", "data.rot=/x"], "Did you mean data.root?"),
    ],
)
def test_one_line_after_hydras_error_names_the_nearest_key(args, hint, capfd, call, tmp_path):
    assert call(*args, f"hydra.run.dir={tmp_path / 'run'}") == 1
    error = capfd.readouterr().err
    assert error.rstrip().endswith(hint), error
    assert "Traceback" not in error


@pytest.mark.parametrize("value", ["~/faces", "/a [b]/c", "/a,b", "/写真", "/it's", '/a "b" c', "/a:b={c}"])
def test_path_rejected_by_hydras_grammar_is_shown_quoted(value):
    with pytest.raises(UserError) as error:
        overrides.train_args(["data=folder", f"data.root={value}"])
    (word,) = shlex.split(str(error.value).splitlines()[-1])
    assert overrides.parse(word).value() == value


@pytest.mark.parametrize(
    ("arg", "key", "value"),
    [
        ("data.root=~/faces", "data.root", "~/faces"),
        ("data.root=~/it's [here]", "data.root", "~/it's [here]"),
        ("hydra.run.dir=~/x", "hydra.run.dir", "/home/me/x"),  # Hydra would create a folder called ~
        ("~callbacks.pictures", "callbacks.pictures", None),
    ],
)
def test_a_path_below_home_needs_no_quotes(arg, key, value, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    override = overrides.parse(*overrides.quote_homes([arg]))
    assert (override.key_or_group, override.value()) == (key, value)


def test_two_paths_below_home_are_not_taken_for_one():
    assert overrides.quote_homes(["data.root=~/a,~/b"]) == ["data.root=~/a,~/b"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["resume=a", "init_from=b"], r"resume= and init_from= are mutually exclusive"),
        (["fit=false"], r"python eval\.py ckpt=<run>$"),
        (["fit=false", "ckpt=a b", "data=photos"], r"To test a network, run: python eval\.py 'ckpt=a b' data=photos$"),
        (["ckpt=a"], r"python eval\.py ckpt=a$"),
        (["data=benchmark"], r"data=benchmark is for testing only: python eval\.py ckpt=<run> data=benchmark"),
        (["resume=no/such/run"], r"no/such/run: no such run folder"),
    ],
)
def test_train_rejects_invalid_keys(args, message):
    with pytest.raises(UserError, match=message):
        overrides.train_args(args)


def test_help_lists_experiments_data_sets_and_keys(capfd, call):
    assert call("--help") == 0
    lines = capfd.readouterr().out.splitlines()
    for name in (*schema.options("experiment"), *schema.options("data"), *schema.TrainConfig.__dataclass_fields__):
        (line,) = [line for line in lines if line.startswith(f"  {name} ")]
        assert len(line.split()) > 2, line


def test_options_are_the_files_of_the_group():
    assert {"photos", "folder"} <= set(schema.options("data"))
    assert not any(name.startswith("_") for name in schema.options("data"))
    assert ROOT / "conf" == schema.CONF


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("model=unet", "net="),
        ("ckpt_path=x.ckpt", "eval.py ckpt="),
        ("train=false", "eval.py ckpt="),
        ("test=true", "eval.py ckpt="),
        ("debug=default", "trainer=debug"),
        ("hparams_search=mnist_optuna", "tune.py hparams="),
        ("trainer=gpu", "trainer.accelerator=cuda"),
        ("task_name=first", "hydra.run.dir="),
        ("tags=[a]", "hydra.run.dir="),
        ("paths.data_dir=/x", "data.root="),
    ],
)
def test_template_keys_are_refused_with_the_key_to_use_instead(override, hint):
    with pytest.raises(UserError) as error:
        overrides.train_args([override])
    message = str(error.value)
    assert message.startswith(f"{override} is not a srcolor key")
    assert hint in message
    assert "\n" not in message


@pytest.mark.parametrize("args", [["resume=a"], ["fit=true"], ["init_from=a"]])
def test_eval_refuses_to_train(args):
    with pytest.raises(UserError, match=r"eval\.py only tests"):
        overrides.eval_args(args)


@pytest.mark.parametrize("args", [[], ["data=photos"], ["data=benchmark", "net.first.run=a"]])
def test_eval_needs_a_network(args):
    with pytest.raises(UserError, match=r"eval\.py tests a network: specify it with ckpt=<run>"):
        overrides.eval_args(args)


def test_eval_names_a_missing_run():
    with pytest.raises(UserError, match=r"no/such/run: no such run folder"):
        overrides.eval_args(["ckpt=no/such/run"])
