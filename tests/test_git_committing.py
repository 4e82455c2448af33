"""Work becomes a commit where its level says, whatever the user's settings, and never in part."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commandline import alive
from moderator.errors import CannotCommit, ModeratorError
from moderator.git.committing import CommitStyle
from moderator.git.manager import GitManager
from moderator.git.values import Commit, Workspace
from repos import git, make_repository
from workspaces import BRANCH, DIRECTORY, FULL, NONE, context, files, listing

COMMITS = [("first", {"a.txt": "a\n", "b.txt": "b\n", "dir/c.txt": "c\n", ".gitignore": "*.log\n"})]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "repo", COMMITS)


@pytest.fixture
def workspace(tmp_path: Path, repo: Path) -> Workspace:
    return GitManager(repo).create_workspace(context(tmp_path, "t"))


def names(repo: Path, revision: str) -> list[str]:
    return git(repo, "ls-tree", "-r", "-z", "--name-only", revision).rstrip("\0").split("\0")


def test_everything_is_committed(repo: Path, workspace: Workspace) -> None:
    """New, changed, deleted, staged and moved files in any bytes, modes and links; ignored ones are not."""
    tree = Path(workspace.path)
    (tree / "a.txt").write_text("changed\n")
    (tree / "b.txt").unlink()
    (tree / "dir/c.txt").rename(tree / "moved")
    odd = [
        os.fsdecode(name)
        for name in (b"\xff\xfe", b"line\nbreak", b'"quoted"\t', b" space ", b"-x", b":(top)", b"*", "é".encode())
    ]
    for name in odd:
        (tree / name).write_text(name.encode("utf-8", "surrogateescape").hex())
    (tree / "run").touch(0o755)
    (tree / "link").symlink_to("nowhere")
    (tree / "staged").write_text("staged\n")
    git(tree, "add", "staged")
    (tree / "staged").write_text("newer\n")
    (tree / "x.log").write_text("ignored")
    tip = git(repo, "rev-parse", "main")
    commit = GitManager(repo).commit(workspace, "Do it\n\nThoroughly.", {"Moderator-Task": "t", "Moderator-Run": "r 1"})
    text = "Do it\n\nThoroughly.\n\nModerator-Task: t\nModerator-Run: r 1\n"
    assert commit == Commit(
        git(repo, "rev-parse", "main-task-t"),
        "Do it",
        text,
        "Ada Lovelace <ada@example.com>",
        1.7e9,
        {"Moderator-Task": "t", "Moderator-Run": "r 1"},
        (tip,),
    )
    assert git(repo, "cat-file", "commit", "main-task-t").partition("\n\n")[2] + "\n" == text
    assert git(tree, "status", "--porcelain") == ""
    git(tree, "clean", "-fdxq")
    assert sorted(files(tree)) == sorted(names(repo, "main-task-t"))
    assert git(repo, "ls-tree", "--format=%(objectmode) %(path)", "main-task-t", "run", "link").split("\n") == [
        "120000 link",
        "100755 run",
    ]
    assert git(repo, "cat-file", "blob", "main-task-t:staged") == "newer"
    assert GitManager(repo).commit(workspace, "again") is None
    assert git(repo, "fsck", "--strict", "--no-dangling") == ""


@pytest.mark.parametrize(
    "message",
    [
        "Subject",
        "Subject\n\nBody",
        "Subject: x",
        "Subject\n\nFixes: 1",
        "Subject\n\nBody\n\nFixes: 1\n\n",
        "",
        "\n \n",
        "a\0b",
        "# hash",
    ],
)
def test_trailers_are_what_git_takes_for_trailers(repo: Path, workspace: Workspace, message: str) -> None:
    """Whatever the message, git's own parser finds the trailers, each on one line, and there is a subject."""
    (Path(workspace.path) / "new").touch()
    given = {"Moderator-Task": "t", "Moderator-Run": "over\ntwo\n\nlines", "Moderator-Attempt": "1"}
    commit = GitManager(repo).commit(workspace, message, given)
    assert commit is not None
    parsed = git(repo, "interpret-trailers", "--parse", "--no-divider", stdin=commit.message).split("\n")
    expected = ["Moderator-Task: t", "Moderator-Run: over two lines", "Moderator-Attempt: 1"]
    assert parsed == (["Fixes: 1"] if "Fixes" in message else []) + expected
    assert commit.subject.strip() != ""
    assert [f"{name}: {value}" for name, value in commit.trailers.items()] == parsed


