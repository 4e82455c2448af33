"""`moderator clean`: remove workspaces, by name or by what holds for them; what is in no commit is rescued first.

Who goes is decided in `cleaning`, whether it can go without a loss in `git`; here facts are brought together, and it is said
what was done and why.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from moderator.cli.clean_facts import GONE, decided, side_by_side
from moderator.cli.options import json_option, opened, repo_option, selection_options, teardowns
from moderator.cli.output import page, print_json, say, say_error
from moderator.errors import (
    ModeratorError,
    PersonNeeded,
    UnknownWorkspace,
    UsageError,
    WorkspaceBusy,
    WouldLoseWork,
    to_type,
)
from moderator.reports.text import counted, one_line, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moderator.cleaning import Decision, Selection
    from moderator.git.manager import GitManager
    from moderator.git.merged import Merged, NotMerged
    from moderator.git.values import Removal, Workspace

_AT_ONCE = 0.5  # seconds of deleting for good at the end; later commands delete the rest


@click.command("clean")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@selection_options
@click.option("--keep-last", type=click.IntRange(min=0), metavar="N", help="But not the N that were used last.")
@click.option("--into", metavar="BRANCH", help="With --merged or --branches: merged into this branch instead.")
@click.option("--branches", is_flag=True, help="Delete the branches too where they are merged.")
@click.option("--dry-run", is_flag=True, help="Only say of each workspace what would be done, and why.")
@json_option
@repo_option
def clean_command(
    tasks: tuple[str, ...], into: str | None, branches: bool, dry_run: bool, as_json: bool, repo: str, **choices: Any
) -> int:
    """Remove the workspaces of these TASKs, or all for which the options hold together; branches stay.

    What is in no commit is rescued first, and what no commit can hold stays in the trash for a time: moderator undo brings
    the last workspace back, moderator rescue what was in it.  With neither TASK nor option, the quotas of the configuration
    are applied; they never take a workspace with anything unsaved.
    """
    from moderator.cleaning import Quotas, select

    selection = select(tasks, **choices)
    if into is not None and not (selection.merged or branches):
        raise UsageError("--into says what --merged and --branches mean, and neither is given", hint="add --merged")
    git, config = opened(repo)
    quotas = Quotas(config.clean_max_workspaces, config.clean_max_size and config.clean_max_size * 1e6)
    if selection.is_empty and quotas == Quotas():
        raise UsageError(
            "say which workspaces to remove: some by name, by what holds for them, or all",
            hint="moderator clean TASK..., moderator clean --merged, or moderator clean --all",
        )
    if tasks:  # all names are looked up first, so that a misspelt one changes nothing
        workspaces = list({one.task_id: one for one in map(git.find, tasks)}.values())
        selection = replace(selection, names=frozenset(one.task_id for one in workspaces))
    else:
        workspaces = git.workspaces()
    answers = git.merged(workspaces, into) if selection.merged or branches else {}
    decisions, unmet = decided(git, workspaces, answers, selection, quotas)
    cleaning = _Cleaning(git, selection, answers if branches else {}, dry_run, as_json)
    previews = side_by_side(cleaning.preview, workspaces, decisions) if dry_run else [None] * len(workspaces)
    for workspace, decision, preview in zip(workspaces, decisions, previews, strict=True):
        cleaning.carry_out(workspace, decision, preview)
    for problem in () if tasks else git.unreadable():
        if selection.everything:
            cleaning.codes.add(problem.exit_code)
        say_error(problem, "error" if selection.everything else "warning")
    if unmet:
        stay = [
            f"{one.task_id}: {one.reason}" for one in decisions if not one.remove and one.reason != "within the quota"
        ]
        cleaning.refused(
            WouldLoseWork(
                f"the quota cannot be met: there are {unmet}",
                stay,
                hint="moderator clean TASK... removes one of them, after rescuing what is in it",
            )
        )
    cleaning.finish()
    if spares := git.pool_status().spares:
        gone = [] if dry_run else git.tidy_pool(config.pool_days)
        if selection.everything and len(gone) < len(spares) and not as_json:
            page(f"{counted(len(spares) - len(gone), 'spare')} of the pool stay: moderator pool drain gives them up")
    if not dry_run:
        git.tidy_trash(_AT_ONCE)
    # What a person must see to comes before what time may solve.
    return next((code for code in (5, 4, 3, 2, 75) if code in cleaning.codes), 0)


# -- what is done, and said --------------------------------------------------------------------------------------------


class _Cleaning:
    """One call of the command: removes, or only looks, one workspace after the other, and keeps what there is to say."""

    def __init__(
        self,
        git: GitManager,
        selection: Selection,
        answers: dict[str, Merged | NotMerged],
        dry_run: bool,
        as_json: bool,
    ) -> None:
        self._git = git
        self._selection = selection
        self._answers = answers
        self._dry_run = dry_run
        self._as_json = as_json
        self._teardowns = teardowns(git)
        self._entries: list[dict[str, Any]] = []
        self.codes: set[int] = set()

    def preview(self, workspace: Workspace, decision: Decision) -> dict[str, Any] | ModeratorError:
        """Return what a removal would do, or what it would raise.  Changes nothing; threads may call it."""
        from moderator.git.contents import IGNORED
        from moderator.git.unsaved import NESTED

        if not decision.remove:
            return {}
        try:
            unsaved = self._git.check_removal(workspace, rescue=not self._selection.is_empty)
        except ModeratorError as error:
            return error
        # What no commit can hold is told as left; a repository inside whose work is all elsewhere needs no rescue.
        rescued = [finding for finding in unsaved.findings if not finding.startswith((IGNORED, NESTED))]
        return {"would_remove": True, "would_rescue": rescued, "left": list(unsaved.left), "size": unsaved.size or 0}

    def carry_out(
        self, workspace: Workspace, decision: Decision, preview: dict[str, Any] | ModeratorError | None
    ) -> None:
        """Do or announce what was decided of one workspace."""
        entry: dict[str, Any] = {
            "task_id": workspace.task_id,
            "path": workspace.path,
            "branch": workspace.branch,
            "removed": False,
            "would_remove": False,
            "reason": decision.reason,
            "reasons": [],
        }
        self._entries.append(entry)
        if not decision.remove:
            if self._dry_run:
                self._say(f"keep {one_line(workspace.task_id)}: {one_line(decision.reason)}")
            return
        try:
            if isinstance(preview, ModeratorError):
                raise preview
            if preview is not None:
                entry |= preview
                self._announce(workspace, decision, entry)
            else:
                self._remove(workspace, entry)
        except ModeratorError as error:
            if isinstance(error, UnknownWorkspace) and not self._selection.names:
                entry["reasons"] = [GONE]
                self._say(f"gone {one_line(workspace.task_id)}: {GONE}")
                return
            entry["reasons"] = list(getattr(error, "findings", ())) or [error.message]
            if not self._selection.is_outright and isinstance(error, (PersonNeeded, WorkspaceBusy)):
                self._say(
                    f"{'keep' if self._dry_run else 'kept'} {one_line(workspace.task_id)}: {one_line(error.message)}"
                )
            else:
                self.refused(error)

    def refused(self, error: ModeratorError) -> None:
        """Say an error, unless there is a document to say it, and end with its code."""
        self.codes.add(error.exit_code)
        if not self._as_json:
            say_error(error)

    def finish(self) -> None:
        """Say the rest, once everything has been done."""
        freed = sum(entry.get("size") or 0 for entry in self._entries)
        if self._as_json:
            total = {"size": freed} if self._dry_run else {}
            print_json({"dry_run": self._dry_run, "workspaces": self._entries, **total})
            return
        if not self._entries:
            page("there are no workspaces")
        elif self._dry_run:
            going = sum(entry["would_remove"] for entry in self._entries)
            some = f"{going} of {counted(len(self._entries), 'workspace')} and free {size(freed)}"
            page(f"would remove {some if going else 'nothing'}")
        elif any(entry["removed"] for entry in self._entries):
            page("bring the last one back: moderator undo")
        elif not (self._selection.is_outright or any(entry["reasons"] for entry in self._entries) or self.codes):
            page(f"nothing to remove among {counted(len(self._entries), 'workspace')}; --dry-run says why")

    def _announce(self, workspace: Workspace, decision: Decision, entry: dict[str, Any]) -> None:
        from moderator.git.merged import Merged

        answer = self._answers.get(workspace.task_id)
        reason = "" if self._selection.is_outright else decision.reason
        has_branch = self._git.tip(workspace) is not None
        self._say_of("would remove", workspace, isinstance(answer, Merged), has_branch, reason)
        for finding in entry["would_rescue"]:
            self._say(f"  rescued first: {finding}")
        if entry["left"]:
            self._say(f"  stays in the trash for a time: {_first_of(entry['left'])}")
        self._say(f"  frees {size(entry['size'])}{' when the trash is emptied' if entry['left'] else ''}")

    def _remove(self, workspace: Workspace, entry: dict[str, Any]) -> None:
        by_quota = self._selection.is_empty
        reason = f"clean {self._selection}".rstrip() if not by_quota else "clean, for the quota"
        before = self._teardowns.of(workspace.task_id)
        try:
            removal = self._git.remove_workspace(
                workspace, rescue=not by_quota, reason=reason, later=True, before=before
            )
        finally:
            for note in before.notes if before else ():
                entry.setdefault("notes", []).append(note)
                say("warning", one_line(f"{workspace.task_id}: {note}"), "yellow")
        if removal is None:
            return
        removal, refusal = self._without_branch(removal)
        entry |= {
            "removed": True,
            "would_remove": True,
            "rescue": removal.rescue,
            "left": list(removal.left),
            "kept_until": removal.kept_until,
            "branch_deleted": removal.branch_deleted,
        }
        self._say_of("removed", workspace, removal.branch_deleted, not removal.branch_missing)
        if removal.rescue:
            rescue = self._git.find_rescue(removal.rescue)
            held = (rescue.staged, rescue.modified, rescue.unmerged, rescue.untracked, rescue.operation, rescue.commits)
            if any(held) or not removal.left:  # what is left follows
                rescue = replace(rescue, left=())
                self._say(f"  rescued: {rescue.what}: {to_type('moderator', 'rescue', 'show', workspace.task_id)}")
        if removal.left and removal.kept_until is not None:
            until = time.strftime("%Y-%m-%d", time.localtime(removal.kept_until))
            self._say(f"  in the trash until {until}: {_first_of(removal.left)}")
        if refusal:
            self.refused(refusal)

    def _without_branch(self, removal: Removal) -> tuple[Removal, ModeratorError | None]:
        from moderator.git.merged import Merged

        answer = self._answers.get(removal.task_id)
        if removal.branch is None or not isinstance(answer, Merged):
            return removal, None
        try:
            return self._git.delete_merged_branch(removal, answer), None
        except ModeratorError as error:
            return removal, error

    def _say_of(self, verb: str, workspace: Workspace, with_branch: bool, has_branch: bool, reason: str = "") -> None:
        """Say that a workspace goes, what becomes of its branch, and why."""
        from moderator.git.merged import Merged

        answer = self._answers.get(workspace.task_id)
        text = f"{verb} {one_line(workspace.task_id)}"
        if with_branch:
            text += f" and its branch {workspace.branch}"
            reason = reason or str(answer)
        text += f": {one_line(reason)}" if reason else ""
        if workspace.branch and not has_branch:
            text += f"; its branch {workspace.branch} had gone before"
        elif workspace.branch and not with_branch:
            text += f"; its branch {workspace.branch} stays"
            text += f": {answer}" if answer and not isinstance(answer, Merged) else ""
        self._say(text)

    def _say(self, text: str) -> None:
        if not self._as_json:
            page(text)


def _first_of(paths: Sequence[str]) -> str:
    from moderator.git.contents import printable

    return printable(paths[0]) + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
