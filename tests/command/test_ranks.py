"""torchrun: its ranks train the cells of one command, and whatever happens to one, nothing is lost or trained twice."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from many_script import (
    ended,
    no_orphans,
    published,
    start_rank,
    start_ranks,
    times_trained,
    wait_for,
)
from torch.distributed import TCPStore

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL"),
    pytest.mark.usefixtures("cleared"),
]


def test_two_ranks_train_six_cells_once_each_and_equal_to_one_process(tmp_path, alone):
    code, out, err = ended(start_ranks(tmp_path, 2, "--num-seeds", "3", "--models", "A", "B"))
    assert code == 0 and published(tmp_path) == alone
    assert times_trained(err) == dict.fromkeys(alone, 1)
    assert out.count("In short:") == 1 and "cpu-fp32, 2 at a time on 2 ranks, 1 thread each" in out


@pytest.mark.slow
def test_a_killed_rank_starts_again_and_its_cell_goes_on_from_its_checkpoint(tmp_path, alone):
    """SIGKILL to a rank in the middle of its second cell, with --max-restarts; every bit as if nothing had happened."""
    agent = ("--standalone", "--max-restarts", "1")
    code, out, err = ended(start_ranks(tmp_path, 2, "--num-seeds", "3", agent=agent, KILLS="B-seed2"))
    assert code == 0 and (tmp_path / "killed").exists() and published(tmp_path) == alone
    assert re.search(r"[1-9] finished before", out) and "B-seed2 after epoch 2" in out


@pytest.mark.slow
def test_a_model_that_fails_fails_its_own_cells_and_the_command(tmp_path, alone):
    """A model raises in every cell: the others go on, the closing table says which, and the exit code is 1."""
    code, out, _ = ended(start_ranks(tmp_path, 2, "--num-seeds", "2", RAISES="B"))
    assert code == 1 and published(tmp_path) == {stem: alone[stem] for stem in ("A-seed0", "A-seed1")}
    for seed in range(2):
        assert f"B-seed{seed}                          failed: RuntimeError: a fault of this model" in out


@pytest.mark.slow
def test_two_agents_with_folders_of_their_own(tmp_path, alone):
    """Two machines without a common file system: records reach rank 0, weights stay where they were trained."""
    agent = ("--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}")
    folders = [tmp_path / name for name in ("first", "second")]
    agents = [start_ranks(folder, 1, "--num-seeds", "3", agent=agent, OMP_NUM_THREADS="1") for folder in folders]
    assert [ended(process)[0] for process in agents] == [0, 0]
    (leader,) = (folder for folder in folders if (folder / "out").exists())
    assert published(leader) == alone
    trained = [{path.parent for path in folder.rglob("final.safetensors")} for folder in folders]
    assert all(trained) and sum(map(len, trained)) == 6
    assert not (folders[1 - folders.index(leader)] / "out").exists()


@pytest.mark.slow
def test_two_agents_start_again_and_go_on_where_their_own_folders_end(tmp_path, alone):
    """SIGKILL to a rank of one of two agents, which start theirs again; finished before are cells of both."""
    agent = ("--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}")
    folders, restarts = [tmp_path / name for name in ("first", "second")], {"OMP_NUM_THREADS": "1", "KILLS": "B-seed2"}
    agents = [
        start_ranks(folder, 1, "--num-seeds", "3", agent=(*agent, "--max-restarts", "2"), **restarts)
        for folder in folders
    ]
    told = [ended(process, 300) for process in agents]
    assert [code for code, _, _ in told] == [0, 0] and any((folder / "killed").exists() for folder in folders)
    (leader,) = (folder for folder in folders if (folder / "out").exists())
    assert published(leader) == alone and "finished before" in told[folders.index(leader)][1]
    trained = [path.parent.relative_to(folder) for folder in folders for path in folder.rglob("final.safetensors")]
    assert len(trained) == len(set(trained)) == 6


@pytest.mark.slow
def test_more_ranks_than_cells_and_than_cores(tmp_path, alone):
    """Four ranks, two cores, one cell."""
    code, _, err = ended(start_ranks(tmp_path, 4, "--models", "A"))
    assert code == 0 and published(tmp_path) == {"A-seed0": alone["A-seed0"]} and times_trained(err) == {"A-seed0": 1}


@pytest.fixture
def store():
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))


@pytest.mark.slow
def test_without_rank_0_every_other_leaves_with_one_message(tmp_path, store):
    """SIGKILL to rank 0, and no torchrun that ends the others."""
    ranks = [start_rank(tmp_path, rank, 2, store.port, "--num-seeds", "3", SLOWLY="3") for rank in range(2)]
    wait_for(lambda: len(list(tmp_path.rglob("epoch1.json"))) == 2)
    ranks[0].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    code, out, err = ended(ranks[1])
    assert code == 1 and time.monotonic() - killed < 30 and out == ""
    assert re.fullmatch(r"error: rank 1 on \S+: rank 0 is gone, [^:\n]+\. Checkpoints are kept\n", err)
    assert ended(ranks[0])[0] == -signal.SIGKILL and no_orphans(tmp_path) and list(tmp_path.rglob("epoch*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_without_the_store_all_leave_with_one_message(tmp_path, how):
    """The process that hosts the store dies, or doesn't answer any more, as on a machine that has lost its power."""
    host = subprocess.Popen([*STORE_HOST, "600"], stdout=subprocess.PIPE, text=True)
    port = int(host.stdout.readline())
    ranks = [start_rank(tmp_path, rank, 2, port, "--num-seeds", "3", "--quiet", SLOWLY="3") for rank in range(2)]
    wait_for(lambda: len(list(tmp_path.rglob("epoch1.json"))) == 2)
    host.send_signal(how)
    lost = time.monotonic()
    for process in ranks:
        code, _, err = ended(process)
        assert code == 1 and err.count("store of torchrun") == 1 and "Traceback" not in err and "frame" not in err
    assert time.monotonic() - lost < 30 and no_orphans(tmp_path)
    host.kill()
    host.communicate()


