"""Image formats as settings of a run: what a plan chooses must be installed where it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdbatch.dataset.encoders import missing
from sdbatch.errors import JobError
from sdbatch.output_specs import FAST, ImageSpec
from sdbatch.plan.image_settings import FORMAT, image_spec, with_images
from sdbatch.plan.settings import Resolved


def chosen_images(resolved: Resolved, standing: Mapping[str, Any]) -> Resolved:
    """The settings with everything said of image files.

    How PNG is written is chosen here once, so that all workers write alike.

    Args:
        resolved: What was asked.
        standing: Settings of the plan that stands; empty for a new one.

    Raises:
        JobError: A format does not have such a setting, or its encoder is not installed.
    """
    fast_png = not missing(ImageSpec(png_level=FAST))
    resolved = with_images(resolved, standing, fast_png)
    planned = standing or resolved.values()
    if lacks := missing(image_spec(planned)):
        setting = resolved.settings[FORMAT]
        raise JobError(f"{setting.source}: {FORMAT}: {planned[FORMAT]}: {lacks}")
    return resolved
