"""Whatever a person and moderator do in whatever order, everything the person wrote is found."""

from __future__ import annotations

import shutil

import pytest

import attacks

storm_ledger = attacks.load("storm_ledger")


@pytest.mark.timeout(300)
def test_nothing_is_lost_in_any_order() -> None:
    """In a few orders of a few steps every content is in a tree, in the trash, or reachable from a ref."""
    row = storm_ledger.ledger(storm_ledger.Options(seed=7, share=0.5), examples=6)
    assert (row.losses, row.failures) == ([], [])


class Careless(storm_ledger.LedgerMachine):
    """The same machine around a moderator that deletes every workspace, whatever it is asked."""

    def ours(self, action: object, *arguments: object, **named: object) -> object:
        answer = super().ours(action, *arguments, **named)
        if self.ledger.written:
            shutil.rmtree(self.trees, ignore_errors=True)
            shutil.rmtree(self.repository / ".git/worktrees", ignore_errors=True)
        return answer


@pytest.mark.timeout(300)
def test_the_machine_notices_a_loss() -> None:
    """What is deleted behind the machine's back is missed."""
    row = storm_ledger.ledger(storm_ledger.Options(seed=7, share=0.5), examples=10, machine=Careless)
    assert (len(row.losses), row.failures) == (1, [])
    assert "written as number 1 " in row.losses[0]


def test_a_head_without_a_tree_keeps_its_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits on a detached HEAD outlive the tree, deleted by hand, and `gc`, also once no log names them any more."""
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2020-01-01T00:00:00Z")
    machine = storm_ledger.LedgerMachine()
    try:
        machine.begin()
        for step in (machine.detach_and_commit, machine.delete_by_hand):
            step("t0")
        for _ in range(2):
            machine.collect_garbage()
            machine.everything_is_found()
            machine.clean("t0", rescue=True)
        assert not list((machine.repository / ".git").glob("worktrees/*"))
    finally:
        machine.teardown()


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_nothing_is_lost_in_hundreds_of_orders() -> None:
    """The long form, in which a failing order is shrunk."""
    row = storm_ledger.ledger(storm_ledger.Options(seed=11))
    assert (row.losses, row.failures) == ([], [])
