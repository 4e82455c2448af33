"""A disk that keeps the letter case of names and ignores it in look-ups, as those of macOS and Windows do.

    python ignoring_case.py FOLDER MOUNTED    # root on Linux; prints a line once it is there, ends when it is unmounted

It shows a folder, and speaks the kernel's own protocol (linux/fuse.h), so it needs nothing but /dev/fuse.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

_LARGEST = 128 * 1024  # bytes of one write
_HEADER, _REQUEST = 40, struct.Struct("<2I2Q")
_TOP = 1


@contextmanager
def disk_that_ignores_case(folder: Path) -> Iterator[Path]:
    """Give a folder on such a disk, inside `folder`; skip the test where there can be none."""
    folder.mkdir()
    if (folder.parent / folder.name.swapcase()).exists():
        yield folder
        return
    if sys.platform != "linux" or os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("letter case counts here, and no other disk can be mounted")
    backing, mounted = folder / "backing", folder / "mounted"
    backing.mkdir()
    mounted.mkdir()
    command = [sys.executable, __file__, str(backing), str(mounted)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
        assert server.stdout and server.stderr
        if not server.stdout.readline():
            pytest.skip(f"no disk can be mounted here: {server.stderr.read().decode()}")
        try:
            yield mounted
        finally:
            ctypes.CDLL(None).umount2(os.fsencode(mounted), 2)  # MNT_DETACH
            if server.poll() is None:
                server.wait(30)


@dataclass
class _Node:
    """What the kernel knows under a number: an inode, held open."""

    descriptor: int
    lookups: int = 0

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self.descriptor}"

    @property
    def identity(self) -> tuple[int, int]:
        found = os.fstat(self.descriptor)
        return found.st_dev, found.st_ino

    @property
    def attributes(self) -> bytes:
        found = os.fstat(self.descriptor)
        times = [divmod(time, 10**9) for time in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)]
        return struct.pack(
            "<6Q10I", found.st_ino, found.st_size, found.st_blocks, *(one[0] for one in times), *(one[1] for one in times),
            found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev, found.st_blksize, 0,
        )  # fmt: skip

    def stored(self, name: str) -> str:
        """Return a name as the folder has it, as it is given where it has none."""
        if os.path.lexists(f"{self.path}/{name}"):
            return name
        return next((one for one in os.listdir(self.path) if one.casefold() == name.casefold()), name)

    def free(self, name: str) -> str:
        if os.path.lexists(f"{self.path}/{self.stored(name)}"):
            raise FileExistsError(errno.EEXIST, "")
        return name


class _Disk:
    """A folder, shown with names that differ in letter case alone taken for one."""

    def __init__(self, folder: str) -> None:
        self._nodes = {_TOP: _Node(os.open(folder, os.O_PATH | os.O_DIRECTORY))}
        self._numbers = count(_TOP + 1)
        self._known: dict[object, int] = {}
        # Of an inode; and of one under a name in another letter case, or the kernel would take a renaming for none.
        self._listings: dict[int, list[str]] = {}

    def answer(self, operation: int, number: int, body: bytes) -> bytes | None:
        """Return what the kernel is told, None where it waits for nothing.  Raises OSError."""
        node = self._nodes.get(number) or self._nodes[_TOP]

        def named(after: int) -> str:
            return os.fsdecode(body[after:].partition(b"\0")[0])

        def numbers(layout: str) -> tuple[int, ...]:
            return struct.unpack_from("<" + layout, body)

        match operation:
            case 1:  # LOOKUP
                return self._entry(number, named(0))
            case 2:  # FORGET
                return self._forget(number, *numbers("Q"))
            case 42:  # BATCH_FORGET
                for one, lookups in struct.iter_unpack("<2Q", body[8:]):
                    self._forget(one, lookups)
                return None
            case 36:  # INTERRUPT
                return None
            case 3:  # GETATTR
                return struct.pack("<Q2I", 0, 0, 0) + node.attributes
            case 4:  # SETATTR
                _change(node, *numbers("2I6Q8I"))
                return struct.pack("<Q2I", 0, 0, 0) + node.attributes
            case 5:  # READLINK
                return os.fsencode(os.readlink("", dir_fd=node.descriptor))
            case 6:  # SYMLINK
                target = os.fsdecode(body.split(b"\0")[1])
                os.symlink(target, node.free(named(0)), dir_fd=node.descriptor)
                return self._entry(number, named(0))
            case 8:  # MKNOD
                mode, device, mask, _ = numbers("4I")
                os.mknod(node.free(named(16)), mode & ~mask, device, dir_fd=node.descriptor)
                return self._entry(number, named(16))
            case 9:  # MKDIR
                mode, mask = numbers("2I")
                os.mkdir(node.free(named(8)), mode & ~mask, dir_fd=node.descriptor)
                return self._entry(number, named(8))
            case 10:  # UNLINK
                os.unlink(node.stored(named(0)), dir_fd=node.descriptor)
                return b""
            case 11:  # RMDIR
                os.rmdir(node.stored(named(0)), dir_fd=node.descriptor)
                return b""
            case 12:  # RENAME
                (where,) = numbers("Q")
                new, wanted = self._nodes[where], os.fsdecode(body[8:].split(b"\0")[1])
                source, target = node.stored(named(8)), new.stored(wanted)
                is_itself = source == target and node.identity == new.identity
                target = wanted if is_itself else target
                os.rename(source, target, src_dir_fd=node.descriptor, dst_dir_fd=new.descriptor)
                return b""
            case 13:  # LINK
                (linked,) = numbers("Q")
                os.link(self._nodes[linked].path, node.free(named(8)), dst_dir_fd=node.descriptor)
                return self._entry(number, named(8))
            case 14:  # OPEN
                (flags,) = numbers("I")
                opened = os.open(node.path, flags & ~(os.O_NOFOLLOW | os.O_CREAT | os.O_EXCL))
                return struct.pack("<Q2I", opened, 0, 0)
            case 35:  # CREATE
                flags, mode, mask, _ = numbers("4I")
                opened = os.open(node.stored(named(16)), flags, mode & ~mask, dir_fd=node.descriptor)
                return self._entry(number, named(16)) + struct.pack("<Q2I", opened, 0, 0)
            case 15:  # READ
                handle, offset, size = numbers("2QI")
                return os.pread(handle, size, offset)
            case 16:  # WRITE
                handle, offset, size = numbers("2QI")
                return struct.pack("<2I", os.pwrite(handle, body[40 : 40 + size], offset), 0)
            case 17:  # STATFS
                found = os.statvfs(node.path)
                sizes = (found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree)
                return struct.pack("<5Q4I24x", *sizes, found.f_bsize, found.f_namemax, found.f_frsize, 0)
            case 18:  # RELEASE
                os.close(*numbers("Q"))
                return b""
            case 27:  # OPENDIR
                opened = os.open(node.path, os.O_RDONLY | os.O_DIRECTORY)
                self._listings[opened] = [".", "..", *os.listdir(opened)]
                return struct.pack("<Q2I", opened, 0, 0)
            case 28:  # READDIR
                return self._listed(*numbers("2QI"))
            case 29:  # RELEASEDIR
                (handle,) = numbers("Q")
                del self._listings[handle]
                os.close(handle)
                return b""
            case 20 | 25 | 30:  # FSYNC, FLUSH, FSYNCDIR
                return b""
        raise OSError(errno.ENOSYS, "")

    def _entry(self, number: int, name: str) -> bytes:
        above = self._nodes[number]
        stored = above.stored(name)
        node = _Node(os.open(stored, os.O_PATH | os.O_NOFOLLOW, dir_fd=above.descriptor))
        key = node.identity if stored == name else (number, name, node.identity)
        if key in self._known:
            os.close(node.descriptor)
        else:
            self._known[key] = next(self._numbers)
            self._nodes[self._known[key]] = node
        known = self._nodes[self._known[key]]
        known.lookups += 1
        return struct.pack("<4Q2I", self._known[key], 0, 0, 0, 0, 0) + known.attributes

    def _forget(self, number: int, lookups: int) -> None:
        node = self._nodes[number]
        node.lookups -= lookups
        if number != _TOP and node.lookups <= 0:
            os.close(node.descriptor)
            del self._nodes[number]
            for key in [key for key, known in self._known.items() if known == number]:
                del self._known[key]

    def _listed(self, handle: int, offset: int, size: int) -> bytes:
        answer = b""
        for place, name in enumerate(self._listings[handle][offset:], offset + 1):
            encoded = os.fsencode(name)
            entry = (
                struct.pack("<2Q2I", 1, place, len(encoded), 0) + encoded
            )  # no more of its number than that it is none
            entry += b"\0" * (-len(entry) % 8)
            if len(answer) + len(entry) > size:
                break
            answer += entry
        return answer


def _change(node: _Node, valid: int, *given: int) -> None:
    _, handle, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = given
    if valid & 1:
        os.chmod(node.path, stat.S_IMODE(mode))
    if valid & 6:
        os.chown(node.path, uid if valid & 2 else -1, gid if valid & 4 else -1)
    if valid & 8:
        os.truncate(handle if valid & 64 else node.path, size)
    if valid & 0x30:
        found = os.fstat(node.descriptor)
        atime = atime * 10**9 + atime_ns if valid & 0x10 else found.st_atime_ns
        mtime = mtime * 10**9 + mtime_ns if valid & 0x20 else found.st_mtime_ns
        os.utime(node.path, ns=(atime, mtime))


def _serve(folder: str, mounted: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"ignoring-case", os.fsencode(mounted), b"fuse", 0, options.encode()):
        sys.exit(os.strerror(ctypes.get_errno()))
    print("mounted", flush=True)
    os.umask(0)
    disk = _Disk(folder)
    while True:
        try:
            request = os.read(device, _LARGEST + 4096)
        except (InterruptedError, FileNotFoundError):  # one that was taken back
            continue
        except OSError:  # unmounted
            return
        _, operation, unique, number = _REQUEST.unpack_from(request)
        code, told = 0, None
        try:
            if operation == 26:  # INIT
                told = struct.pack("<4I2H2I2HI28x", 7, 31, _LARGEST, 32, 16, 12, _LARGEST, 1, 0, 0, 0)
            else:
                told = disk.answer(operation, number, request[_HEADER:])
        except OSError as error:
            code, told = error.errno or errno.EIO, b""
        if told is not None:
            try:
                os.write(device, struct.pack("<IiQ", 16 + len(told), -code, unique) + told)
            except FileNotFoundError:  # whoever asked has gone
                continue


if __name__ == "__main__":
    _serve(*sys.argv[1:])
