"""The error tree: four arms, exit codes, and messages that survive a process border."""

import inspect
import pickle

import pytest

from sdbatch import errors

EXAMPLES = [
    errors.ManifestError("m.parquet", 7, "width", "511", "must be a multiple of 8"),
    errors.ManifestRowsError((errors.ManifestError("m", 1, "prompt", "", "is null"),), 9),
    errors.JobError("no such key"),
    errors.ModelError("no such model"),
    errors.ModelUnreachableError("model org/name: the Hub answers 503"),
    errors.ModelUnreachableError("the Hub does not answer"),
    errors.PlanChangedError("out", (("steps", "12", "20"),)),
    errors.InputPictureError("https://u:p@host/a.png?sig=1", "is no picture"),
    errors.InputUnreachableError("https://host/a.png", "the server answers 503"),
    errors.ObjectNotFoundError("data/x"),
    errors.CommitUnknownError("commits/x", "timed out"),
    errors.DamagedError("data/x", "hash differs"),
    errors.StoreNotSharedError("node7", "/mnt/out"),
    errors.StoreAccessError("s3://bucket: no such bucket"),
    errors.LocalDiskError("node7", "/tmp/spool", "No space left on device"),
    errors.LocalFileError("/tmp/x", "No such file or directory"),
    errors.DeviceMemoryError("no memory for 16 lanes of 64x64"),
    errors.NonFiniteError("NaN in latents"),
    errors.BlackImageError("all black"),
    errors.SchedulerNotLinearError("UniPC", 0.25, "clips"),
    errors.NoWorkersError("none came up"),
    errors.LeaseHeldError("pid 3 on host a"),
    errors.StoppedError("SIGTERM received before anything was begun"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_its_text_and_facts(error):
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error) or repr(vars(copy)) == repr(vars(error))


def test_every_concrete_error_is_among_the_examples():
    arms = {"SdbatchError", "InputError", "StorageError", "RenderError", "EngineError"}
    tree = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.SdbatchError)
    }

    assert tree - arms == {type(error).__name__ for error in EXAMPLES}


@pytest.mark.parametrize(
    ("arm", "code"),
    [
        (errors.SdbatchError, 1),
        (errors.InputError, 2),
        (errors.StorageError, 3),
        (errors.RenderError, 4),
        (errors.EngineError, 5),
    ],
)
def test_each_arm_has_one_exit_code(arm, code):
    assert {error.exit_code for error in EXAMPLES if isinstance(error, arm) and arm.exit_code} <= {
        code
    } or arm is errors.SdbatchError
    assert arm.exit_code == code


def test_a_manifest_error_names_file_row_column_value_and_remedy():
    error = errors.ManifestError("m.parquet", 7, "width", "511", "must be a multiple of 8")

    assert str(error) == "m.parquet, row 7, column 'width': 511: must be a multiple of 8"


@pytest.mark.parametrize(
    ("changed", "way"),
    [
        (("steps",), "drop these options to resume it"),
        (("model.revision",), "put the planned weights back under the model's name to resume it"),
        (("model.revision", "steps"), "back under the model's name and drop these options to"),
    ],
)
def test_another_job_is_refused_with_what_would_resume_the_one_that_stands(changed, way):
    error = errors.PlanChangedError("out", tuple((name, "was", "is") for name in changed))

    assert way in str(error)
    assert ("options" in str(error)) == ("steps" in changed)


def test_many_manifest_errors_are_counted_beyond_the_first_ones():
    first = errors.ManifestError("m", 1, "prompt", "", "is null")
    lines = str(errors.ManifestRowsError((first,), 3)).splitlines()

    assert lines[1] == "... and 2 more; --report FILE writes all of them down"


def test_an_input_picture_is_named_without_password_and_signature():
    error = errors.InputPictureError("https://me:pw@host/a@b.png?X-Amz-Signature=abc", "is long")

    assert str(error) == "'https://host/a@b.png': is long"
