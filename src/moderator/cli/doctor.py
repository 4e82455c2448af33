"""`moderator doctor`: what is wrong, what to type about it, and, if asked, mending what is safe to mend."""

from __future__ import annotations

import shlex
from collections import Counter

import click

from moderator.cli.options import configuration, json_option, repo_option
from moderator.cli.output import page, paint, print_json
from moderator.errors import ConfigurationError, StoreProblem
from moderator.git.contents import printable
from moderator.git.doctor.doctor import Doctor
from moderator.git.doctor.findings import COULD_NOT_LOOK, INFORMATION, PROBLEM, Finding
from moderator.git.manager import GitManager
from moderator.git.registry import Registry
from moderator.git.repository import Repository, require_git
from moderator.git.values import Keeping
from moderator.reports.text import counted, one_line

_LAST_RUNS = 50
_SHOWN = 10  # findings of one kind that need nothing done
_NEEDS_A_PERSON, _ENVIRONMENT = 3, 4


@click.command("doctor")
@click.option("--fix", is_flag=True, help="Mend what is safe to mend.")
@click.option("--deep", is_flag=True, help="Also look at every object for what nothing names; may take minutes.")
@json_option
@repo_option
def doctor_command(fix: bool, deep: bool, as_json: bool, repo: str) -> int:
    """Find what is wrong with the repository and its workspaces, and say what to type.  Work is never deleted."""
    require_git()
    repository = Repository.open(repo)
    keeping, complaints = _keeping(repo)
    doctor = Doctor(repository, Registry(repository.ours), keeping)
    findings = [*complaints, *doctor.examine(fix=fix, deep=deep), *_of_history(str(repository.ours))]
    workspaces = doctor.workspaces
    if as_json:
        print_json(
            {
                "workspaces": workspaces,
                "findings": [finding.to_dict() for finding in findings],
                "fixed": sum(finding.mended for finding in findings),
            }
        )
    else:
        _print(findings, workspaces, fix)
    if any(finding.code == COULD_NOT_LOOK for finding in findings):
        return _ENVIRONMENT
    return _NEEDS_A_PERSON if any(finding.remains for finding in findings) else 0


def _print(findings: list[Finding], workspaces: int, fix: bool) -> None:
    problems = [finding for finding in findings if finding.severity == PROBLEM]
    if not problems:
        page(f"{paint('ok:', 'green')} {counted(workspaces, 'workspace')}, nothing is wrong")
    for title, severity, colour in (("problems", PROBLEM, "red"), ("for your information", INFORMATION, "cyan")):
        chosen = [finding for finding in findings if finding.severity == severity]
        if chosen:
            page(paint(f"{title} ({len(chosen)})", colour))
        seen: Counter[str] = Counter()
        for finding in chosen:
            seen[finding.code] += 1
            if severity == INFORMATION and seen[finding.code] > _SHOWN:
                continue
            page(f"  {'mended: ' if finding.mended else ''}{one_line(finding.message)}")
            if finding.why_not:
                page(f"    left as it is: {one_line(finding.why_not)}")
            if finding.hint and not finding.mended:
                page(f"    {paint('hint:', 'cyan')} {printable(finding.hint)}")
        for code, count in seen.items():
            if severity == INFORMATION and count > _SHOWN:
                page(f"  and {count - _SHOWN} more of the kind {code}; moderator doctor --json has them all")
    waiting = sum(finding.fixable and not finding.mended for finding in findings)
    if waiting and not fix:
        page(f"moderator doctor --fix can mend {waiting} of these")


def _keeping(repo: str) -> tuple[Keeping, list[Finding]]:
    """Return how long things are kept, and what is wrong with the configuration that should say so."""
    try:
        config = configuration(GitManager(repo))
    except ConfigurationError as error:
        return Keeping(), [Finding("configuration-invalid", error.message, error.hint)]
    return Keeping(config.trash_days, config.rescue_largest_file * 1e6), []


def _of_history(state_root: str) -> list[Finding]:
    """Look at the record of runs: a damaged one costs history, and never work."""
    from moderator.git.leases import Owner, is_alive
    from moderator.store import Store, history_file

    try:
        store = Store.existing(history_file(state_root))
        if store is None:
            return []
        with store:
            store.examine()
            runs = store.runs(_LAST_RUNS)
    except StoreProblem as problem:
        why = f" ({problem.cause})" if problem.cause else ""
        return [Finding("history-damaged", f"{problem.message}{why}", problem.hint)]
    dead = [
        run
        for run in runs
        if run.state == "running" and not is_alive(Owner(run.host, run.boot_id, run.pid, int(run.process_started)))
    ]
    return [
        Finding(
            "run-interrupted",
            f"the run {run.run_id} ended without saying how: its process died",
            f"to go on with it: {one_line(_to_go_on(run.command_line))}",
            severity=INFORMATION,
        )
        for run in dead
    ]


def _to_go_on(command_line: str) -> str:
    from moderator.cli.resuming import with_flag

    return with_flag(shlex.split(command_line), "--resume")