def test_nothing_is_nothing(repo: Path, workspace: Workspace) -> None:
    """No change, a touched file, an undone change and an ignored file make no commit."""
    manager, tree = GitManager(repo), Path(workspace.path)
    before = git(repo, "for-each-ref")
    assert manager.commit(workspace, "m") is None
    os.utime(tree / "a.txt", (1, 1))
    (tree / "x.log").write_text("ignored")
    assert manager.commit(workspace, "m") is None
    (tree / "a.txt").write_text("changed\n")
    git(tree, "add", "a.txt")
    (tree / "a.txt").write_text("a\n")
    assert (manager.commit(workspace, "m"), git(repo, "for-each-ref")) == (None, before)


def hostile(repo: Path, folder: Path) -> None:
    """Everything in a user's configuration that has kept a commit from being made."""
    hooks = folder / "hooks"
    hooks.mkdir()
    for name in (
        "pre-commit",
        "commit-msg",
        "post-commit",
        "reference-transaction",
        "post-index-change",
        "post-checkout",
    ):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {folder}/ran-{name}\nexit 1\n")
        (hooks / name).chmod(0o755)
    for name, value in {
        "core.hooksPath": str(hooks),
        "commit.gpgSign": "true",
        "gpg.program": "false",
        "user.signingKey": "none",
        "commit.template": "/nowhere",
        "commit.cleanup": "strip",
        "core.autocrlf": "true",
        "core.safecrlf": "true",
        "core.editor": "false",
        "core.commentChar": "S",
        "status.showUntrackedFiles": "no",
        "core.fsmonitor": "/bin/false",
        "core.quotePath": "true",
        "color.ui": "always",
        "diff.external": "false",
        "log.showSignature": "true",
        "i18n.commitEncoding": "latin1",
        "gc.auto": "1",
        "submodule.recurse": "true",
        "push.default": "nothing",
        "core.logAllRefUpdates": "false",
        "trailer.ifexists": "doNothing",
        "core.splitIndex": "true",
        "alias.add": "!false",
    }.items():
        git(repo, "config", "--global", name, value)


@pytest.mark.parametrize("level", [FULL, DIRECTORY, BRANCH])
def test_no_setting_of_the_users_keeps_work_from_being_committed(tmp_path: Path, repo: Path, level: object) -> None:
    """Hooks, signing, line ends, colours, templates: the commit is made, nobody's hook ran, the message is ours."""
    hostile(repo, tmp_path)
    manager = GitManager(repo)
    with manager.create_workspace(
        context(tmp_path, "t", level, checkout=repo if level is BRANCH else None)
    ) as workspace:
        (Path(workspace.path) / "new").write_text("é\n")
        commit = manager.commit(workspace, "Subject é", {"Moderator-Task": "t"})
        assert commit is not None and commit.message == "Subject é\n\nModerator-Task: t\n"
        assert manager.log("t") == [commit]
        assert (names(repo, commit.id), manager.status("t").counts.dirty if level is not BRANCH else 0) == (
            sorted([*files(repo), "new"]),
            0,
        )
    manager.remove_workspace("t")
    assert [path.name for path in tmp_path.glob("ran-*")] == []


def test_a_commit_needs_no_identity(tmp_path: Path, repo: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where git knows no name and may not guess one, commits are moderator's; half of one is completed."""
    (home / ".gitconfig").write_text("[user]\n    useConfigOnly = true\n")
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        (Path(workspace.path) / "new").touch()
        commit = manager.commit(workspace, "work")
        assert commit is not None and commit.author == "moderator <moderator@localhost>"
    (home / ".gitconfig").write_text("[user]\n    useConfigOnly = true\n    name = Grace\n")
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "u")) as workspace:
        (Path(workspace.path) / "new").touch()
        commit = manager.commit(workspace, "work")
        assert commit is not None and commit.author == "Grace <moderator@localhost>"


def test_a_hook_that_leaves_a_process_behind_keeps_nobody_waiting(tmp_path: Path, repo: Path) -> None:
    """A commit ends when git has ended, although a process that a hook started still holds what it was given to print to."""
    (repo / ".git/hooks").mkdir(exist_ok=True)
    hook = repo / ".git/hooks/post-commit"
    hook.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/pid\n")
    hook.chmod(0o755)
    manager = GitManager(repo, CommitStyle(hooks=True))
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        (Path(workspace.path) / "new").write_text("new\n")
        assert manager.commit(workspace, "work") is not None
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 0)  # it is still there
    os.kill(pid, 9)


