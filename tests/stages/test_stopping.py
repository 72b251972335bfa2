"""A stage that is stopped says so in one line, at once or where it chose to, and ends with its DVC."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from stages import starter
from tests.imports import ROOT

PROGRAM = """
import os, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from stages import stopping
from stages.cli import run

stopping.INTERVAL, stopping.GRACE = 0.05, 0.2

def begun():
    print("begun", flush=True)

def main(values):
{body}

run(main)
print("not stopped")
"""
WAITING = "begun(); time.sleep(60)"


def start(folder: Path, body: str, **options) -> subprocess.Popen:
    """Run a stage whose main has this body, and wait until it says that it has begun."""
    (folder / "params.yaml").write_text("x: 1\n")
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), "    "))],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)} | options.pop("env", {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    assert process.stdout and process.stdout.readline() == "begun\n"
    return process


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    """Close the process's input, if it has one, and wait for its end."""
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGINT, 130, "stopped by Ctrl-C\n"),
        (signal.SIGTERM, 143, "stopped by SIGTERM\n"),
        (signal.SIGHUP, 129, "stopped by SIGHUP\n"),
    ],
)
def test_a_signal_ends_a_stage_with_one_line(number, status, said, tmp_path):
    process = start(tmp_path, WAITING)
    process.send_signal(number)
    assert ended(process) == (status, "", said)


def test_nothing_half_written_is_left(tmp_path):
    body = """
    from sft.core.files import replacing
    with replacing("out") as temporary:
        temporary.write_text("half")
        begun()
        time.sleep(60)
    """
    process = start(tmp_path, body)
    process.terminate()
    assert ended(process)[0] == 143
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_other_threads_do_not_hold_it(tmp_path):
    """Such as downloads: their pool waits for them, however long they take."""
    body = """
    with ThreadPoolExecutor() as pool:
        pool.submit(time.sleep, 60)
        begun()
        time.sleep(60)
    """
    process = start(tmp_path, body)
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "", "stopped by Ctrl-C\n")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    """As by nohup, and for Ctrl-C in a job that a shell runs in the background."""
    process = start(tmp_path, "begun(); sys.stdin.readline()", stdin=subprocess.PIPE, preexec_fn=ignore)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGINT)
    assert ended(process) == (0, "not stopped\n", "")


def ignore() -> None:
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


DEFERRED = """
with stopping.deferred() as asked:
    begun()
    while not asked() or {more}:
        time.sleep(0.01)
    raise asked.stopped(" at step 3 of 9")
"""


def test_a_deferred_stop_says_how_far_it_has_come(tmp_path):
    process = start(tmp_path, DEFERRED.format(more="False"))
    process.terminate()
    assert ended(process) == (143, "", "stopped by SIGTERM at step 3 of 9\n")


def test_a_second_signal_ends_it_at_once(tmp_path):
    process = start(tmp_path, "\n" + DEFERRED.format(more="(asked() and not begun()) or True"))
    process.send_signal(signal.SIGINT)
    assert process.stdout and process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    status, _, errors = ended(process)
    assert (status, errors) == (130, "stopped by Ctrl-C\n")


def test_work_that_comes_to_its_end_first_is_stopped_all_the_same(tmp_path):
    body = """
    with stopping.deferred() as asked:
        begun()
        while not asked():
            time.sleep(0.01)
    print("not reached")
    """
    process = start(tmp_path, body)
    process.terminate()
    assert ended(process) == (143, "", "stopped by SIGTERM\n")


