"""The declarations of every study agree with each other and with conf/."""

import pytest
from conftest import ROOT

from srcolor.analysis import studies
from srcolor.cli import schema


@pytest.fixture(params=studies.STUDIES)
def task(request):
    return request.param


def test_a_study_has_the_name_of_a_task_and_a_configuration(task):
    assert task in schema.options("task")
    assert (ROOT / "conf" / "compare" / f"{task}.yaml").is_file()


def test_the_data_sets_and_experiments_of_a_study_exist(task, tmp_path):
    study = studies.load(task)
    assert {study.data, study.folder_data} <= set(schema.options("data"))
    assert set(study.stages(tmp_path, 2, study.adversarial)) <= set(schema.options("experiment"))


def test_every_run_is_trained_by_a_stage_and_used_by_a_route(task, tmp_path):
    study = studies.load(task)
    assert {key.experiment for key in study.keys} == set(study.stages(tmp_path, 2, study.adversarial))
    used = {key for recipe in study.recipes(2).values() for key in recipe.keys}
    assert used == {key.name for key in study.keys}
    assert {key.size for key in study.keys} <= {"small", "large"}


def test_the_reference_of_a_group_is_a_route_of_it_that_needs_no_optional_run(task):
    study = studies.load(task)
    recipes = study.recipes(2)
    assert {recipe.group for recipe in recipes.values()} == set(study.groups) == set(study.reference)
    for group, name in study.reference.items():
        assert recipes[name].group == group
        assert set(recipes[name].keys) <= set(study.required())


def test_questions_compare_routes_of_the_study(task):
    study = studies.load(task)
    assert {name for pair in study.questions for name in pair} <= set(study.recipes(2))


def test_a_run_that_a_stage_starts_from_is_trained_before(task, tmp_path):
    study = studies.load(task)
    stages = study.stages(tmp_path, 4, study.adversarial)
    for number, stage in enumerate(stages.values()):
        for key, value in stage.settings.items():
            if key == "init_from" or key.endswith(".run"):
                assert value.name in list(stages)[:number]