@pytest.mark.parametrize("passes", [True, False])
def test_hooks_run_when_they_are_asked_for(tmp_path: Path, repo: Path, passes: bool) -> None:
    """With hooks configured on, a pre-commit hook runs and its refusal is an error that leaves all files as they are."""
    (repo / ".git/hooks").mkdir(exist_ok=True)
    hook = repo / ".git/hooks/pre-commit"
    hook.write_text(f"#!/bin/sh\necho too long >&2\nexit {0 if passes else 1}\n")
    hook.chmod(0o755)
    manager = GitManager(repo, CommitStyle(hooks=True))
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        (Path(workspace.path) / "new").write_text("new\n")
        if passes:
            commit = manager.commit(workspace, "# work", {"Moderator-Task": "t"})
            assert commit is not None and commit.message == "# work\n\nModerator-Task: t\n"
        else:
            before = files(workspace.path)
            with pytest.raises(CannotCommit, match="a hook of the repository refused") as caught:
                manager.commit(workspace, "work")
            assert "too long" in caught.value.cause
            assert (files(workspace.path), git(repo, "log", "--format=%s", "main-task-t")) == (before, "first")


@pytest.mark.parametrize(("hook", "limit"), [("pre-commit", "time"), ("pre-commit", "stop"), ("post-commit", "stop")])
def test_a_hook_that_does_not_end_is_ended(tmp_path: Path, repo: Path, hook: str, limit: str) -> None:
    """When its time is over or nobody waits any longer; before the commit everything stays, after it the work is kept."""
    (repo / ".git/hooks").mkdir(exist_ok=True)
    began = tmp_path / "began"
    (repo / ".git/hooks" / hook).write_text(
        f"#!/bin/sh\necho $$ > {began}.new\nmv {began}.new {began}\nexec sleep 600\n"
    )
    (repo / ".git/hooks" / hook).chmod(0o755)
    style = CommitStyle(hooks=True, **{"patience": 0.5} if limit == "time" else {"stopped": began.exists})  # type: ignore[arg-type]
    manager = GitManager(repo, style)
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        (Path(workspace.path) / "new").write_text("new\n")
        if hook == "post-commit":
            assert manager.commit(workspace, "work") is not None
        else:
            with pytest.raises(CannotCommit, match="a hook of the repository had not ended yet") as caught:
                manager.commit(workspace, "work")
            said = {"time": "within 0.5 seconds", "stop": "nobody waits for it any longer"}
            assert caught.value.cause.endswith(said[limit])
            assert git(workspace.path, "status", "--porcelain") == "A  new"
    assert not began.exists() or not alive(int(began.read_text()))


