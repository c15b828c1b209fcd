"""Everything sdbatch raises on purpose, in four arms by who must act.

    SdbatchError
    ├── InputError            the user: a manifest, a flag, a job file, a model name      exit 2
    │   ├── ManifestError         a row cannot be rendered as written
    │   ├── ManifestRowsError     several rows cannot
    │   ├── JobError              an unknown key or an impossible value
    │   ├── ModelError            the model is not there or not what it claims to be
    │   ├── PlanChangedError      the folder holds another job
    │   └── InputPictureError     a row points to a picture that cannot be used
    │       └── InputUnreachableError   it cannot be fetched now, and may be later
    ├── StorageError          the bucket or disk                                          exit 3
    │   ├── ObjectNotFoundError   a key that should be there is not
    │   ├── CommitUnknownError    a write whose outcome nobody knows: nothing is deleted
    │   ├── DamagedError          bytes differ from what their record says
    │   ├── StoreAccessError      the store refuses: no credentials, no right, no bucket
    │   ├── StoreNotSharedError   a worker does not see the output
    │   ├── LocalDiskError        the disk of one node: another worker may go on
    │   └── LocalFileError        a local file that is to be stored is not there
    ├── RenderError           the model or the device                                     exit 4
    │   ├── DeviceMemoryError     out of memory
    │   ├── NonFiniteError        NaN or infinity in latents
    │   ├── BlackImageError       a picture without a single bit of light
    │   └── SchedulerNotLinearError   a scheduler that is no table
    ├── EngineError           the cluster                                                 exit 5
    │   ├── NoWorkersError        no worker came up, or none stayed up
    │   └── LeaseHeldError        another driver is at work on this folder
    └── StoppedError          nobody: the same command resumes                            exit 75

Facts are attributes; the text says where, what is wrong and what would be right,
in one line. Every constructor hands all of its arguments to `Exception`, or an
instance would not survive pickling on its way out of a Ray actor.
"""

from __future__ import annotations


class SdbatchError(Exception):
    """Root of the tree; `exit_code` is what the command line returns."""

    exit_code = 1
    retryable = False


class StoppedError(SdbatchError):
    """Somebody asked for an end, and there is nothing else to tell: resumable."""

    exit_code = 75


class InputError(SdbatchError):
    """The user must act: nothing was written."""

    exit_code = 2


class ManifestError(InputError):
    """A manifest row, or the manifest itself, cannot be rendered as written.

    Attributes:
        file: Manifest file as the user named it.
        row: Position in the manifest, from 0; -1 when the whole file is meant.
        column: Column at fault; empty when the whole row or file is meant.
        value: Offending value, as text; empty when there is none to show.
        reason: What is wrong and what would be right.
    """

    def __init__(self, file: str, row: int, column: str, value: str, reason: str) -> None:
        super().__init__(file, row, column, value, reason)
        self.file, self.row, self.column = file, row, column
        self.value, self.reason = value, reason

    def __str__(self) -> str:
        place = self.file
        if self.row >= 0:
            place += f", row {self.row}"
        if self.column:
            place += f", column '{self.column}'"
        shown = f"{self.value}: " if self.value else ""
        return f"{place}: {shown}{self.reason}"


class ManifestRowsError(InputError):
    """Several rows cannot be rendered: the first ones named, all counted."""

    def __init__(self, problems: tuple[ManifestError, ...], total: int) -> None:
        super().__init__(problems, total)
        self.problems, self.total = problems, total

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        if self.total > len(lines):
            lines.append(
                f"... and {self.total - len(lines):,} more; --report FILE writes all of them down"
            )
        return "\n".join(lines)


class JobError(InputError):
    """A job key or flag is unknown or has an impossible value."""


class ModelError(InputError):
    """The model cannot be found, or is not what its name promises."""


class ModelUnreachableError(ModelError):
    """Network, store or disk failed while a model was fetched: a later try may succeed."""

    retryable = True


WEIGHTS = "model.revision"
"""A setting that no option names: other weights lie where the planned ones did."""


