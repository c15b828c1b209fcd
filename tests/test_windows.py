"""What Windows has not, and what it reads otherwise: drive letters, POSIX modules, device names.

Nothing here ran on Windows: modules and calls that are missing there are taken away.
"""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sdbatch
from sdbatch.engine.new_job import absolute
from sdbatch.engine.signals import wanted_signals
from sdbatch.errors import InputError
from sdbatch.manifest.hub_dataset import is_dataset_id
from sdbatch.manifest.local_copy import is_remote
from sdbatch.remote import is_url, local_path, scheme_of
from sdbatch.render.weights.hub_address import hub_address
from sdbatch.storage import layout
from sdbatch.storage.inputs import _scheme
from sdbatch.storage.store import check_key

PACKAGE = Path(sdbatch.__file__).parent
POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix"}
POSIX_CALLS = {
    *("fork", "forkpty", "getuid", "geteuid", "getpgid", "killpg", "setsid", "nice", "mkfifo"),
    *("statvfs", "uname", "sched_getaffinity", "O_NOFOLLOW", "O_NONBLOCK", "O_DIRECTORY"),
}
POSIX_SIGNALS = {"SIGKILL", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGUSR1", "SIGUSR2", "SIGPIPE"}

drives = st.sampled_from("CcDdZz")
parts = st.lists(st.text("abz09 .-_é@?#:", min_size=1, max_size=8), min_size=0, max_size=4)


@given(drive=drives, slash=st.sampled_from(["\\", "/", "\\\\", "//"]), rest=parts)
def test_a_path_with_a_drive_letter_is_no_url_to_anybody(drive, slash, rest):
    path = f"{drive}:{slash}{'/'.join(rest)}"

    assert not is_url(path)
    assert scheme_of(path) == ""
    assert not is_remote(path)
    assert _scheme(path) == ""
    assert not is_dataset_id(path)
    assert hub_address(path) is None
    assert local_path(path) == path
    assert "://" not in absolute(path).partition(path)[0]


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///C:/data/a.parquet", "C:/data/a.parquet"),
        ("file:///home/a.parquet", "/home/a.parquet"),
        ("file://C:/data", "C:/data"),
    ],
)
def test_a_file_url_means_the_path_in_it(url, path):
    assert local_path(url) == path


@pytest.mark.parametrize("url", ["s3://b/k", "simplecache::s3://b/k", "hf://datasets/a/b"])
def test_urls_stay_urls(url):
    assert is_url(url)
    assert absolute(url) == url


@pytest.mark.parametrize("character", '<>:"\\|?* \x00\x1f')
def test_no_object_key_holds_what_windows_forbids(character):
    with pytest.raises(InputError):
        check_key(f"data/a{character}b")


@pytest.mark.parametrize("run", ["con", "NUL", "aux.2026", "com1", "LPT9"])
def test_no_run_is_called_like_a_device(run):
    with pytest.raises(InputError, match="is a device on Windows"):
        layout.state_prefix(run)


def test_ctrl_break_asks_for_an_end_where_there_is_such_a_thing(monkeypatch):
    assert wanted_signals() == (signal.SIGINT, signal.SIGTERM)

    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    members = {**signal.Signals.__members__, "SIGBREAK": 21}
    monkeypatch.setattr(signal, "Signals", members)
    assert 21 in wanted_signals()


def _bare_names(tree: ast.Module):
    """(line, name) of POSIX modules imported on top, and of POSIX names asked for outright."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield node.lineno, str(node.module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "os" and node.attr in POSIX_CALLS:
                yield node.lineno, f"os.{node.attr}"
            if node.value.id == "signal" and node.attr in POSIX_SIGNALS:
                yield node.lineno, f"signal.{node.attr}"


def test_no_module_needs_what_only_posix_has():
    wanted = POSIX_MODULES | {f"os.{name}" for name in POSIX_CALLS}
    wanted |= {f"signal.{name}" for name in POSIX_SIGNALS}
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, name in _bare_names(ast.parse(path.read_text("utf-8")))
        if name in wanted
    ]

    assert found == []


WITHOUT_POSIX = """
import asyncio, importlib, os, pkgutil, signal, sys
import click, fsspec, multiprocessing.util, numpy, psutil, pyarrow.dataset, pydantic, yaml  # noqa
import fsspec.implementations.local, concurrent.futures, subprocess, tempfile, PIL.Image  # noqa
import huggingface_hub, filelock  # noqa
modules, calls, signals = (line.split() for line in sys.argv[1:4])
for name in modules:
    sys.modules[name] = None
for name in calls:
    if hasattr(os, name):
        delattr(os, name)
for name in signals:
    if hasattr(signal, name):
        delattr(signal, name)
import sdbatch
count = 0
for found in pkgutil.walk_packages(sdbatch.__path__, "sdbatch."):
    below = found.name.split(".")[1]
    if below not in ("models", "render") and ".ray_" not in found.name:
        importlib.import_module(found.name)
        count += 1
print(count)
from sdbatch import render
print(render(None, sys.argv[4], prompt=["a"], model="fake", engine="inline").exit_code)
"""


def test_the_package_imports_and_draws_without_what_only_posix_has(tmp_path):
    kept = {"posix"}, {"statvfs"}, set()  # the standard library itself needs these here
    taken = zip((POSIX_MODULES, POSIX_CALLS, POSIX_SIGNALS), kept, strict=True)
    told = (" ".join(names - needed) for names, needed in taken)
    child = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, *told, str(tmp_path / "out")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert child.returncode == 0, child.stderr
    count, code = child.stdout.split()[-2:]
    assert int(count) > 150
    assert code == "0"