@pytest.mark.slow
def test_terminated_ranks_keep_their_checkpoints_and_the_next_job_goes_on(tmp_path, store, alone):
    """SIGTERM to all, as at a job's time limit: exit code 143, and then the same command again."""
    ranks = [start_rank(tmp_path, rank, 2, store.port, "--num-seeds", "3", SLOWLY="3") for rank in range(2)]
    wait_for(lambda: len(list(tmp_path.rglob("epoch1.json"))) == 2)
    for process in ranks:
        process.send_signal(signal.SIGTERM)
    assert [ended(process)[0] for process in ranks] == [143, 143] and no_orphans(tmp_path)
    again = [start_rank(tmp_path, rank, 2, store.port, "--num-seeds", "3") for rank in range(2)]
    out = [ended(process) for process in again]
    assert [code for code, _, _ in out] == [0, 0] and "Resuming: " in out[0][1]
    assert published(tmp_path) == alone


@pytest.mark.slow
def test_a_rank_with_other_options_leaves_with_a_sentence(tmp_path, store):
    """Another recipe, and a model that rank 0 doesn't know of."""
    ranks = [
        start_rank(tmp_path, 0, 2, store.port, "--num-seeds", "3", SLOWLY="3"),
        start_rank(tmp_path, 1, 2, store.port, "--num-seeds", "3", "--batch-size", "32"),
    ]
    code, _, err = ended(ranks[1])
    told = r"error: rank 1 on \S+: [AB] has another code .* \(config_hash \w+, not \w+\)\n"
    assert code == 2 and re.search(told, err)
    ranks[0].send_signal(signal.SIGTERM)
    ended(ranks[0])


STORE_HOST = [
    sys.executable,
    "-c",
    "import sys, time; from torch.distributed import TCPStore\n"
    "store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)\n"
    "print(store.port, flush=True); time.sleep(float(sys.argv[1]))",
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
