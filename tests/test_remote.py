"""Opening what lies elsewhere: clients named when missing, with our timeouts, uncached."""

from __future__ import annotations

import builtins
import importlib

import pytest

from sdbatch import remote
from sdbatch.errors import InputError
from sdbatch.manifest.reader import open_manifest
from sdbatch.storage.store import open_store


@pytest.mark.parametrize(
    ("url", "client", "extra"),
    [
        ("s3://bucket/x", "s3fs", "s3"),
        ("gs://bucket/x", "gcsfs", "gcs"),
        ("gcs://bucket/x", "gcsfs", "gcs"),
        ("az://bucket/x", "adlfs", "azure"),
        ("abfs://box@account.dfs.core.windows.net/x", "adlfs", "azure"),
    ],
)
@pytest.mark.parametrize("opens", [open_store, open_manifest])
def test_a_missing_client_is_named_with_the_command_that_installs_it(
    monkeypatch, opens, url, client, extra
):
    real = importlib.import_module

    def absent(name, *rest):
        if name == client:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(remote.importlib, "import_module", absent)
    with pytest.raises(InputError) as caught:
        opens(url)

    assert str(caught.value).endswith(f"needs {client}: pip install 'sdbatch[{extra}]'")
    assert caught.value.exit_code == 2


def test_a_local_path_needs_no_client_and_ignores_options(tmp_path, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    fs, path = remote.file_system(str(tmp_path / "x"), {"secret": "env:NOT_SET"})

    assert path == str(tmp_path / "x")
    assert "file" in fs.protocol


def test_secrets_are_refused_before_anything_is_opened(monkeypatch):
    monkeypatch.setattr(remote, "_opened", lambda *_: builtins.exit("opened"))
    for opens in (remote.file_system, open_store):
        with pytest.raises(InputError, match="may not be written out"):
            opens("s3://bucket/x", {"secret": "plain"})


def test_users_options_go_over_ours_key_by_key(monkeypatch):
    pytest.importorskip("s3fs")
    seen = {}
    monkeypatch.setattr(remote, "_opened", lambda url, options: seen.update(options) or (None, url))
    remote.file_system("s3://b/x", {"anon": True, "config_kwargs": {"read_timeout": 3}})

    assert seen["anon"]
    assert seen["config_kwargs"]["read_timeout"] == 3
    assert seen["config_kwargs"]["connect_timeout"] == remote.CONNECT_S
    assert seen["skip_instance_cache"]
    assert not seen["use_listings_cache"]
