"""What ranks tell each other: each cell goes to one of them, and what is sent arrives as it was, or damage is told."""

import time
from datetime import timedelta
from threading import Thread
from types import SimpleNamespace

import pytest
from torch.distributed import PrefixStore, TCPStore

from utils.command import ranks, session
from utils.command.session import CHUNK, Deal, GivenUp, Leader, Member, RankLost
from utils.command.world import World


@pytest.fixture
def store(monkeypatch):
    """As torchrun hosts it; time passes ten times as fast as in earnest."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=10))
    for name, value in {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "RANK": "0",
        "WORLD_SIZE": "2",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("BEAT_SECONDS", "LOST_SECONDS", "STARTING_SECONDS", "GATHERING_SECONDS", "LEAVING_SECONDS"):
        monkeypatch.setattr(session, name, getattr(session, name) / 10)
    monkeypatch.setattr(session, "GIVEN_UP_SECONDS", 1.0)
    return store


def world(rank: int, size: int = 2) -> World:
    return World(rank, size, rank, size)


def cells(count: int, resumed: int | None = None) -> list:
    """Cells without a checkpoint, but for one."""
    epochs = [3 if k == resumed else 0 for k in range(count)]
    return [SimpleNamespace(stem=k, checkpoints=SimpleNamespace(epoch=lambda e=e: e, differences=dict)) for k, e in
            enumerate(epochs)]  # fmt: skip


def test_every_cell_goes_to_one_of_eight_ranks(store):
    taken: dict[int, list[int]] = {rank: [] for rank in range(8)}

    def work(rank: int) -> None:
        own = TCPStore("127.0.0.1", store.port, is_master=False, timeout=timedelta(seconds=10))
        deal = Deal(PrefixStore("x", own), rank, cells(100), ranks=8)
        for job in deal.cells(places=1):
            if job is None and deal.store.add("dealt", 0) >= 100:
                deal.end()
            elif job:
                taken[rank].append(job.stem)
                time.sleep(0.001)

    threads = [Thread(target=work, args=(rank,)) for rank in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sum(taken.values(), [])) == list(range(100))
    assert sum(map(bool, taken.values())) > 1 and all(own == sorted(own) for own in taken.values())


def test_who_has_a_cells_checkpoint_goes_on_with_it_and_leaves_the_order_to_others(store):
    """A rank that is started again, with a checkpoint of the last cell in its own folder."""
    first, second = (Deal(PrefixStore("x", store), rank, cells(4, resumed), 2) for rank, resumed in ((0, None), (1, 3)))
    ours, theirs = first.cells(1), second.cells(1)
    assert next(ours) is None  # the other hasn't looked yet
    assert [next(theirs).stem, next(ours).stem, next(ours).stem, next(theirs).stem] == [3, 0, 1, 2]
    assert next(ours) is None and next(theirs) is None
    first.end()
    assert list(ours) == list(theirs) == []


def test_cells_of_a_rank_that_is_gone_go_to_others(store):
    """One that it held, and one that it was about to take."""
    deal, gone = (Deal(PrefixStore("x", store), member, cells(3), 1) for member in (0, 7))
    assert next(gone.cells(1)).stem == 0
    gone.store.add("dealt", 1)  # and died
    ours = deal.cells(1)
    assert next(ours).stem == 2 and next(ours) is None
    deal.give_up([0, 1, 2], gone=set())
    assert next(ours).stem == 1 and next(ours) is None
    deal.give_up([0, 2], gone={7})
    assert next(ours).stem == 0 and next(ours) is None


def test_letters_arrive_in_order_and_damage_is_told(store):
    """A byte of a letter in several parts is another than was sent."""
    large = bytes(range(256)) * (3 * CHUNK // 256) + b"end"
    with Leader(world(0)) as leader, Member(world(1)) as member:
        member.send({"n": 1})
        member.send({"n": 2}, large)
        member.send({"n": 3}, large)
        key = f"letter/{member.number}/2/1"
        member.store.set(key, b"\xff" + member.store.get(key)[1:])
        assert list(leader.letters()) == [({"n": 1}, b""), ({"n": 2}, large), ({"n": 3}, None)]
        assert list(leader.letters()) == [] and not leader.store.check([key])


def test_a_member_joins_the_session_that_is_alive_and_leaves_when_that_ends(store):
    """The session of before a restart is still posted when the member begins."""
    dead = Leader(world(0))
    dead._beats.stop()
    joined: list[Member] = []
    thread = Thread(target=lambda: joined.append(Member(world(1))))
    thread.start()
    time.sleep(0.5)
    assert joined == []
    leader = Leader(world(0))
    thread.join(10)
    (member,) = joined
    assert leader.restarted and not dead.restarted and leader.store.add("members", 0) == 1
    store_of_list = leader.post({"cells": [1]}, cells(1)).store
    orders, theirs = member.orders(0)
    theirs.set("word", "heard")
    assert orders == {"cells": [1]} and store_of_list.get("word") == b"heard"
    leader.store.set("over", "")
    assert member.orders(1) is None
    for one in (leader, member):
        one._beats.stop()


def test_a_member_that_begins_after_all_is_done_leaves_at_once(store):
    """Such as one of a slow machine, when all had finished before."""
    with Leader(world(0)) as leader:
        pass
    assert not leader._beats._thread.is_alive()
    with Member(world(1)) as member:
        assert member.orders(0) is None
        time.sleep(session.LOST_SECONDS + 0.2)
        assert member.check() == ()


def test_a_rank_that_was_given_up_is_no_failure(monkeypatch, capsys):
    """torchrun would end the others, who train what it had."""

    def given_up(world: World) -> None:
        raise GivenUp("rank 0 does without it")

    monkeypatch.setattr(ranks, "Member", given_up)
    plan = SimpleNamespace(use=None, redraws=None, time_only=False, world=world(1), execution=SimpleNamespace())
    plan.execution.prepare_process = lambda: None
    assert ranks.follow(plan) == 0 and capsys.readouterr().err == f"warning: {world(1).name}: rank 0 does without it\n"


def test_of_very_many_ranks_each_looks_more_seldom():
    assert session.pause(0.5, 100) == 0.5 and session.pause(0.5, 1000) == 4


def test_either_side_notices_that_the_other_is_gone(store):
    """Rank 0 is silent, has ended with an error, or has given the member up; a member is silent."""
    leader, member = Leader(world(0)), None
    member = Member(world(1))
    assert member.check() == () and leader.newly_gone() == []
    member._beats.stop()
    time.sleep(0.2)
    assert leader.newly_gone() == []
    time.sleep(1.2)
    assert leader.newly_gone() == [world(1).name] and leader.newly_gone() == []
    with pytest.raises(RankLost, match="does without it"):
        member.check()
    another = Member(world(1))
    assert another.check() == ()
    leader._beats.stop()
    another.check()
    time.sleep(session.LOST_SECONDS + 0.2)
    with pytest.raises(RankLost, match=r"^rank 0 is gone, nothing was heard of it for 2 seconds"):
        another.check()
    with pytest.raises(KeyError), Leader(world(0)) as failing:
        third = Member(world(1))
        raise KeyError
    with pytest.raises(RankLost, match="rank 0 was ended by an error"):
        third.check()
    assert not failing._beats._thread.is_alive()
    for one in (another, third):
        one._beats.stop()
