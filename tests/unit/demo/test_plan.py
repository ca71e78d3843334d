import json
from pathlib import Path

from perceptio.demo.plan import plan_jobs
from perceptio.demo.settings import CONTROLS, DIRECT, PERCEPTIO, DemoSettings
from perceptio.experiments.job import Job, work_named


def plan(**settings: object) -> dict[str, Job]:
    return {job.name: job for job in plan_jobs(DemoSettings(**{"cores": 2, "out": Path("demo"), **settings}))}


def test_every_job_has_a_folder_of_its_own_and_comes_after_known_ones() -> None:
    jobs = plan()
    assert len({job.out for job in jobs.values()}) == len(jobs) == 9
    begun: set[str] = set()
    for job in jobs.values():
        assert {before.name for before in job.after} <= begun
        begun.add(job.name)


def test_the_work_of_every_job_is_found() -> None:
    assert len({work_named(job.work) for job in plan().values()}) == 4


def test_arms_share_the_depth_tokenizer() -> None:
    jobs = plan(direct=True)
    for arm in (PERCEPTIO, *CONTROLS, DIRECT):
        assert [before.name for before in jobs[arm].after] == ["scenes", "vqvae"]


def test_every_kind_of_stream_is_an_arm_more_and_changes_no_other() -> None:
    without, jobs = plan(steps=7), plan(steps=7, streams=True)
    assert jobs.keys() - without.keys() == {"streams", "evaluation_streams"}
    assert list(jobs)[3] == "streams"
    assert all(jobs[name].fingerprint == without[name].fingerprint for name in without)
    assert [before.name for before in jobs["streams"].after] == ["scenes", "vqvae"]
    recipe = jobs["streams"].settings["recipe"]
    assert {stream["training"]["steps"] for stream in recipe["streams"]} == {7}
    (own,) = (stream for stream in recipe["streams"] if stream["name"] == "depth")
    (shared,) = (s for s in jobs["vqvae"].settings["recipe"]["streams"] if s["name"] == "depth")
    assert own["tokenizer"] == shared["tokenizer"]


def test_settings_can_be_sent_to_a_process() -> None:
    for job in plan(direct=True, streams=True).values():
        assert json.loads(json.dumps(job.settings)) == job.settings


def test_arms_share_seed_and_steps_and_each_has_its_own_recipe() -> None:
    jobs = plan(seed=2, steps=7, direct=True)
    recipes = [jobs[arm].settings["recipe"] for arm in (PERCEPTIO, *CONTROLS, DIRECT)]
    assert {(recipe["train"]["seed"], recipe["train"]["steps"]) for recipe in recipes} == {(2, 7)}
    assert len({recipe["name"] for recipe in recipes}) == 4
    perceive = [recipe["data"]["perceive"] for recipe in recipes]
    assert perceive == ["before", "separate_task", "separate_task", "separate_task"]
    assert [recipe["answer_format"] for recipe in recipes] == ["lookup", "readout", "lookup", "direct"]
    trainings = [stream["training"] for stream in jobs["fsq"].settings["recipe"]["streams"]]
    assert {(training["seed"], training["steps"]) for training in trainings} == {(2, 7)}


def test_controls_differ_from_perceptio_only_in_what_makes_them_controls() -> None:
    jobs = plan(direct=True)
    whole = jobs["perceptio"].settings["recipe"]

    def changed(arm: str) -> set[str]:
        other = jobs[arm].settings["recipe"]
        keys = {key for key in whole if whole[key] != other[key]} - {"data"}
        return keys | {f"data.{key}" for key in whole["data"] if whole["data"][key] != other["data"][key]}

    assert changed("readout_without_block") == {
        "name",
        "answer_format",
        "point_values",
        "losses",
        "data.perceive",
    }
    assert changed("lookup_from_vision") == {"name", "point_values", "data.perceive"}
    without_values = {"answer_format", "point_values", "data.text_only_readout", "data.text_only_comparison"}
    assert changed("direct") == {"name", "losses", "data.perceive"} | without_values


def test_an_arm_that_would_be_left_alone_shares_the_cores_of_the_others() -> None:
    def cores(**settings: object) -> set[float]:
        jobs = plan(**settings)
        return {jobs[arm].cores for arm in (PERCEPTIO, *CONTROLS)}

    assert cores(cores=2) == {2 / 3}
    assert cores(cores=1) == cores(cores=3) == cores(cores=2, direct=True) == {1}


def test_cores_change_nothing_that_is_made() -> None:
    one, two = plan(cores=1), plan(cores=2)
    assert all(one[name].fingerprint == two[name].fingerprint for name in one)


def test_a_change_of_steps_leaves_the_scenes_as_they_are() -> None:
    short, long = plan(steps=5), plan(steps=6)
    assert short["scenes"].fingerprint == long["scenes"].fingerprint
    assert all(short[name].fingerprint != long[name].fingerprint for name in short if name != "scenes")
