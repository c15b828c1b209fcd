"""A loaded model in this process: rows in, pictures out, no files and no cluster.

For notebooks and for programs that want a picture now. Rows of any mix of settings share
the lanes exactly as they do in a run, and a row gives the same pixels as it does there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sdbatch.errors import ManifestRowsError
from sdbatch.manifest.faults import Faults, Limits, find_faults
from sdbatch.manifest.freeze import as_table
from sdbatch.manifest.schema import read_columns
from sdbatch.plan.rows import Resolving, resolve_rows
from sdbatch.records import ModelFacts, RenderedImage, RenderEnv, RenderRow, RowFailure
from sdbatch.render.protocol import Renderer

NAME = "rows"


class Model:
    """A model that is ready to draw.

    Attributes:
        facts: What it is: revision, defaults, limits.
    """

    def __init__(self, facts: ModelFacts, renderer: Renderer, limits: Limits) -> None:
        self.facts = facts
        self._renderer = renderer
        self._limits = limits

    @property
    def env(self) -> RenderEnv:
        """What it runs on."""
        return self._renderer.env

    def stream(
        self, rows: Iterable[Mapping[str, Any] | str], *, seed: int = 0
    ) -> Iterator[RenderedImage | RowFailure]:
        """Draw rows as they come and yield finished pictures, in any order.

        Rows are pulled while earlier ones are being drawn, so an endless iterable is fine.

        Args:
            rows: Prompts, or dicts with a manifest's columns (`prompt`, `seed`, `width`, ...).
                Columns that are not read are ignored.
            seed: For rows without a seed of their own.

        Raises:
            ManifestRowsError: A row cannot be drawn as written; those before it were yielded
                or are dropped.
        """
        return self._renderer.render(self._pictures(rows, seed))

    def _pictures(self, rows: Iterable[Mapping[str, Any] | str], seed: int) -> Iterator[RenderRow]:
        how = Resolving(
            manifest=NAME,
            defaults=self.facts.defaults,
            seed=seed,
            hash_rows=True,
            occurrences={},
            model_revision=self.facts.revision,
        )
        for position, row in enumerate(rows):
            table = as_table([{"prompt": row} if isinstance(row, str) else row], NAME)
            columns = read_columns(NAME, table.schema)
            faults = Faults(NAME)
            find_faults(table.select(columns.canonical), position, self._limits, faults)
            if faults.total:
                raise ManifestRowsError(faults.first(), faults.total)
            yield from resolve_rows(table, [position], how)
