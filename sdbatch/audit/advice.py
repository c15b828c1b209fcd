"""What to do about a kind of failure: one line of advice and, where it helps, a command.

A retry draws a row from its own seed again, so it helps against what the machine did and not
against what the row asks for. Where the same request must give the same fault, the advice
says what to change first.
"""

from __future__ import annotations

import shlex

MACHINE, SEED, REQUEST, UNKNOWN = "machine", "seed", "request", "unknown"

_KINDS = {
    "DeviceMemoryError": (MACHINE, "the device ran out of memory: retry with fewer lanes or a "
                                   "device of its own (--batch-size, or a larger device)"),
    "OutOfMemoryError": (MACHINE, "the device ran out of memory: retry on a larger device"),
    "MemoryError": (MACHINE, "the host ran out of memory: retry on a machine with more"),
    "WorkerKilled": (MACHINE, "its process died twice while it was drawn alone; see: "
                              "sdbatch logs {out} --level warning --session all"),
    "NonFiniteError": (SEED, "numbers ran over: the same seed gives the same fault, so draw it "
                             "from another one; many of them ask for --dtype float32"),
    "BlackImageError": (SEED, "the same seed gives the same black picture, so draw it from "
                              "another one; many of them ask for --dtype float32"),
    "ManifestError": (REQUEST, "the row cannot be drawn as written: correct it in the manifest "
                               "and render it into another output"),
    "ModelError": (REQUEST, "the model cannot draw what the row asks for: correct the row, or "
                            "name another model for another output"),
    "SchedulerNotLinearError": (REQUEST, "this scheduler cannot be drawn: name another in the "
                                         "manifest, see: sdbatch manifest --help"),
}  # fmt: skip
_UNKNOWN = (UNKNOWN, "draws the same rows again from the same seeds")


def advice_for(error_type: str, out: str, run: str = "main") -> tuple[str, str]:
    """(advice, command) for failures of a type; no command where the input must change."""
    kind, advice = _KINDS.get(error_type, _UNKNOWN)
    advice = advice.replace("{out}", shlex.quote(out))
    if kind == REQUEST:
        return advice, ""
    command = ["sdbatch", "retry", out, "--error-type", error_type]
    if run != "main":
        command += ["--run", run]
    return advice, shlex.join([*command, "--reseed", "1"] if kind == SEED else command)