def test_hooks_that_are_files_of_the_tree_are_the_main_checkouts(tmp_path: Path, repo: Path) -> None:
    """What a task made of them in its workspace is committed as any other change, and not executed."""
    for name, what in {"pre-commit": "true", "commit-msg": "echo kept >> $1"}.items():
        (repo / "hooks").mkdir(exist_ok=True)
        (repo / "hooks" / name).write_text(f"#!/bin/sh\n{what}\n")
        (repo / "hooks" / name).chmod(0o755)
    git(repo, "config", "core.hooksPath", "hooks")
    git(repo, "add", "hooks")
    git(repo, "commit", "--quiet", "--no-verify", "-m", "hooks")
    manager = GitManager(repo, CommitStyle(hooks=True))
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        (Path(workspace.path) / "hooks/pre-commit").write_text(f"#!/bin/sh\ntouch {tmp_path}/escaped\n")
        commit = manager.commit(workspace, "work")
    assert commit is not None and commit.message == "work\nkept\n"
    assert [change.path for change in manager.diff("t")] == ["hooks/pre-commit"]
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("bare", [False, True])
def test_a_task_cannot_name_hooks_of_its_own(tmp_path: Path, bare: bool) -> None:
    """Those of a bare repository are beside its objects; neither a relative path nor a setting of the worktree leads elsewhere."""
    repo = make_repository(tmp_path / "repo", COMMITS, bare=bare)
    git(repo, "config", "core.hooksPath", "own")
    git(repo, "config", "extensions.worktreeConfig", "true")
    (repo / "own").mkdir()
    (repo / "own/commit-msg").write_text("#!/bin/sh\necho kept >> $1\n")
    (repo / "own/commit-msg").chmod(0o755)
    manager = GitManager(repo, CommitStyle(hooks=True))
    with manager.create_workspace(context(tmp_path, "t")) as workspace:
        tree = Path(workspace.path)
        git(tree, "config", "--worktree", "core.hooksPath", str(tree / "own"))
        (tree / "own").mkdir()
        for name in ("pre-commit", "commit-msg", "post-commit", "post-index-change", "reference-transaction"):
            (tree / "own" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/escaped\n")
            (tree / "own" / name).chmod(0o755)
        commit = manager.commit(workspace, "work")
    assert commit is not None and commit.message == "work\nkept\n"
    assert not (tmp_path / "escaped").exists()


def merging(tree: Path) -> None:
    git(tree, "branch", "side", git(tree, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "side"))
    git(tree, "merge", "--quiet", "--no-commit", "--no-ff", "side")


def conflict_without_merge(tree: Path) -> None:
    (tree / "a.txt").write_text("1\n")
    git(tree, "stash", "--quiet")
    (tree / "a.txt").write_text("2\n")
    git(tree, "commit", "--quiet", "-a", "-m", "two")
    subprocess.run(["git", "stash", "pop"], cwd=tree, capture_output=True)


def another_branch(tree: Path) -> None:
    git(tree, "switch", "--quiet", "-c", "another")


def detached(tree: Path) -> None:
    git(tree, "switch", "--quiet", "--detach")


def nested(tree: Path) -> None:
    make_repository(tree / "deep/nested")


def nested_empty(tree: Path) -> None:
    make_repository(tree / "nested", [])


def became_repository(tree: Path) -> None:
    (tree / "a.txt").unlink()
    make_repository(tree / "a.txt")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (merging, "left a merge unfinished"),
        (conflict_without_merge, "left a conflict unfinished"),
        (another_branch, "is on 'another', not on 'main-task-t'"),
        (detached, "is on 'no branch', not on 'main-task-t'"),
        (nested, "left a repository of its own at 'deep/nested/'"),
        (nested_empty, "left a repository of its own at 'nested/'"),
        (became_repository, "left a repository of its own at 'a.txt'"),
    ],
)
def test_no_commit_is_made_of_an_odd_state(
    repo: Path, workspace: Workspace, spoil: Callable[[Path], None], words: str
) -> None:
    """What a commit would not hold, or would falsify, is refused with everything as it was."""
    spoil(Path(workspace.path))
    (Path(workspace.path) / "new").write_text("new\n")
    git(Path(workspace.path), "status")
    before = listing(Path(workspace.path), repo)
    with pytest.raises(CannotCommit, match=words) as caught:
        GitManager(repo).commit(workspace, "work")
    assert (caught.value.exit_code, bool(caught.value.hint)) == (3, True)
    assert listing(Path(workspace.path), repo) == before