def test_forked_processes_leave_the_line_to_the_stage(tmp_path):
    body = """
    import multiprocessing
    children = [multiprocessing.get_context("fork").Process(target=time.sleep, args=(0.5,)) for _ in range(2)]
    for child in children:
        child.start()
    begun()
    for child in children:
        child.join()
    """
    process = start(tmp_path, body, start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert ended(process) == (130, "", "stopped by Ctrl-C\n")


def test_a_forked_process_ends_by_the_signal_itself(tmp_path):
    """A handler in Python may be kept by a wait for a lock for ever, as in a Pool that is terminated."""
    body = """
    import multiprocessing
    begun()
    for wait in (0, 0.2):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,))
        child.start()
        time.sleep(wait)
        child.terminate()
        child.join()
        print(child.exitcode)
    """
    assert ended(start(tmp_path, body))[1].split()[:2] == [str(-signal.SIGTERM)] * 2


# The part of DVC: it sets the variable for what it runs, here through a shell that stays.
DVC = """
import os, subprocess, sys
subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", *sys.argv[1:]], env=os.environ | {"DVC_STAGE": "train"})
"""


def test_a_stage_ends_when_what_ran_it_is_gone(tmp_path):
    (tmp_path / "params.yaml").write_text("x: 1\n")
    program = PROGRAM.format(body="    print(os.getpid(), flush=True); time.sleep(60)")
    with (tmp_path / "errors").open("w") as errors:
        dvc = subprocess.Popen(
            [sys.executable, "-c", DVC, sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert dvc.stdout
        stage = psutil.Process(int(dvc.stdout.readline()))
        dvc.kill()  # and not waited for: it is a zombie, which does nothing any more
        psutil.wait_procs([stage], timeout=30)
        assert not stage.is_running()
        dvc.wait()
    assert (
        tmp_path / "errors"
    ).read_text() == "stopped because DVC has ended (after a killed `dvc exp run`: make rescue)\n"


WATCHED = """
watched = [t.name for t in threading.enumerate() if "_watch" in t.name]
pathlib.Path("watched").write_text(str(len(watched)))
sys.stdin.readline()
"""


def watchers(folder: Path, *launcher: str, variables: dict[str, str]) -> int:
    """Return how many threads of a stage that `launcher` starts watch its DVC."""
    (folder / "params.yaml").write_text("x: 1\n")
    body = textwrap.indent("import threading, pathlib" + WATCHED, "    ")
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    result = subprocess.run(
        [*launcher, sys.executable, "-c", PROGRAM.format(body=body)],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return int((folder / "watched").read_text())


def test_a_stage_that_no_dvc_has_started_is_not_watched(tmp_path):
    assert watchers(tmp_path, variables={}) == 0


def test_a_stage_that_dvc_has_started_is_watched(tmp_path):
    assert watchers(tmp_path, variables={"DVC_STAGE": "train"}) == 1  # we are the DVC


def test_a_stage_that_is_started_elsewhere_than_below_dvc_is_not_watched(tmp_path):
    """As by srun, systemd-run and docker exec: it cannot see whether its DVC is there."""
    detached = ["setsid", "--fork", "sh", "-c", '"$@"; exit $?', "sh"]
    assert watchers(tmp_path, *detached, variables={"DVC_STAGE": "train"}) == 0


def test_a_dvc_whose_environment_cannot_be_read_is_not_taken_for_gone(monkeypatch):
    def refused(self):
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "environ", refused)
    assert starter.starter("train") is None and not starter.orphaned("train")


def test_dvc_may_run_a_stage_in_its_own_process(monkeypatch):
    monkeypatch.setattr(psutil.Process, "parents", lambda self: [])
    assert starter.starter("train") == psutil.Process()


DVC_THAT_ENDS = DVC.replace("subprocess.run", "subprocess.Popen")


def test_a_stage_whose_dvc_was_gone_before_it_could_look_ends(tmp_path):
    """DVC starts it and ends; the stage looks only when that is over."""
    (tmp_path / "params.yaml").write_text("x: 1\n")
    program = "import sys; sys.stdin.readline()\n" + PROGRAM.format(body="    time.sleep(60)")
    with (tmp_path / "errors").open("w") as errors:
        dvc = subprocess.Popen(
            [sys.executable, "-c", DVC_THAT_ENDS, "env", sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        assert dvc.stdin and dvc.stdout
        dvc.wait()
        dvc.stdin.close()
        assert dvc.stdout.read() == b""  # until the stage, which has it too, has ended
    assert (
        tmp_path / "errors"
    ).read_text() == "stopped because DVC has ended (after a killed `dvc exp run`: make rescue)\n"


def test_ctrl_c_while_a_stage_imports_what_it_needs(tmp_path):
    package = tmp_path / "stages"
    package.mkdir()
    shutil.copy(ROOT / "stages/__init__.py", package)
    (package / "slow.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.slow"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (-signal.SIGINT, "", "")
