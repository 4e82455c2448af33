"""Which commands of a repository's own configuration a person has agreed to.

A repository can come from anybody, and what it says in its `moderator.yaml` would be executed.  So it is, once somebody has
agreed to exactly these values: what he agreed to is written down outside the repository, under its real path, and anything else
needs another agreement.  What is compared is what will be used: whoever asks hands in the values that he has read, once.

Must not know where settings come from, nor what a value means.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moderator.document import quoted
from moderator.errors import ConfigurationError, EnvironmentProblem, NotTrusted, to_type

_VERSION = 1
_LARGEST = 1 << 20  # bytes of a file that are read
_SEVERAL = ("setup", "teardown", "carry", "render")  # a list in another is the words of one command


@dataclass(frozen=True)
class Difference:
    """One setting of which the repository says something else than was agreed to; None: nothing at all."""

    name: str
    agreed: Any
    asked: Any

    def __str__(self) -> str:
        if self.agreed is None:
            return f"new: {self.name}: {_written(self.asked)}"
        if self.asked is None:
            return f"no longer there: {self.name}: {_written(self.agreed)}"
        return f"changed: {self.name}: {_written(self.asked)} (agreed to was {_written(self.agreed)})"


class Agreements:
    """What was agreed to on this machine, one file for each repository in a folder of the person's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def require(self, repository: str, values: Mapping[str, Any]) -> None:
        """Raise NotTrusted unless exactly these values were agreed to for the repository at this path, or there are none."""
        if not values:
            return
        agreed = self.of(repository)
        if agreed is None:
            raise NotTrusted(
                f"the configuration of the repository {_shown(repository)} would have these executed, "
                "and nobody has agreed to that yet; nothing was started",
                hint=_to_agree(repository),
                findings=lines_of(values),
            )
        if changed := differences(agreed, values):
            raise NotTrusted(
                f"the configuration of the repository {_shown(repository)} is not the one that was agreed to; nothing was started",
                hint=_to_agree(repository),
                findings=[str(one) for one in changed],
            )

    def of(self, repository: str) -> dict[str, Any] | None:
        """Return the values that were agreed to, None if none were.  Raises NotTrusted for a file that cannot be believed."""
        path = self._file(repository)
        try:
            self._require_own_folder()
            content = _read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unbelievable(repository, path, str(error)) from error
        try:
            found = json.loads(content)
            values = found["values"]
            if found["version"] != _VERSION or found["repository"] != _shown(repository):
                raise ValueError("it was written for something else")
            if found["digest"] != _digest(repository, values) or not isinstance(values, dict):
                raise ValueError("its digest is not that of its values")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _unbelievable(repository, path, f"{type(error).__name__}: {error}") from error
        return values

    def agree(self, repository: str, values: Mapping[str, Any]) -> None:
        """Write down that these values were agreed to, in the place of any others.

        Raises EnvironmentProblem, and ConfigurationError if they are so much that they could not be read back.
        """
        path = self._file(repository)
        document = {
            "version": _VERSION,
            "repository": _shown(repository),
            "digest": _digest(repository, values),
            "values": values,
        }
        text = json.dumps(document, indent=1)  # plain ASCII
        if len(text) > _LARGEST:
            raise ConfigurationError(
                f"what the repository {_shown(repository)} would have executed is {len(text)} bytes long when it is written down; "
                f"at most {_LARGEST} can be agreed to, and nothing was",
                hint="put what is long into a script of the repository, and the script's name into moderator.yaml",
            )
        with _told("written down", path):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            self._require_own_folder()
            aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            try:
                # A new file that takes the old one's name: a link that stands there is replaced, and leads nowhere.
                descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(aside, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(aside)

    def revoke(self, repository: str) -> bool:
        """Take the agreement back; whether there was anything to take back.  Raises EnvironmentProblem."""
        path = self._file(repository)
        with _told("taken back", path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                return False
        return True

    def _file(self, repository: str) -> Path:
        return self._folder / f"{hashlib.sha256(_real(repository)).hexdigest()[:32]}.json"

    def _require_own_folder(self) -> None:
        """Raise PermissionError if others can put files here, FileNotFoundError if there is no folder yet."""
        found = os.stat(self._folder)
        if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"others than you can write in {str(self._folder)!r}")


def differences(agreed: Mapping[str, Any], asked: Mapping[str, Any]) -> list[Difference]:
    """Return what is not as it was agreed to, by name."""
    names = sorted({*agreed, *asked})
    return [
        Difference(name, agreed.get(name), asked.get(name)) for name in names if agreed.get(name) != asked.get(name)
    ]


def lines_of(values: Mapping[str, Any]) -> list[str]:
    """Return values as a person is shown them: a line for each command, with nothing in it that a terminal would obey."""
    lines = []
    for name in sorted(values):
        value = values[name]
        several = isinstance(value, list) and name in _SEVERAL
        lines += [f"{name}: {_written(one)}" for one in (value if several else [value])]
    return lines


def _written(value: Any) -> str:
    """Return a value as one line of printable characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in text
    )


def _shown(repository: str) -> str:
    return quoted(os.fsdecode(_real(repository)))


def _real(repository: str) -> bytes:
    return os.fsencode(os.path.realpath(repository))


def _digest(repository: str, values: Any) -> str:
    text = json.dumps(values, sort_keys=True).encode("ascii")
    return hashlib.sha256(_real(repository) + b"\0" + text).hexdigest()


def _read(path: Path) -> bytes:
    """Return what is in a plain file of the person's own.  Raises OSError for anything else."""
    # Not blocking: what stands there may be a pipe that nobody writes to.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError("it is no file")
        if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError("others than you can write it")
        return file.read(_LARGEST)


def _to_agree(repository: str) -> str:
    return f"{to_type('moderator', 'trust', '--repo', repository)}   # shows them and asks"


def _unbelievable(repository: str, path: Path, cause: str) -> NotTrusted:
    return NotTrusted(
        f"what was agreed to cannot be read from {str(path)!r}, so nothing counts as agreed to",
        hint=f"{_to_agree(repository)}, and writes the file anew",
        cause=cause,
    )


@contextlib.contextmanager
def _told(what: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EnvironmentProblem(
            f"the agreement could not be {what} in {str(path)!r}",
            hint="check permissions and free space there",
            cause=str(error),
        ) from error
