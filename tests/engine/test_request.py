"""What a caller asked: layers named as people typed them, and where the prompts are."""

import pytest

from sdbatch.engine.request import layers, own_folder, read_job_file, seconds_of, source_of
from sdbatch.errors import InputError, JobError
from sdbatch.job import ask


def asked(**options):
    return ask(layers(options.pop("manifest", None), options.pop("out", None), options))


def test_flags_beat_set_and_set_beats_the_job_file(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("seed: 1\nlimit: 10\nrender:\n  dtype: float32\n")
    job = asked(job=str(path), settings=["seed=2", "limit=20"], seed=3)

    assert (job.value("seed"), job.value("limit"), job.value("render.dtype")) == (3, 20, "float32")
    assert job.sources["seed"] == "--seed"
    assert job.sources["limit"] == "--set"
    assert job.sources["render.dtype"] == f"job file {path}"


def test_positionals_override_a_job_files_keys(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text("manifest: a.parquet\noutput: x\n")

    job = asked(job=str(path), manifest="b.parquet", out="y")
    assert (job.value("manifest"), job.value("output")) == ("b.parquet", "y")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172800)]
)
def test_times_are_written_with_a_unit_or_in_seconds(text, seconds):
    assert seconds_of(text, "--x") == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3m", "3 weeks"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(JobError, match=r"--x: .*30m"):
        seconds_of(text, "--x")


@pytest.mark.parametrize(("size", "pair"), [("64x32", (64, 32)), ("512X768", (512, 768))])
def test_a_size_is_width_by_height(size, pair):
    job = asked(size=size)

    assert (job.value("defaults.width"), job.value("defaults.height")) == pair


@pytest.mark.parametrize("setting", ["novalue", "=3", "seed=[1,"])
def test_a_malformed_set_is_refused(setting):
    with pytest.raises(JobError, match="--set"):
        asked(settings=[setting])


@pytest.mark.parametrize(
    ("text", "reason"), [("a: [", "YAML"), ("just words", "must hold keys"), ("- 1", "must hold")]
)
def test_a_job_file_that_is_none_is_refused(tmp_path, text, reason):
    path = tmp_path / "job.yaml"
    path.write_text(text)

    with pytest.raises(JobError, match=reason):
        read_job_file(path)


def test_prompts_and_a_manifest_together_are_refused():
    with pytest.raises(InputError, match="not both"):
        source_of("m.parquet", ["a"], asked(manifest="m.parquet"))


def test_the_same_prompts_find_the_same_folder_and_others_another():
    def folder(*prompts, **options):
        job = asked(**options)
        return own_folder(source_of(None, prompts, job), job)

    assert folder("a", "b") == folder("a", "b", workers=2)
    assert folder("a", "b") != folder("b", "a")
    assert folder("a", seed=1) != folder("a", seed=2)
    assert len({folder("a"), folder("a", vae="one"), folder("a", vae="two")}) == 3


def test_free_form_keys_may_be_set_one_by_one():
    job = asked(settings=["storage.key=abc", "defaults.scheduler_config.eta=0.5"])

    assert job.value("storage") == {"key": "abc"}
    assert job.value("defaults.scheduler_config") == {"eta": 0.5}


def test_a_manifest_needs_a_named_output():
    job = asked(manifest="m.parquet")

    with pytest.raises(InputError, match="no output"):
        own_folder(source_of("m.parquet", None, job), job)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [(8, 1, 8), ("8", 1, 8), ("2:8", 2, 8), ("2:auto", 2, "auto"), ("auto", 1, "auto")],
)
def test_workers_are_a_number_a_range_or_auto(text, least, most):
    job = asked(workers=text)

    assert (job.value("workers.min"), job.value("workers.max")) == (least, most)


@pytest.mark.parametrize("text", ["0", "8:2", "0:4", "a:b", "2:", ":2", "-1", "1.5", "none"])
def test_what_is_no_number_of_workers_is_refused(text):
    with pytest.raises(JobError, match="--workers"):
        asked(workers=text)


def test_a_minimum_above_the_maximum_of_another_layer_is_refused():
    with pytest.raises(JobError, match="the minimum is 4, above the maximum 2"):
        asked(settings=["workers.min=4"], workers=2)


def test_limits_on_failures_have_flags():
    job = asked(allow_failed="1%", stop_after_failed=7)

    assert (job.value("failures.allow"), job.value("failures.stop_after")) == ("1%", "7")
    assert job.sources["failures.allow"] == "--allow-failed"


def test_no_speculation_is_a_key_as_well():
    assert asked().value("speculate") is True
    assert asked(speculate=False).sources["speculate"] == "--no-speculate"
