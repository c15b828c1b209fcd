"""The door to scoring a dataset that stands; what the command line calls too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import gettempdir

from sdbatch.engine.driver_loop import Stop
from sdbatch.engine.own_folder import own_folder
from sdbatch.engine.request import scores_of
from sdbatch.engine.session import Reporter
from sdbatch.engine.signals import stop_on_signals
from sdbatch.errors import InputError
from sdbatch.model_specs import ScorerSpec
from sdbatch.render.judges.scorer_facts import find_scorers
from sdbatch.render.judges.scorers import load_panel
from sdbatch.storage.runs import choose_runs
from sdbatch.storage.score_records import score_names, scorer_of
from sdbatch.storage.store import Store, open_store
from sdbatch.transfer.scores import ScoreSummary, Scoring, known_columns


def score(
    out: str | Path,
    *,
    score: Sequence[str] | Mapping[str, str] = (),
    safety: str = "none",
    batch_size: int | None = None,
    device: str = "",
    run: str | None = None,
    report: Reporter | None = None,
) -> ScoreSummary:
    """Judge the pictures of a dataset that have no such score yet; nothing else changes.

    Scores stand in `scores/NAME/` by key, and `export` joins them. A second call scores only
    what is new: after an end on the way, a retry, or an appended run.

    Args:
        out: Folder or URL of the dataset, finished or not.
        score: `NAME=MODEL`, once or more often: a CLIP, SigLIP or aesthetic model.
        safety: Model of the safety checker, or `none`.
        batch_size: Pictures at a time; None chooses by device. It decides last digits.
        device: As torch calls it; empty for the GPU, where there is one.
        run: Only this run; None for all of them.
        report: Told how it goes; None is silent.

    Raises:
        InputError: There is no run or scorer, or a name stands for another model.
        StorageError: The output failed, or a picture is damaged; the same call goes on.
    """
    specs = find_scorers(scores_of(score), safety)
    if not specs:
        raise InputError("nothing to score with: add --score clip=MODEL, or --safety MODEL")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"--batch-size {batch_size}: a whole number from 1")
    store = open_store(out)
    _demand_apart(store, specs)
    runs = choose_runs(store, run)
    for each in runs:  # before models are loaded, which takes minutes
        known_columns(store, specs, each)
    note = report.note if report else _unheard
    stop = Stop()
    with ExitStack() as keep:
        keep.enter_context(stop_on_signals(stop, note))
        panel = load_panel(specs, batch_size=batch_size or 0, device=device)
        assert panel is not None
        for spec in specs:
            shown = ", ".join(spec.columns)
            note(f"{shown}: {spec.kind} model {spec.model}, revision {spec.revision[:12]}")
        folder = keep.enter_context(own_folder("sdbatch-score-", Path(gettempdir())))
        scoring = Scoring(store, specs, panel, folder, stop, note)
        return scoring.run(runs)


def _demand_apart(store: Store, specs: Sequence[ScorerSpec]) -> None:
    """Refuse two scorers that give one column.

    Raises:
        InputError: They do.
    """
    asked = {spec.name: spec.columns for spec in specs}
    standing = {
        name: tuple(map(str, (scorer_of(store, name) or {}).get("columns", ())))
        for name in score_names(store)
        if name not in asked
    }
    owner: dict[str, str] = {}
    for name, columns in (standing | asked).items():
        for column in columns:
            if column in owner:
                raise InputError(
                    f"--score {name}: column '{column}' is also given by '{owner[column]}', "
                    f"give it another name, such as {name}2"
                )
            owner[column] = name


def _unheard(_line: str) -> None:
    """Nobody listens."""
