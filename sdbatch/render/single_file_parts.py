"""One part of a model out of a checkpoint in one file, by diffusers' own conversion.

The weights are mapped, not read: of each part only what it takes is touched. What diffusers
leaves unfilled, for a tensor that the file lacks, is refused here rather than drawn with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import safetensors.torch
import torch
from diffusers.loaders.single_file import load_single_file_sub_model

from sdbatch.errors import ModelError

_CLIP = "cond_stage_model.transformer."
_OPEN_CLIP, _OPEN_CLIP_SGM = "cond_stage_model.model.", "conditioner.embedders.0.model."
_SD2_TEXT_WIDTH = 1024
_NAMED_AT_MOST = 3


def part_of_file(kind: Any, folder: Path, part: str, file: Path, dtype: torch.dtype) -> Any:
    """One model of a checkpoint, on the CPU.

    Args:
        kind: Its class, of diffusers or transformers.
        folder: Holds the configuration, as `single_file.model_folder` makes it.
        part: The part's folder in it.
        file: The checkpoint.

    Raises:
        ModelError: The file lacks tensors of this part.
    """
    model = load_single_file_sub_model(
        library_name=kind.__module__.partition(".")[0],
        class_name=kind.__name__,
        name=part,
        checkpoint=_usual_names(safetensors.torch.load_file(file)),
        pipelines=diffusers.pipelines,
        is_pipeline_module=False,
        cached_model_config_path=str(folder),
        local_files_only=True,
        torch_dtype=dtype,
    )
    lacking = [key for key, tensor in model.state_dict().items() if tensor.is_meta]
    if lacking:
        some = ", ".join(lacking[:_NAMED_AT_MOST])
        raise ModelError(
            f"model {file}: lacks {len(lacking):,} tensors of its {part}, such as {some}"
        )
    return model


def _usual_names(checkpoint: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors by the names that diffusers looks for, the running averages left out.

    Two spellings of text encoders that A1111 and ComfyUI take are unknown to diffusers: CLIP
    without `text_model.`, and SD 2.x in the layout of SDXL's programs.
    """
    renamed = {}
    text = checkpoint.get(f"{_OPEN_CLIP_SGM}token_embedding.weight")
    sgm = text is not None and text.shape[-1] == _SD2_TEXT_WIDTH
    for key, tensor in checkpoint.items():
        if key.startswith("model_ema."):
            continue
        name = key
        if key.startswith(_CLIP) and not key.startswith(f"{_CLIP}text_"):
            name = f"{_CLIP}text_model.{key.removeprefix(_CLIP)}"
        elif sgm and key.startswith(_OPEN_CLIP_SGM):
            name = _OPEN_CLIP + key.removeprefix(_OPEN_CLIP_SGM)
        renamed[name] = tensor
    return renamed
