"""An autoencoder on the Hub: its two files, fetched only when they are not cached."""

from __future__ import annotations

from pathlib import Path

from sdbatch.errors import ModelError
from sdbatch.render.weights.fetching import one_at_a_time
from sdbatch.render.weights.hub_address import HubAddress
from sdbatch.render.weights.hub_cache import Repo, library
from sdbatch.render.weights.hub_errors import hub_errors

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"


def vae_snapshot(address: HubAddress, weights: bool = True) -> Path:
    """Folder, named by its commit, of a repository that is an autoencoder or has one.

    Args:
        weights: False fetches its configuration alone.

    Raises:
        ModelError: It cannot be had; the text says what to do.
    """
    hub = library("huggingface_hub")
    repo = Repo(address.repo)
    last = WEIGHTS if weights else CONFIG
    names = [CONFIG, WEIGHTS] if weights else [CONFIG]
    wanted = {
        "allow_patterns": [*names, *(f"vae/{name}" for name in names)],
        "revision": address.asked,
    }
    try:
        cached = Path(hub.snapshot_download(repo.name, local_files_only=True, **wanted))
        if any((folder / last).is_file() for folder in (cached, cached / "vae")):
            return cached
    except hub.errors.LocalEntryNotFoundError:
        pass  # not cached yet
    except (OSError, ValueError) as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"vae {address}: the cache cannot be read: {line}") from error
    with hub_errors(address, "vae"), one_at_a_time(repo.lock, lambda: None):
        return Path(hub.snapshot_download(repo.name, **wanted))
