"""What a checkpoint's UNet predicts, the noise or the velocity, told without running it.

The two have equal names and shapes, so the files say it elsewhere: in marker tensors, in
metadata (https://github.com/Stability-AI/ModelSpec), in a configuration beside them as A1111
reads it; for SD 2.x, which has none of these, one layer of the trained UNet tells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from sdbatch.errors import ModelError
from sdbatch.render.weights.safetensors_header import Header
from sdbatch.render.weights.single_file_kind import SD21, UNET, Kind

EPSILON, VELOCITY = "epsilon", "v_prediction"
_TELLING = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"
_TELLING_NUMBERS = 4096
_TELLING_STD = 0.09
"""ComfyUI's rule for SD 2.x: the spread of this layer is larger where the velocity is predicted."""
_MARKS_VELOCITY, _MARKS_ZERO_SNR = "v_pred", "ztsnr"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the UNet predicts.

    Attributes:
        type: As a scheduler's `prediction_type` has it.
        zero_snr: It was trained down to pure noise, as Lin and others have it
            (arXiv:2305.08891).
    """

    type: str
    zero_snr: bool = False


def prediction_of(name: str, header: Header, kind: Kind) -> Prediction:
    """What a checkpoint predicts: by its markers, else metadata, else configuration, else family.

    Raises:
        ModelError: The configuration beside it cannot be read.
    """
    if _MARKS_VELOCITY in header.tensors:
        return Prediction(VELOCITY, _MARKS_ZERO_SNR in header.tensors)
    said = _said(name, header)
    if said:
        return Prediction(said, _MARKS_ZERO_SNR in header.tensors)
    if kind is SD21 and _spread(header) > _TELLING_STD:
        return Prediction(VELOCITY)
    return Prediction(EPSILON, _MARKS_ZERO_SNR in header.tensors)


def _said(name: str, header: Header) -> str:
    """What metadata, or a file `STEM.yaml` beside the checkpoint, say; empty for nothing."""
    metadata = header.metadata
    type_ = metadata.get("modelspec.prediction_type", "").lower()
    if type_ in ("v", "v_prediction", "v-prediction", "vpred"):
        return VELOCITY
    if type_ in ("epsilon", "eps"):
        return EPSILON
    if metadata.get("modelspec.architecture", "").endswith("-v"):  # stable-diffusion-v2-768-v
        return VELOCITY
    if metadata.get("ss_v_parameterization", "").lower() == "true":  # kohya's trainer
        return VELOCITY
    return _said_beside(name, header.path.with_suffix(".yaml"))


def _said_beside(name: str, path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        said = found["model"]["params"].get("parameterization")
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"model {name}: {path} cannot be read: {reason}") from error
    except (TypeError, KeyError, AttributeError):
        return ""  # some other program's file
    return {"v": VELOCITY, "eps": EPSILON}.get(str(said), "")


def _spread(header: Header) -> float:
    """Standard deviation of the layer that tells; 0 where it cannot be read."""
    small = math.prod(header.shape(_TELLING)) <= _TELLING_NUMBERS  # it is no place for gigabytes
    numbers = header.numbers(_TELLING) if _TELLING in header.tensors and small else None
    return 0.0 if numbers is None or numbers.size == 0 else float(np.std(numbers))
