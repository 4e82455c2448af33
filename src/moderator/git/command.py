"""The one runner of git commands.

Environment, descriptors, process group, standard input and time limits are decided here and nowhere else, so that a
command behaves the same whether it was started from a shell, from inside a git hook, or by a thread among many.
Must not know what any command is for.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import re
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from moderator import interruption
from moderator.errors import EnvironmentProblem, GitFailed, NoRoom, NotARepository
from moderator.git import pipes
from moderator.git.broken import broken_filter
from moderator.opening import content

LOCAL_ENVIRONMENT = frozenset(
    """
    GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CONFIG GIT_CONFIG_PARAMETERS GIT_CONFIG_COUNT GIT_OBJECT_DIRECTORY GIT_DIR
    GIT_WORK_TREE GIT_IMPLICIT_WORK_TREE GIT_GRAFT_FILE GIT_INDEX_FILE GIT_NO_REPLACE_OBJECTS GIT_REPLACE_REF_BASE
    GIT_PREFIX GIT_SHALLOW_FILE GIT_COMMON_DIR GIT_INTERNAL_SUPER_PREFIX
    GIT_REF_STORAGE_FORMAT GIT_DEFAULT_REF_FORMAT GIT_REFERENCE_BACKEND
    GIT_NAMESPACE GIT_CEILING_DIRECTORIES GIT_DISCOVERY_ACROSS_FILESYSTEM GIT_ATTR_SOURCE GIT_REFLOG_ACTION
    GIT_LITERAL_PATHSPECS GIT_GLOB_PATHSPECS GIT_NOGLOB_PATHSPECS GIT_ICASE_PATHSPECS
    GIT_EXTERNAL_DIFF GIT_DIFF_OPTS GIT_QUARANTINE_PATH
    """.split()
)
"""What ties a git process to one repository or changes how it reads its arguments: `git rev-parse --local-env-vars`
of git 2.39, what newer versions add, and the variables that alter path specifications and diffs."""

_FIXED_ENVIRONMENT = {
    "LC_ALL": "C",
    "LANGUAGE": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": ":",
    "GIT_SEQUENCE_EDITOR": ":",
    "GIT_PAGER": "cat",
    "GIT_ADVICE": "0",
}

_OWN_SETTINGS = {
    "core.fsmonitor": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
    "core.quotePath": "false",
    "branch.autoSetupMerge": "false",
    "core.filesRefLockTimeout": "5000",
    "core.packedRefsTimeout": "10000",
    "reftable.lockTimeout": "10000",
    "core.safecrlf": "false",
}
_NO_HOOKS = {"core.hooksPath": os.devnull}  # plumbing runs hooks too: update-ref runs reference-transaction
_NO_SIGNING = {"commit.gpgSign": "false"}

_CONTENTION = re.compile(
    r"could not lock config file|Unable to create '.*\.lock': File exists|cannot lock ref .*File exists"
    r"|unable to create temporary file: No such file or directory"  # `gc` has just taken the empty folder of objects away
    r"|failed to read .*commondir: Success|bad object worktrees/.*/HEAD|unable to create directory|could not create directory of"
)
_BACKGROUND = ("nice", "-n", "15")  # nice(1) of POSIX
_PATIENCE = 10.0  # seconds in all that a repeatable command is tried again under contention
_GLANCE = 0.2  # seconds between looks whether a command is still wanted
_LONGEST = 6 * 3600.0  # seconds until a command of which nobody says how long it may take is ended
_FIRST_LOOK = 3.0  # seconds until the first look whether a command waits for a pipe
_STILL = 1.0  # seconds before a look in which a command that waits does nothing
_LATER_LOOKS = 3  # times as long as a command has lasted until then is the time to the next one
_KILL_GRACE = 2.0  # seconds between SIGTERM, at which git removes its lock files, and SIGKILL


class GitEnded(EnvironmentProblem):
    """A git command was ended, with every process that it started: it took too long, or nobody waits for it any longer."""


@dataclass(frozen=True)
class Limits:
    """After how many seconds a command is ended, None: never; what says that nobody waits for it any longer.

    `refuse_pipes` raises for what the command may wait for, or read, for ever, by whether it waits; it is asked ever more rarely.
    """

    seconds: float | None
    stopped: Callable[[], bool] | None
    refuse_pipes: Callable[[bool], None]


@dataclass(frozen=True)
class Answer:
    """What a git command said: its exit code, its output as bytes, its complaints as text."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """The output as text without its last newline; bytes that are no UTF-8 survive as surrogates."""
        return os.fsdecode(self.out.removesuffix(b"\n"))

    @property
    def fields(self) -> list[str]:
        """The output of a `-z` command as a list of paths or values."""
        return os.fsdecode(self.out).split("\0")[:-1]


_T = TypeVar("_T")
_LOCAL_NAMES = frozenset(map(os.fsencode, LOCAL_ENVIRONMENT))


def scrubbed_environment(
    extra: Mapping[str, str] | None = None, inherited: Mapping[bytes, bytes] | None = None
) -> dict[bytes, bytes]:
    """Return `inherited` (default: this process's environment) without what ties git to a repository, plus `extra`.

    In bytes, as the system has it: every command needs it, and decoding it only to encode it again takes its time.
    """
    environment = {
        name: value
        for name, value in (os.environb if inherited is None else inherited).items()
        if name not in _LOCAL_NAMES and not name.startswith((b"GIT_CONFIG_KEY_", b"GIT_CONFIG_VALUE_"))
    }
    environment.update((os.fsencode(name), os.fsencode(value)) for name, value in (extra or {}).items())
    return environment


def run_git(
    *arguments: str,
    cwd: str,
    env: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    accept: Sequence[int] = (0,),
    descriptors: Sequence[int] = (),
    repeatable: bool = False,
    timeout: float | None = _LONGEST,
    hooks: bool = False,
    signing: bool = False,
    background: bool = False,
    stopped: Callable[[], bool] | None = None,
) -> Answer:
    """Run `git *arguments` in `cwd` and return its answer.

    `env` is added to the scrubbed environment, `settings` to the configuration of this one command.  `descriptors`
    are kept open in the child (leases).  `repeatable` commands are tried again, with jitter and for about ten seconds, when
    git says that somebody else holds a lock.  `timeout` is in seconds; `stopped` is asked meanwhile whether to end it.
    `background` lets everybody else go first.

    Raises GitFailed for an exit code that is not in `accept`, NotARepository where git refuses the repository,
    EnvironmentProblem if there is no git, no such directory or no space, GitEnded where it was ended, PipeInTheWay where it was for
    a pipe.
    """
    command = _command(arguments, settings, hooks, signing)
    if background:
        command = [*_BACKGROUND, *command]
    environment = scrubbed_environment({**_FIXED_ENVIRONMENT, **(env or {})})
    limits = _limits(arguments, cwd, timeout, stopped)
    deadline = time.monotonic() + _PATIENCE
    pause = 0.01
    while True:
        answer = _once(command, cwd, environment, stdin, descriptors, limits, through_files=hooks)
        if answer.code in accept:
            return answer
        if not repeatable or time.monotonic() > deadline or not _CONTENTION.search(answer.err):
            raise _failure(arguments, cwd, answer)
        time.sleep(random.uniform(0, pause))
        pause = min(pause * 2, 1.0)


@contextlib.contextmanager
def git_beside(
    *arguments: str,
    cwd: str,
    env: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> Iterator[Callable[[], Answer]]:
    """Start a git command and go on; the function that is given waits for its answer, and raises as `run_git` does.

    Whoever leaves the `with` without it, by Ctrl-C say, leaves no process behind.
    """
    environment = scrubbed_environment({**_FIXED_ENVIRONMENT, **(env or {})})
    with _memory() as out, _memory() as err:  # nobody empties a pipe meanwhile
        command = _command(arguments, settings)
        with _started(command, cwd, environment, descriptors, (subprocess.DEVNULL, out, err)) as process:

            def answer() -> Answer:
                _awaited(process, cwd, b"", _limits(arguments, cwd, _LONGEST))
                for stream in (out, err):
                    stream.seek(0)
                told = Answer(process.returncode, out.read(), err.read().decode("utf-8", "replace"))
                if told.code:
                    raise _failure(arguments, cwd, told)
                return told

            yield answer


def _memory() -> IO[bytes]:
    """Return a file that needs no space on any disk, where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("moderator"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


_thread = threading.local()
"""What says, in a thread of `abreast`, that nobody waits for its commands any longer."""


def abreast(
    function: Callable[..., _T],
    *arguments: Collection[Any],
    most: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[_T]:
    """Call a function that runs git for each, so many at once, and yield the answers in order.

    Of whoever goes away meanwhile, by Ctrl-C say, the commands that still run are ended, and so they are once `stopped` says so:
    in the function, GitEnded is raised.
    """
    from concurrent.futures import ThreadPoolExecutor  # costs a tenth of a quick command

    gone = threading.Event()
    around = getattr(_thread, "stopped", None)

    def one(*argument: Any) -> _T:
        _thread.stopped = lambda: gone.is_set() or stopped() or bool(around and around())
        return function(*argument)

    with ThreadPoolExecutor(max(1, min(most, len(arguments[0])))) as threads:
        try:
            yield from threads.map(one, *arguments)
        except (KeyboardInterrupt, GeneratorExit):
            gone.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def is_stopped() -> bool:
    """Whether nobody waits any longer for what this thread of `abreast` does."""
    stopped = getattr(_thread, "stopped", None)
    return bool(stopped and stopped())


@contextlib.contextmanager
def to_the_end() -> Iterator[None]:
    """Let the commands of this thread run to their end, even if nobody waits for them any longer: they tidy up."""
    stopped, _thread.stopped = getattr(_thread, "stopped", None), None
    try:
        yield
    finally:
        _thread.stopped = stopped


def _limits(
    arguments: Sequence[str], cwd: str, seconds: float | None, stopped: Callable[[], bool] | None = None
) -> Limits:
    named = next((word.removeprefix("--git-dir=") for word in arguments if word.startswith("--git-dir=")), None)
    both = [one for one in (stopped, getattr(_thread, "stopped", None)) if one]
    return Limits(
        seconds,
        (lambda: any(one() for one in both)) if both else None,
        lambda waits: pipes.refuse(cwd, None if named is None else os.path.join(cwd, named), waits),
    )


def _command(
    arguments: Sequence[str], settings: Mapping[str, str] | None, hooks: bool = False, signing: bool = False
) -> list[str]:
    options = {**_OWN_SETTINGS, **(settings or {})}
    if not hooks:
        options |= _NO_HOOKS
    if not signing:
        options |= _NO_SIGNING
    return ["git", *(word for name, value in options.items() for word in ("-c", f"{name}={value}")), *arguments]


def polling(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return `env` with the promise not to take locks that a command at work in the same worktree may want."""
    return {"GIT_OPTIONAL_LOCKS": "0", **(env or {})}


def _once(
    command: list[str],
    cwd: str,
    environment: dict[bytes, bytes],
    stdin: bytes,
    descriptors: Sequence[int],
    limits: Limits,
    through_files: bool,
) -> Answer:
    with contextlib.ExitStack() as stack:
        if not through_files:
            streams: tuple[Any, Any, Any] = (
                subprocess.PIPE if stdin else subprocess.DEVNULL,
                subprocess.PIPE,
                subprocess.PIPE,
            )
            return _piped(command, cwd, environment, stdin, descriptors, limits, streams)
        # A hook may leave a process behind that keeps our pipes open for ever; files are whole when git has ended.
        import tempfile

        given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        given.write(stdin)
        for stream in (given, out, err):
            stream.seek(0)
        code = _piped(command, cwd, environment, b"", descriptors, limits, (given, out, err)).code
        out.seek(0)
        err.seek(0)
        return Answer(code, out.read(), err.read().decode("utf-8", "replace"))


def _piped(
    command: list[str],
    cwd: str,
    environment: dict[bytes, bytes],
    stdin: bytes,
    descriptors: Sequence[int],
    limits: Limits,
    streams: tuple[Any, Any, Any],
) -> Answer:
    with _started(command, cwd, environment, descriptors, streams) as process:
        out, err = _awaited(process, cwd, stdin, limits)
    return Answer(process.returncode, out or b"", (err or b"").decode("utf-8", "replace"))


def _awaited(process: subprocess.Popen[bytes], cwd: str, stdin: bytes, limits: Limits) -> tuple[bytes, bytes]:
    """Return what a process printed, when it has ended.  Raises GitEnded or PipeInTheWay if it is to be ended."""
    began = time.monotonic()
    deadline = math.inf if limits.seconds is None else began + limits.seconds
    look, worked = began + _FIRST_LOOK, -1
    given = stdin or None
    while True:
        wake = look if worked >= 0 else look - _STILL
        pause = min(deadline, wake) - time.monotonic()
        try:
            return process.communicate(given, max(min(pause, _GLANCE) if limits.stopped else pause, 0.0))
        except subprocess.TimeoutExpired as error:
            if limits.stopped and limits.stopped():
                raise GitEnded(f"git in {cwd!r} was ended, for nobody waits for it any longer") from error
            if time.monotonic() < wake:
                pass
            elif worked < 0:
                worked = _processor_time(process.pid)
            else:
                limits.refuse_pipes(worked == _processor_time(process.pid))
                look, worked = began + (time.monotonic() - began) * _LATER_LOOKS, -1
            if time.monotonic() >= deadline:
                what = f"git in {cwd!r} did not end within {limits.seconds:g} seconds"
                raise GitEnded(what, hint="look what keeps git waiting") from error
            given = None  # it has it


@contextlib.contextmanager
def _started(
    command: list[str],
    cwd: str,
    environment: dict[bytes, bytes],
    descriptors: Sequence[int],
    streams: tuple[Any, Any, Any],
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that does not outlive the `with`, however it is left."""
    interruption.hold()
    try:
        process = _opened(command, cwd, environment, descriptors, streams)
    except BaseException:
        interruption.release()
        raise
    try:
        interruption.release()
        yield process
    finally:
        if process.poll() is None:
            _end(process)


class _Process(subprocess.Popen[bytes]):
    """A process whose end is noticed at once, also by who waits for so long at most: there Popen takes naps, of up to 50 ms."""

    def wait(self, timeout: float | None = None) -> int:
        if timeout is None or self.poll() is not None or not hasattr(os, "pidfd_open"):
            return super().wait(timeout)
        descriptor = os.pidfd_open(self.pid)  # it is ours and not reaped, so it is there
        try:
            until = select.poll()
            until.register(descriptor, select.POLLIN)
            until.poll(math.ceil(min(max(timeout, 0.0), _LONGEST) * 1000))
        finally:
            os.close(descriptor)
        return super().wait(0.0)


def _opened(
    command: list[str],
    cwd: str,
    environment: dict[bytes, bytes],
    descriptors: Sequence[int],
    streams: tuple[Any, Any, Any],
) -> subprocess.Popen[bytes]:
    try:
        return _Process(
            command,
            cwd=cwd,
            env=environment,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            pass_fds=tuple(descriptors),
            start_new_session=True,  # Ctrl-C at the terminal is for us; git finishes what it began
        )
    except FileNotFoundError as error:
        if not os.path.isdir(cwd):
            raise EnvironmentProblem(
                f"the directory {cwd!r} does not exist", hint="check the path", cause=str(error)
            ) from error
        raise EnvironmentProblem(
            "git is not installed, or not on PATH", hint="install git 2.38 or newer", cause=str(error)
        ) from error
    except OSError as error:
        raise EnvironmentProblem(
            f"git could not be started in {cwd!r}",
            hint="check the directory and the machine's limits",
            cause=str(error),
        ) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=_KILL_GRACE)
    except BaseException as error:  # a second Ctrl-C too
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise


def _processor_time(group: int) -> int:
    """Return what a group of processes has had of the processors until now, in ticks; always 0 where the system does not tell."""
    total = 0
    with contextlib.suppress(OSError):
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, ValueError):
                fields = content(f"/proc/{name}/stat").rpartition(b")")[2].split()  # from the third on, proc(5)
                if int(fields[2]) == group:
                    total += sum(map(int, fields[11:15]))
    return total


def _verb(arguments: Sequence[str]) -> str:
    return next((argument for argument in arguments if not argument.startswith("-")), "")


def _failure(arguments: Sequence[str], cwd: str, answer: Answer) -> Exception:
    said = answer.err.strip()
    lines = [line for line in said.splitlines() if line.startswith(("fatal:", "error:"))] or said.splitlines()
    cause = "\n".join(lines if len(lines) <= 6 else [*lines[:5], lines[-1]])  # the last one is what ended it
    what = f"git {_verb(arguments)} in {cwd!r}"
    if "dubious ownership" in said:
        cure = re.search(r"git config --global --add safe\.directory .*", said)  # names the top, in a shell's quotes
        return NotARepository(
            f"git refuses the repository at {cwd!r} because it belongs to another user",
            hint=f"if you trust it: {cure.group() if cure else 'see safe.directory in git help config'}",
            cause=cause,
        )
    if "not a git repository" in said:
        return NotARepository(
            f"{cwd!r} is not in a git repository",
            hint="go to a repository, or name one with --repo",
            cause=cause,
        )
    if "No space left on device" in said or "Disk quota exceeded" in said:
        return NoRoom(f"{what} ran out of disk space", hint="free some space and try again", cause=cause)
    if "unable to write file" in said:  # while checking out; git does not say why
        return NoRoom(f"{what} could not write its files", hint="look for free space there", cause=cause)
    if "Read-only file system" in said or "Permission denied" in said:
        return EnvironmentProblem(f"{what} was not allowed to write", hint="check who owns the directory", cause=cause)
    if _verb(arguments) not in ("fetch", "push") and (broken := broken_filter(said)):
        return GitFailed(f"{what} failed: {broken}", broken.hint, cause if broken.file else said)
    return GitFailed(f"{what} failed with exit code {answer.code}", cause=cause)
