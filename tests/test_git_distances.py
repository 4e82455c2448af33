"""How far many tips are ahead and behind: as `rev-list --count` says it of each, in a handful of processes."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderator.errors import GitFailed
from moderator.git.distances import Between, distances
from moderator.git.repository import Repository
from repos import git, git_processes, make_repository

_numbers = itertools.count()


def counted(repository: Path, one: Between) -> tuple[int, int]:
    """The same as git says it, a process for each."""
    ahead = git(repository, "rev-list", "--count", f"{one.base}..{one.tip}")
    behind = git(repository, "rev-list", "--count", f"{one.tip}..{one.base_tip}") if one.base_tip != one.base else "0"
    return int(ahead), int(behind)


def commit(repository: Path, *parents: str) -> str:
    tree = git(repository, "rev-parse", "main^{tree}")
    number = next(_numbers)
    return git(
        repository, "commit-tree", tree, "-m", f"commit {number}", *(word for one in parents for word in ("-p", one))
    )


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_they_are_as_git_counts_them(tmp_path: Path, data: st.DataObject) -> None:
    """In every history, merges, several roots and tips that were put elsewhere included."""
    repository = tmp_path / "sample"
    if not repository.exists():
        make_repository(repository)
    commits = [git(repository, "rev-parse", "main")]
    for number in range(data.draw(st.integers(0, 8))):
        parents = data.draw(st.lists(st.sampled_from(commits), min_size=number % 7 > 0, max_size=2, unique=True))
        commits.append(commit(repository, *parents))
        git(repository, "update-ref", f"refs/heads/c{number}", commits[-1])
    some = st.sampled_from(commits)
    asked = data.draw(st.lists(st.builds(Between, some, some, some), max_size=6))
    expected = {one: counted(repository, one) for one in asked}
    assert distances(Repository.open(repository), asked) == expected


@pytest.fixture
def moved(tmp_path: Path) -> tuple[Path, list[Between]]:
    """A repository whose base branch went on, and sixty tips forked from different commits of it, one of them rewritten."""
    repository = make_repository(tmp_path / "sample", [(f"main {n}", {"list": f"{n}\n"}) for n in range(20)])
    base_tip, *_ = main = git(repository, "rev-list", "main").split()
    tips = [Between(commit(repository, main[n % 15 + 1]), main[n % 15 + 1], base_tip) for n in range(59)]
    return repository, [*tips, Between(commit(repository), main[3], base_tip)]


def test_the_number_of_processes_does_not_grow(moved: tuple[Path, list[Between]], tmp_path: Path) -> None:
    """None for tips where they were forked, two for all that descend from one commit; a rewritten one is asked for alone."""
    repository, asked = moved
    opened = Repository.open(repository)
    idle = [Between(one.base, one.base, one.base) for one in asked]
    two, most = ["merge-base", "rev-list"], asked[:59]
    for number, (some, expected) in enumerate(
        ((idle, []), (asked[:2], two), (most, two), (asked, [*two, *two[1:] * 2]))
    ):
        with git_processes(tmp_path / f"trace{number}") as commands:
            found = distances(opened, some)
        assert (found, commands) == ({one: counted(repository, one) for one in some}, expected)


def test_branches_without_a_common_commit_are_counted_apart(tmp_path: Path) -> None:
    """Two processes for each of them, and one that finds out."""
    repository = make_repository(tmp_path / "sample")
    asked = []
    for fork in (git(repository, "rev-parse", "main"), commit(repository)):
        base_tip = commit(repository, fork)
        asked += [Between(commit(repository, fork), fork, base_tip) for _ in range(3)]
    opened = Repository.open(repository)
    with git_processes(tmp_path / "trace") as commands:
        found = distances(opened, asked)
    assert (set(found.values()), commands) == ({(1, 1)}, ["merge-base"] * 3 + ["rev-list"] * 2)


def test_a_stretch_that_is_too_long_is_not_read(moved: tuple[Path, list[Between]]) -> None:
    """Then git counts each pair of commits on its own, and the answer is the same."""
    repository, asked = moved
    opened = Repository.open(repository)
    assert distances(opened, asked, longest=5) == distances(opened, asked)


def test_a_commit_that_is_gone_is_told(moved: tuple[Path, list[Between]]) -> None:
    """By git, in its own words, and no number is made up."""
    repository, asked = moved
    with pytest.raises(GitFailed, match="rev-list"):
        distances(Repository.open(repository), [*asked, Between(asked[0].tip, "1" * 40, asked[0].base_tip)])