def test_a_submodule_that_was_added_on_purpose_is_committed(tmp_path: Path, repo: Path, workspace: Workspace) -> None:
    """A gitlink that the task itself staged is work like any other."""
    library = make_repository(tmp_path / "library")
    git(Path(workspace.path), "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library, "library")
    assert GitManager(repo).commit(workspace, "work") is not None
    assert names(repo, "main-task-t") == [".gitignore", ".gitmodules", "a.txt", "b.txt", "dir/c.txt", "library"]


def test_a_commit_and_a_moved_branch(repo: Path, workspace: Workspace) -> None:
    """Commits that the task makes itself are kept, and ours comes on top of them."""
    tree = Path(workspace.path)
    (tree / "own").touch()
    git(tree, "add", "own")
    git(tree, "commit", "--quiet", "-m", "own")
    (tree / "rest").touch()
    GitManager(repo).commit(workspace, "rest")
    assert git(repo, "log", "--format=%s", "main-task-t") == "rest\nown\nfirst"


def test_level_directory_moves_no_branch(tmp_path: Path, repo: Path) -> None:
    """Its commits are at refs/moderator/result, one on top of the other, with a reflog, and every branch stays."""
    heads = git(repo, "for-each-ref", "refs/heads")
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t", DIRECTORY)) as workspace:
        assert workspace.branch is None
        for name in ("one", "two"):
            (Path(workspace.path) / name).touch()
            manager.commit(workspace, name)
    assert git(repo, "log", "--format=%s", "refs/moderator/result/t") == "two\none\nfirst"
    assert (git(repo, "for-each-ref", "refs/heads"), git(Path(workspace.path), "rev-parse", "HEAD")) == (
        heads,
        git(repo, "rev-parse", "refs/moderator/result/t"),
    )
    assert len(git(repo, "reflog", "refs/moderator/result/t").split("\n")) == 2


def test_level_none_commits_nothing(tmp_path: Path, repo: Path) -> None:
    """What a task did in the base checkout is left to the person, uncommitted."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t", NONE, checkout=repo)) as workspace:
        (repo / "new").touch()
        assert manager.commit(workspace, "work") is None
    assert git(repo, "status", "--porcelain") == "?? new"


def test_level_branch_puts_the_checkout_back(tmp_path: Path, repo: Path) -> None:
    """The work is on the task's branch; HEAD never moved; files, index and modes of the checkout are as before."""
    before, index = listing(repo), git(repo, "ls-files", "--stage")
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t", BRANCH, checkout=repo)) as workspace:
        (repo / "a.txt").write_text("changed\n")
        (repo / "b.txt").unlink()
        (repo / "dir/c.txt").rename(repo / "moved")
        (repo / "deep/er").mkdir(parents=True)
        (repo / "deep/er/new").write_text("new\n")
        (repo / os.fsdecode(b"*\xff")).write_text("odd\n")
        (repo / "staged").write_text("staged\n")
        git(repo, "add", "staged", "a.txt")
        (repo / "x.log").write_text("ignored stays")
        expected = {name: body for name, body in files(repo).items() if name != "x.log"}
        kept = manager.keep(workspace, "work")
        assert kept.commit is not None and kept.left == ()
    (repo / "x.log").unlink()
    after = listing(repo)
    assert {path for path in {*before, *after} if before.get(path) != after.get(path) and "/.git" not in path} == set()
    assert (git(repo, "ls-files", "--stage"), git(repo, "status", "--porcelain", "--branch")) == (index, "## main")
    git(repo, "worktree", "add", "--quiet", tmp_path / "look", "main-task-t")
    assert files(tmp_path / "look") == expected


def test_level_branch_adds_to_what_it_had_committed(tmp_path: Path, repo: Path) -> None:
    """A second commit holds the first one's work too, although the checkout was put back; a conflict is refused."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t", BRANCH, checkout=repo)) as workspace:
        (repo / "one").write_text("1\n")
        (repo / "a.txt").write_text("one\n")
        manager.commit(workspace, "one")
        (repo / "two").write_text("2\n")
        manager.commit(workspace, "two")
        assert names(repo, "main-task-t") == [".gitignore", "a.txt", "b.txt", "dir/c.txt", "one", "two"]
        assert git(repo, "cat-file", "blob", "main-task-t:a.txt") == "one"
        (repo / "a.txt").write_text("three\n")
        tip = git(repo, "rev-parse", "main-task-t")
        with pytest.raises(CannotCommit, match="conflicts with what it had committed"):
            manager.commit(workspace, "three")
        assert ((repo / "a.txt").read_text(), git(repo, "rev-parse", "main-task-t")) == ("three\n", tip)


def test_level_branch_works_in_the_checkout_it_was_made_in(
    tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a linked worktree, found again by id alone: that checkout is committed and put back, no other."""
    git(repo, "worktree", "add", "--quiet", "--detach", tmp_path / "linked")
    manager = GitManager(repo)
    manager.create_workspace(context(tmp_path, "t", BRANCH, checkout=tmp_path / "linked")).release()
    (tmp_path / "linked/new").write_text("new\n")
    (repo / "mine").write_text("mine\n")
    monkeypatch.chdir(repo)
    manager = GitManager(repo)
    manager.commit("t", "work")
    assert names(repo, "main-task-t") == [".gitignore", "a.txt", "b.txt", "dir/c.txt", "new"]
    assert ((repo / "mine").read_text(), (tmp_path / "linked/new").exists()) == ("mine\n", False)


def test_level_branch_refuses_a_checkout_that_moved(tmp_path: Path, repo: Path) -> None:
    """If HEAD of the checkout moved while the task ran, nothing is committed and nothing put back."""
    manager = GitManager(repo)
    with manager.create_workspace(context(tmp_path, "t", BRANCH, checkout=repo)) as workspace:
        git(repo, "commit", "--quiet", "--allow-empty", "-m", "mine")
        (repo / "new").write_text("new\n")
        before = listing(repo)
        with pytest.raises(ModeratorError, match="moved from"):
            manager.commit(workspace, "work")
        assert listing(repo) == before


def test_thirty_tasks_commit_at_once(tmp_path: Path, repo: Path) -> None:
    """Commits of many workspaces at the same time do not disturb each other."""
    from concurrent.futures import ThreadPoolExecutor

    manager = GitManager(repo)

    def one(number: int) -> str:
        with manager.create_workspace(context(tmp_path, f"t{number}")) as workspace:
            Path(workspace.path, "new").write_text(f"{number}\n")
            commit = manager.commit(workspace, f"work {number}")
            return commit.subject if commit else ""

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(30))) == [f"work {number}" for number in range(30)]
    assert git(repo, "fsck", "--strict") == ""