class PlanChangedError(InputError):
    """The output folder holds another job.

    Attributes:
        output: The folder.
        changes: (setting, was, now) for each explicit difference.
    """

    def __init__(self, output: str, changes: tuple[tuple[str, str, str], ...]) -> None:
        super().__init__(output, changes)
        self.output, self.changes = output, changes

    def __str__(self) -> str:
        table = "; ".join(f"{name}: was {was}, now {now}" for name, was, now in self.changes)
        ways = []
        if any(name == WEIGHTS for name, _, _ in self.changes):
            ways.append("put the planned weights back under the model's name")
        if any(name != WEIGHTS for name, _, _ in self.changes):
            ways.append("drop these options")
        return (
            f"{self.output} holds another job ({table}): "
            f"{' and '.join(ways)} to resume it, or name another output folder"
        )


class InputPictureError(InputError):
    """A picture that a row points to may not be fetched, is not there, or is no picture.

    Attributes:
        uri: As the row names it.
        reason: What is wrong, or which rule refuses it.
    """

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(uri, reason)
        self.uri, self.reason = uri, reason

    def __str__(self) -> str:
        # What follows a question mark may be a signature, what precedes an @ a password.
        place = self.uri.partition("?")[0]
        scheme, mark, rest = place.partition("://")
        host, slash, path = rest.partition("/")
        place = f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else place
        place = place if len(place) <= 200 else f"{place[:197]}..."
        return f"{place!a}: {self.reason}"


class InputUnreachableError(InputPictureError):
    """The network, a server or a bucket failed: a later try may succeed."""

    retryable = True


class StorageError(SdbatchError):
    """The bucket or disk must be looked at; the run is resumable."""

    exit_code = 3
    retryable = True


class ObjectNotFoundError(StorageError):
    """No object at that key."""

    retryable = False

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"{self.key}: no such object"


class CommitUnknownError(StorageError):
    """Whether a create-once write landed is unknown; nothing may be deleted."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"{self.key}: outcome of the write unknown ({self.reason}); run the command again"


class DamagedError(StorageError):
    """Bytes in storage differ from what was written there."""

    retryable = False

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"{self.key}: damaged, {self.reason}"


class StoreAccessError(StorageError):
    """The store answers and refuses: trying again is no help, somebody must act."""

    retryable = False


class StoreNotSharedError(StorageError):
    """A worker writes somewhere the driver cannot see."""

    retryable = False

    def __init__(self, node: str, url: str) -> None:
        super().__init__(node, url)
        self.node, self.url = node, url

    def __str__(self) -> str:
        return f"node {self.node} does not see {self.url}: use a shared folder or an object store"


class LocalDiskError(StorageError):
    """The disk that a worker spools to is full or cannot be used; other nodes may be well.

    Attributes:
        node: Host it belongs to.
        path: What could not be written, or the folder without room.
        reason: What the system says, or what is there and what is needed.
    """

    def __init__(self, node: str, path: str, reason: str) -> None:
        super().__init__(node, path, reason)
        self.node, self.path, self.reason = node, path, reason

    def __str__(self) -> str:
        return (
            f"node {self.node}, {self.path}: {self.reason}: a worker needs local disk for about "
            "four shards, free some, point TMPDIR to a larger disk or use smaller shards"
        )


class LocalFileError(StorageError):
    """A local file that is to be stored cannot be opened; the store is not at fault.

    Attributes:
        path: The local file.
        reason: What the system says.
    """

    retryable = False

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}: this local file was to be stored, nothing was written"


class RenderError(SdbatchError):
    """The model or the device must be looked at."""

    exit_code = 4


class DeviceMemoryError(RenderError):
    """The device has no memory left for a pass."""

    retryable = True


class NonFiniteError(RenderError):
    """NaN or infinity where a picture should be."""


class BlackImageError(RenderError):
    """A picture whose every value is 0."""


class SchedulerNotLinearError(RenderError):
    """A scheduler whose update is not linear in state, output and noise.

    Attributes:
        scheduler: Its class name.
        residual: Largest relative error of the best table; inf when none was found.
        reason: Which check refused it.
    """

    def __init__(self, scheduler: str, residual: float, reason: str) -> None:
        super().__init__(scheduler, residual, reason)
        self.scheduler, self.residual, self.reason = scheduler, residual, reason

    def __str__(self) -> str:
        return f"{self.scheduler} is no table ({self.reason}, residual {self.residual:.1e})"


class EngineError(SdbatchError):
    """The cluster must be looked at; the run is resumable."""

    exit_code = 5


class NoWorkersError(EngineError):
    """No worker came up within the time allowed, or all fail before they can draw."""


class LeaseHeldError(EngineError):
    """Another driver is at work on this output."""
