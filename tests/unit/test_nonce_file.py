from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sse_daemon.errors import AuthUnusable
from sse_daemon.nonce_file import NonceFile

A, B, C = (letter * 16 for letter in (b"a", b"b", b"c"))


@contextmanager
def opened(folder: Path, boot: str = "boot") -> Iterator[NonceFile]:
    file = NonceFile(folder, boot)
    try:
        yield file
    finally:
        file.close()


def test_what_was_added_is_found(tmp_path: Path) -> None:
    with opened(tmp_path) as file:
        assert (file.existed, file.complete, file.found) == (False, False, [])
        file.append(A, 100)
        file.append(B, 1 << 40)
    for _ in range(2):
        with opened(tmp_path) as file:
            assert (file.existed, file.complete, file.found) == (True, True, [(A, 100), (B, 1 << 40)])


def test_what_another_run_of_the_kernel_wrote_is_not_believed(tmp_path: Path) -> None:
    with opened(tmp_path) as file:
        file.append(A, 100)
    with opened(tmp_path, "other") as file:
        assert (file.existed, file.complete, file.found, file.damaged) == (True, False, [], False)
        file.append(B, 100)
    with opened(tmp_path, "other") as file:
        assert (file.complete, file.found) == (True, [(B, 100)])


@pytest.mark.parametrize("content", [b"", b"sse-daemon nonces 1 boo", b"something else\n", bytes(1000)])
def test_a_file_of_anything_else_is_not_believed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "nonces").write_bytes(content)
    with opened(tmp_path) as file:
        assert (file.existed, file.complete, file.found, file.damaged) == (True, False, [], True)


def test_half_a_record_was_never_answered(tmp_path: Path) -> None:
    with opened(tmp_path) as file:
        file.append(A, 100)
    with (tmp_path / "nonces").open("ab") as raw:
        raw.write(B + b"\0")
    with opened(tmp_path) as file:
        assert (file.complete, file.found) == (True, [(A, 100)])
        file.append(C, 100)
    with opened(tmp_path) as file:
        assert file.found == [(A, 100), (C, 100)]


def test_it_can_be_made_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as file:
        for _ in range(100):
            file.append(A, 100)
        assert file.records == 100
        file.rewrite([(B, 200)])
        file.append(C, 300)
        assert file.records == 2
    with opened(tmp_path) as file:
        assert file.found == [(B, 200), (C, 300)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nonces", "nonces.lock"]


def test_one_process_has_it(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(AuthUnusable, match="another daemon keeps"), opened(tmp_path):
        pass
    with opened(tmp_path):
        pass


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AuthUnusable, match="nonces cannot be kept in .*file: it is a file; .* a folder"):
        NonceFile(tmp_path / "file")
    (tmp_path / "nonces").mkdir()
    with pytest.raises(AuthUnusable, match="state"):
        NonceFile(tmp_path)


def test_a_full_disk_takes_no_part_of_a_record(tmp_path: Path) -> None:
    with opened(tmp_path) as file:
        file.append(A, 100)
        size = (tmp_path / "nonces").stat().st_size
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # As a full disk does: the part that still fits is taken, and then nothing. (Python ignores the signal.)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        try:
            for _ in range(2):
                with pytest.raises(OSError) as caught:
                    file.append(B, 100)
                assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (tmp_path / "nonces").stat().st_size == size
        file.append(C, 100)
    with opened(tmp_path) as file:
        assert file.found == [(A, 100), (C, 100)]


def test_the_kernels_run_has_a_name(tmp_path: Path) -> None:
    with NonceFileOfThisRun(tmp_path) as first:
        first.append(A, 100)
    with NonceFileOfThisRun(tmp_path) as again:
        assert again.complete == os.path.exists("/proc/sys/kernel/random/boot_id")


@contextmanager
def NonceFileOfThisRun(folder: Path) -> Iterator[NonceFile]:
    file = NonceFile(folder)
    try:
        yield file
    finally:
        file.close()