TREES = st.dictionaries(
    st.sampled_from(["a", "d", "d/x", "d/y/z"]), st.sampled_from(["1", "2", "executable", "link"]), max_size=4
).filter(lambda tree: "d" not in tree or not ({"d/x", "d/y/z"} & tree.keys()))


def lay_out(folder: Path, tree: dict[str, str]) -> None:
    """Make the files of a worktree these and no others."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.name != ".git":
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, content in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content == "link":
            path.symlink_to("nowhere")
        else:
            path.write_text(content)
            path.chmod(0o755 if content == "executable" else 0o644)


def committed(repo: Path, revision: str) -> dict[str, str]:
    """Return the tree of a commit in the same words."""
    found = {}
    for line in git(repo, "ls-tree", "-r", revision).splitlines():
        mode, _, blob, path = line.replace("\t", " ").split(" ")
        found[path] = "link" if mode == "120000" else git(repo, "cat-file", "blob", blob)
    return found


@settings(max_examples=8)
@given(TREES, TREES, TREES)
@example({"d": "1"}, {"d/x": "1", "a": "1"}, {"d/x": "2", "a": "1"})
@example({"d/x": "1"}, {"d": "1"}, {"d": "2"})
@example({"a": "1", "d": "1"}, {"a": "executable", "d/x": "1"}, {"a": "executable", "d/x": "1"})
def test_what_was_there_before_the_work_stays_out_of_its_commit(
    tmp_path_factory: pytest.TempPathFactory, first: dict[str, str], before: dict[str, str], after: dict[str, str]
) -> None:
    """Each path that is as it was told is in the commit as in the base, every other as it is now; the files stay as they are.

    Where a file has become a directory, or a directory a file, and there was work at it, it goes in as it is.
    """
    folder = tmp_path_factory.mktemp("leaving")
    repo = make_repository(folder / "shop", [("first", {"README": "x"})])
    with GitManager(repo).create_workspace(context(folder, "t"), "main") as workspace:
        tree, manager = Path(workspace.path), GitManager(repo)
        lay_out(tree, first)
        base = manager.keep(workspace, "the base").head
        lay_out(tree, before)
        leaving = manager.uncommitted(workspace)
        assert leaving.keys() == {path for path in {*first, *before} if first.get(path) != before.get(path)}
        lay_out(tree, after)
        kept = manager.keep(workspace, "the work", leaving=leaving)
        found = committed(repo, kept.head)
        worked = {
            path for path in {*first, *before, *after} if after.get(path) not in (before.get(path), first.get(path))
        }
        for path in {*first, *before, *after}:
            beside = any(one.startswith(f"{path}/") or path.startswith(f"{one}/") for one in worked & after.keys())
            untouched = before.get(path) == after.get(path) and not beside
            assert found.get(path) == (first if untouched else after).get(path)
        assert files(tree) == {path: "nowhere" if text == "link" else text.encode() for path, text in after.items()}
        assert set(kept.left_out) == {path for path in leaving if found.get(path) != after.get(path)}
        changed = git(tree, "diff", "--name-only", base, "HEAD").split()
        assert (kept.commit is None) == (not changed)
