"""What the scripts rely on in DVC, lm-eval and datasets without a promise: is it there, and alike?"""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from dvc.cli import main
from dvc.repo import Repo as Dvc
from dvc.repo.experiments import refs
from dvc.repo.experiments.executor.base import BaseExecutor
from dvc.repo.experiments.queue.base import QueueEntry
from dvc.repo.experiments.queue.tempdir import TempDirQueue
from dvc.repo.experiments.utils import exp_refs_by_names

from scripts import compat, remote_cache
from scripts.lock_entries import plain
from sft.core.params import load
from tests.pipeline_repo import Repo
from tests.toy_pipeline import Toy

LOOK_AT = "changed in this version: see {} and mend scripts/compat.py"


def test_the_reference_of_an_experiment() -> None:
    head = "0123456789" * 4
    where = LOOK_AT.format("dvc/repo/experiments/refs.py")
    assert compat.experiment_reference(head, "mine") == str(refs.ExpRefInfo(head, "mine")), where


def test_the_commit_of_an_experiment(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    where = LOOK_AT.format("dvc/repo/experiments/refs.py and utils.py")
    monkeypatch.chdir(repo.path)
    head = repo.git("rev-parse", "HEAD").strip()
    for name in ("mine", "not-mine"):
        repo.git("update-ref", str(refs.ExpRefInfo(head, name)), head)
    assert compat.experiment_commits("mine") == [head], where
    with Dvc(str(repo.path)) as dvc:
        assert exp_refs_by_names(dvc.scm, {"mine"})["mine"], where  # DVC finds it under this name, too
    assert compat.experiment_commits("m.ne") == [] == compat.experiment_commits("stash")


@pytest.mark.parametrize("ours", [True, False])
def test_an_experiment_in_a_copy_leaves_another_s_alone(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, ours: bool
) -> None:
    """DVC's own takes what another has put down meanwhile: if it does so no more, ours can go."""
    where = LOOK_AT.format("dvc/repo/experiments/queue/workspace.py (reproduce)")
    done = []

    def do(queue: TempDirQueue, entry: QueueEntry, executor: BaseExecutor, **_: object) -> dict:
        done.append(entry.name)
        executor.cleanup()
        if entry.name == "mine":
            # As another process, which has just begun: before it has taken its own.
            queue.repo.experiments.new(queue, params={"params.yaml": ["plot.dpi=42"]}, name="another")
        return {}

    monkeypatch.setattr(TempDirQueue, "_reproduce_entry", do)
    with toy.here():
        arguments = ["--name", "mine", "--set-param", "plot.dpi=41"]
        if ours:
            assert compat.run_experiment_in_copy(arguments) == 0, where
        else:
            main(["exp", "run", "--temp", *arguments])
    assert done == (["mine"] if ours else ["mine", "another"]), where


def test_the_hash_of_a_folder(built: Repo) -> None:
    where = LOOK_AT.format("dvc_data/hashfile/tree.py (Tree.digest)")
    assert compat.folder_hash(built.path / "models/adapter") == built.lock()["train"]["models/adapter"], where


def test_the_files_that_dvc_sees(built: Repo) -> None:
    where = LOOK_AT.format("dvc/ignore.py (DvcIgnoreFilter.find)")
    assert (built.path / "data/raw/README.md").exists()  # .dvcignore names it
    assert compat.data_files(built.path, "data/raw") == [], where
    assert "metrics/train.json" in compat.data_files(built.path, "metrics"), where


def test_data_sets_of_the_hub(tmp_path: Path) -> None:
    where = LOOK_AT.format("datasets/packaged_modules/__init__.py")
    assert [compat.on_hub(name) for name in ("json", "parquet", str(tmp_path))] == [False] * 3, where
    assert compat.on_hub("allenai/ai2_arc")


def test_lm_eval_s_tasks_load_their_data_by_another_function() -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: make install-harness")
    from lm_eval.api.task import ConfigurableTask

    original, calls = datasets.load_dataset, []

    def load(given, *arguments, **options):
        calls.append((given, arguments or options))
        return datasets.DatasetDict({"test": datasets.Dataset.from_list([{"text": "Hello"}])})

    config = {"task": "made", "dataset_path": "any/thing", "test_split": "test", "doc_to_text": "{{text}}"}
    config |= {"output_type": "loglikelihood_rolling", "doc_to_target": "", "metric_list": []}
    with compat.load_dataset_by(load):
        ConfigurableTask(config=config)
    where = LOOK_AT.format("lm_eval/api/task.py (download)")
    assert calls and all(given is original and "any/thing" in str(of) for given, of in calls), where
    assert datasets.load_dataset is original


def test_a_sample_as_json() -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: make install-harness")
    where = LOOK_AT.format("lm_eval/utils.py (handle_non_serializable)")
    sample = {"acc": np.bool_(True), "score": np.float64(0.5), "place": np.int64(3)}
    assert json.loads(compat.sample_as_json(sample)) == {"acc": True, "score": 0.5, "place": 3}, where


def test_what_the_run_cache_names(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.path)
    where = LOOK_AT.format("dvc/stage/cache.py, or the cache's layout: see scripts/remote_cache.py, too")
    cache = built.path / ".dvc/cache"
    entries = remote_cache.entries(cache)
    named = remote_cache.with_content(
        set().union(*(remote_cache.outputs(cache / entry) for entry in entries)), cache
    )
    with compat.dvc_repository(built.path) as dvc:
        keys = [tuple(entry.split("/")[-2:]) for entry in entries]
        (used,) = dvc.stage_cache.get_used_objs(keys).values()
        (of_lock,) = dvc.used_objs(push=True).values()
        outs = remote_cache.with_content(compat.named_objects(dvc), cache)
    assert len(entries) == 7 and named == {found.value for found in used}, where
    assert outs == {found.value for found in of_lock} < named, where
    assert all((cache / remote_cache.object_path(digest)).exists() for digest in named), where


def test_an_entry_of_the_run_cache_is_named_by_what_it_says(built: Repo, tmp_path: Path) -> None:
    where = LOOK_AT.format("dvc/stage/cache.py (_get_cache_hash)")
    for entry in (built.path / ".dvc/cache/runs").glob("*/*/*"):
        assert compat.is_run_cache_entry(entry, entry.name), where
        text = entry.read_text()
        for changed in ("", text[: len(text) // 2], text.replace("md5: ", "md5: 0", 1)):
            (tmp_path / "changed").write_text(changed)
            assert not compat.is_run_cache_entry(tmp_path / "changed", entry.name), where


def test_the_runs_of_a_stage_s_inputs_and_their_outputs(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.path)
    where = LOOK_AT.format("dvc/stage/cache.py (_get_cache_hash, and StageCache)")
    entry = load(built.path / "dvc.lock")["stages"]["mix"]
    inputs = entry | {"outs": [{"path": out["path"]} for out in entry["outs"]]}
    with compat.dvc_repository(built.path) as dvc:
        assert [plain(found) for found in compat.run_cache_entries(dvc, inputs)] == [entry], where
        assert compat.run_cache_entries(dvc, inputs | {"cmd": "another"}) == [], where
        made = compat.stage_of_entry(dvc, entry, str(built.path))
        assert {out.def_path: out.hash_info.value for out in made.outs} == built.lock()["mix"], where
        before = dvc.cache.local.cache_types
        with compat.copies_instead_of_links(dvc):
            assert dvc.cache.local.cache_types == ["copy"] != before, where
        assert dvc.cache.local.cache_types == before


def test_the_tasks_of_the_queue(toy: Toy) -> None:
    """A worker takes a task; another call queues it again, and a third forgets the first."""
    where = LOOK_AT.format("dvc/repo/experiments/queue/celery.py and dvc_task/app/filesystem.py")
    with toy.here(), Dvc() as dvc:
        dvc.experiments.run(name="mine", params=["plot.dpi=50"], queue=True)
        queue = dvc.experiments.celery_queue
        (commit,) = compat.queued_commits(queue)
        assert compat.begun_tasks(queue) == [], where
        with queue.celery.connection_for_read() as connection:
            connection.SimpleQueue(queue.celery.conf.task_default_queue).get(timeout=5).ack()
        (task,) = compat.begun_tasks(queue)
        assert (task.entry.name, task.entry.stash_rev) == ("mine", commit), where
        assert compat.queued_commits(queue) == set()
        compat.queue_again(queue, task)
        assert compat.queued_commits(queue) == {commit} and len(compat.begun_tasks(queue)) == 1, where
        compat.forget_task(queue, task)
        assert compat.queued_commits(queue) == {commit} and compat.begun_tasks(queue) == [], where


def test_the_configuration_of_a_remote(repo: Repo) -> None:
    where = LOOK_AT.format("dvc/config.py (Config.read, Config.edit)")
    before = compat.dvc_configuration(repo.path, "repo")
    compat.set_default_remote(repo.path, "kept", {"url": "s3://bucket/path", "verify": "true"})
    after = compat.dvc_configuration(repo.path)
    assert after["remote"]["kept"] == {"url": "s3://bucket/path", "verify": "true"}, where
    assert after["core"] == before["core"] | {"remote": "kept"}, where
    assert compat.dvc_configuration(repo.path, "local")["remote"] == {}, where
    assert not (repo.path / ".dvc/config.local").exists()
    with Dvc(str(repo.path)) as dvc:
        assert dvc.config["core"]["remote"] == "kept" and dvc.config["remote"]["kept"]["verify"] is True, (
            where
        )
