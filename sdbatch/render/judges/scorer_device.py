"""Where scorers compute: the device, its own stream, and how their folders are loaded.

A scorer works beside the model that draws: on a GPU in a stream of its own, on a CPU in its
own thread. Numbers are float32 everywhere. Folders are read from disk alone: no network, no
code from the model, weights only as safetensors, and none of them missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from sdbatch.errors import DeviceMemoryError, InputError, ModelError
from sdbatch.render.accelerators import (
    AUTO,
    CPU,
    KINDS,
    choose_device,
    device_name,
    devices_here,
)
from sdbatch.render.device import (
    PASS_ERRORS,
    be_exact,
    free_memory,
    is_out_of_memory,
    use_threads,
)
from sdbatch.render.diffusers_folder import quiet
from sdbatch.render.processor import processor_name

if TYPE_CHECKING:
    from sdbatch.render.judges.scorers import Panel

GPU_BATCH, CPU_BATCH = 16, 4


class ScorerDevice:
    """A device that scorers share.

    Args:
        device: As torch calls it; empty for the GPU, where there is one.
        cpu_threads: Threads on a CPU.

    Raises:
        InputError: There is no such device.
    """

    fatal: tuple[type[BaseException], ...] = (torch.AcceleratorError,)
    """What says that the device itself has failed."""

    def __init__(self, device: str = "", cpu_threads: int = 1) -> None:
        be_exact()
        try:
            plain = device in ("", CPU, *KINDS)
            self.device = choose_device(device or AUTO) if plain else torch.device(device)
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as error:
            here = " or ".join(devices_here())
            raise InputError(f"--device {device}: cannot be used, name {here}") from error
        self._cpu_threads = cpu_threads
        on_gpu = self.device.type == "cuda"
        self._stream = (
            torch.cuda.Stream(self.device) if on_gpu else None  # type: ignore[no-untyped-call]
        )
        self.name = device_name(self.device) or processor_name()
        self.batch_size = CPU_BATCH if self.device.type == CPU else GPU_BATCH

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute in the scorers' stream, exactly, and wait for the end of it."""
        use_threads(self._cpu_threads)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            yield
            if self._stream is not None:
                self._stream.synchronize()

    def load(self, asked: str, kind: Any, folder: Path, **options: Any) -> Any:
        """A model of `transformers`, in float32 on the device.

        Raises:
            ModelError: The folder does not hold all of it.
            DeviceMemoryError: It does not fit.
        """
        wanted = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
        try:
            with quiet():
                model, found = kind.from_pretrained(
                    folder, dtype=torch.float32, **wanted, **options
                )
            missing = [*found["missing_keys"], *map(str, found["mismatched_keys"])]
            if missing:
                raise ModelError(f"scorer {asked}: {folder} lacks {len(missing)} weights")
            return model.to(self.device).requires_grad_(False).eval()
        except ModelError:
            raise
        except Exception as error:  # each file format has errors of its own
            raise _unusable(asked, folder, error) from error

    def processor(self, asked: str, kind: Any, *folders: Path) -> Any:
        """A tokenizer or image processor of the first folder that has it.

        Raises:
            ModelError: None has.
        """
        for folder in folders:
            try:
                with quiet():
                    return kind.from_pretrained(folder, local_files_only=True)
            except PASS_ERRORS as error:
                last = _unusable(asked, folder, error)
        raise last

    def pixels(
        self, processor: Any, pictures: Sequence[NDArray[np.uint8]]
    ) -> Mapping[str, torch.Tensor]:
        """Pictures `[H, W, 3]` as a model takes them, by the processor's own settings."""
        made = processor(
            images=list(pictures), return_tensors="pt", input_data_format="channels_last"
        )
        return {name: value.to(self.device) for name, value in made.items()}

    def try_out(self, panel: Panel) -> None:
        """Judge a batch of nothing, so that what cannot run is known before the first row.

        Raises:
            ModelError: A scorer cannot run as it is.
            DeviceMemoryError: A batch does not fit.
        """
        blank = np.zeros((64, 64, 3), np.uint8)
        for scorer in panel.scorers:
            try:
                scorer.score([blank] * panel.batch_size, ["a"] * panel.batch_size)
            except PASS_ERRORS as error:
                if is_out_of_memory(error):
                    raise DeviceMemoryError(f"out of memory for scorer {scorer.name}") from error
                raise ModelError(
                    f"scorer {scorer.name}: cannot run: {type(error).__name__}: {_line(error)}"
                ) from error


def again_with_memory(work: Any) -> Any:
    """Call a method once more when memory ran out that torch held for others."""

    def call(*args: Any) -> Any:
        try:
            return work(*args)
        except PASS_ERRORS as error:
            if not is_out_of_memory(error):
                raise
        free_memory()
        return work(*args)

    return call


def _unusable(asked: str, folder: Path, error: BaseException) -> Exception:
    if is_out_of_memory(error):
        return DeviceMemoryError(f"out of memory while loading scorer {asked}")
    pickled = any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))
    if pickled:
        return ModelError(
            f"scorer {asked}: {folder} has only .bin weights, which can run code when opened: "
            "save it again with save_pretrained(...)"
        )
    return ModelError(f"scorer {asked}: {folder} cannot be loaded: {_line(error)}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


IMAGES, TOKENS = transformers.AutoImageProcessor, transformers.AutoTokenizer
