"""One part of a model without its weights: what memory and arithmetic are counted on.

It lies on torch's meta device, so a model of any size is there in a second and takes no room.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def empty_part(kind: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """One model of a diffusers folder, from its configuration alone.

    Args:
        kind: Its class, of diffusers or transformers.
        folder: The model's folder.
        part: The part's folder in it.
        dtype: Number type that it would be loaded in.
    """
    place = str(folder / part)
    with torch.device("meta"):
        if hasattr(kind, "load_config"):
            model = kind.from_config(kind.load_config(place, local_files_only=True))
        else:
            model = kind(kind.config_class.from_pretrained(place, local_files_only=True))
    return torch.nn.Module.to(model, dtype=dtype).requires_grad_(False).eval()
