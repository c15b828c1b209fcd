"""Whole pipelines draw what they draw alone, whoever shares their calls and whatever fails."""

import diffusers
import numpy as np
import pytest
import torch

from sdbatch.errors import DeviceMemoryError, RenderError
from sdbatch.model_specs import RenderEnv, RenderSpec
from sdbatch.render.diffusers_folder import quiet
from sdbatch.render.loading import load_renderer
from sdbatch.render.pipelines.pipeline_renderer import PipelineRenderer, places_of
from sdbatch.render.schedulers import scheduler_setting
from sdbatch.render.weights.model_facts import find_model
from sdbatch.results import RenderedImage, RowFailure
from tests.render import tiny_pipelines
from tests.render.drawing import make_row, pictures

LANES = 6
KINDS = {
    "ddpm": tiny_pipelines.save_ddpm,
    "ldm": tiny_pipelines.save_ldm,
    "ldm_text": tiny_pipelines.save_ldm_text,
    "dit": tiny_pipelines.save_dit,
    "kandinsky": tiny_pipelines.save_kandinsky,
    "lumina2": tiny_pipelines.save_lumina2,
    "auraflow": tiny_pipelines.save_auraflow,
    "hunyuan": tiny_pipelines.save_hunyuan,
    "sprint": tiny_pipelines.save_sprint,
}


class Loaded:
    """A tiny model: its renderer, and diffusers' own pipeline around the same weights."""

    def __init__(self, kind, folder):
        KINDS[kind](folder)
        self.kind, self.facts = kind, find_model(str(folder))
        spec = RenderSpec(str(folder), str(folder), "", "auto", {"*": LANES}, 1)
        self.renderer = load_renderer(spec, [])
        with quiet():
            self.pipe = diffusers.DiffusionPipeline.from_pretrained(folder)
        self.pipe.set_progress_bar_config(disable=True)

    def row(self, index, **changes):
        usual = self.facts.defaults
        fixed = "defaults.width" in self.facts.only
        said = {
            "width_px": usual.width if fixed else 32,
            "height_px": usual.height if fixed else 32,
            "guidance_scale": usual.guidance_scale,
            "scheduler": usual.scheduler,
            "num_inference_steps": 2,
            "prompt": ("goldfish", "Tinca tinca")[index % 2]
            if self.kind == "dit"
            else ("a red circle", "two small green stars on white, seen from afar")[index % 2],
        }
        return make_row(index, **said | changes)

    def alone(self, row, lanes):
        """The pipeline called as its documentation shows, as often as a call has places."""
        places = places_of(row, lanes)
        told = {"num_inference_steps": row.num_inference_steps, "output_type": "pil"}
        generators = [torch.Generator().manual_seed(row.seed) for _ in range(places)]
        told["generator"] = generators if places > 1 else generators[0]
        if self.kind in ("ddpm", "ldm"):
            told["batch_size"] = places
        elif self.kind == "dit":
            told["class_labels"] = self.pipe.get_label_ids([row.prompt] * places)
        else:
            told["prompt"] = [row.prompt] * places if places > 1 else row.prompt
            told |= {"width": row.width_px, "height": row.height_px}
        if self.kind not in ("ddpm", "ldm"):
            told["guidance_scale"] = row.guidance_scale
        if row.negative_prompt:
            negative = row.negative_prompt
            told["negative_prompt"] = [negative] * places if places > 1 else negative
        if self.kind in ("hunyuan", "sprint"):
            told["use_resolution_binning"] = False
        if self.kind == "sprint" and row.num_inference_steps != 2:
            told["intermediate_timesteps"] = None
        config = dict(self.pipe.scheduler.config)
        setting = scheduler_setting(row.scheduler, config, {}, 1)
        self.pipe.scheduler = getattr(diffusers, row.scheduler).from_config(dict(setting.config))
        with quiet():
            images = self.pipe(**told).images
        return np.asarray(images[0])


@pytest.fixture(scope="module", params=KINDS)
def loaded(request, tmp_path_factory):
    return Loaded(request.param, tmp_path_factory.mktemp(request.param) / request.param)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of parts that Kandinsky calls out of date
def test_a_row_is_what_its_pipeline_draws_alone_at_the_same_lanes(loaded):
    rows = [loaded.row(i, num_inference_steps=2 + i // 4) for i in range(5)]
    drawn = {}
    for result in loaded.renderer.render(iter(rows)):
        assert isinstance(result, RenderedImage), result
        drawn[result.row.row_index] = result
    for row in rows:
        result = drawn[row.row_index]
        assert np.array_equal(result.pixels, loaded.alone(row, result.num_lanes)), row


def test_pixels_do_not_depend_on_who_shares_a_call(loaded):
    rows = [loaded.row(i) for i in range(4)]
    together = pictures(loaded.renderer.render(iter(rows)))
    backwards = pictures(loaded.renderer.render(iter(rows[::-1])))
    alone = pictures(loaded.renderer.render(iter(rows[2:3])))
    assert all(np.array_equal(together[i], backwards[i]) for i in together)
    assert np.array_equal(alone[2], together[2])
    assert not np.array_equal(together[1], together[2])


def load(kind, folder, lanes=LANES):
    KINDS[kind](folder)
    return load_renderer(RenderSpec(kind, str(folder), "", "auto", {"*": lanes}, 1), [(32, 32)])


def test_rows_that_change_each_other_are_drawn_one_at_a_time(tmp_path):
    renderer = load("lumina2", tmp_path / "model")
    assert renderer.lanes == {"32x32": 1}
    assert renderer.notes == (
        "Lumina2Pipeline draws one row at a time: several in one call change each other's pixels",
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_negative_prompts_that_a_pipeline_takes_for_one_row_alone_are_drawn_alone(tmp_path):
    loaded = Loaded("kandinsky", tmp_path / "model")
    rows = [loaded.row(i, negative_prompt="blurred") for i in range(2)]
    plain = loaded.row(2)
    drawn = {one.row.row_index: one for one in loaded.renderer.render(iter([*rows, plain]))}
    assert [drawn[i].num_lanes for i in range(3)] == [1, 1, LANES]
    assert np.array_equal(drawn[0].pixels, loaded.alone(rows[0], 1))
    (note,) = loaded.renderer.notes
    assert note.startswith("KandinskyV22CombinedPipeline draws one row with a negative prompt")


def test_a_row_may_name_another_scheduler_of_the_same_kind(tmp_path):
    loaded = Loaded("hunyuan", tmp_path / "model")
    row = loaded.row(0, scheduler="EulerDiscreteScheduler")
    (result,) = loaded.renderer.render(iter([row]))
    assert np.array_equal(result.pixels, loaded.alone(row, LANES))
    own = pictures(loaded.renderer.render(iter([loaded.row(0)])))
    assert not np.array_equal(own[0], result.pixels)


def test_a_scheduler_option_that_nobody_knows_fails_its_row_alone(tmp_path):
    loaded = Loaded("ldm", tmp_path / "model")
    rows = [loaded.row(0, scheduler_config='{"beta": 1}'), loaded.row(1)]
    failed, drawn = sorted(loaded.renderer.render(iter(rows)), key=lambda one: one.row.row_index)
    assert "DDIMScheduler takes no 'beta'" in failed.error_message
    assert isinstance(drawn, RenderedImage)


def test_a_class_that_the_model_lacks_fails_with_the_nearest(tmp_path):
    loaded = Loaded("dit", tmp_path / "model")
    rows = [loaded.row(0, prompt="gold fish"), loaded.row(1, prompt="?"), loaded.row(2)]
    drawn = {one.row.row_index: one for one in loaded.renderer.render(iter(rows))}
    assert drawn[0].error_message.endswith("no class 'gold fish', the nearest is 'goldfish'")
    assert drawn[1].error_message.endswith("no class '?', its classes stand in model_index.json")
    assert isinstance(drawn[2], RenderedImage)


class Stub:
    """Stands for a pipeline; every row's picture has the brightness of its seed."""

    takes_negative = False

    def __init__(self, error=None, when=lambda rows: False, times=99):
        self.error, self.when, self.times, self.sizes = error, when, times, []

    def fault(self, _):
        return ""

    def draw(self, rows):
        self.sizes.append(len(rows))
        if self.times and self.when(rows):
            self.times -= 1
            raise self.error
        return torch.stack([torch.full((3, 4, 4), row.seed / 255) for row in rows])


ENV = RenderEnv("cpu", "", "float32", "StubPipeline", "", "", "")


def stubbed(stub, lanes=4, strict=False):
    usual = make_row(guidance_scale=1.0, width_px=4, height_px=4)
    renderer = PipelineRenderer(ENV, stub, usual, lambda _: lanes, {}, 1, strict_pixels=strict)
    renderer.lanes_for((4, 4))
    stub.sizes.clear()
    return renderer


def stub_rows(count):
    said = {"guidance_scale": 1.0, "width_px": 4, "height_px": 4}
    return [make_row(i, seed=i + 1, **said) for i in range(count)]


def has_seed(seed):
    return lambda rows: any(row.seed == seed for row in rows)


def test_every_call_has_all_places_and_padding_is_not_counted():
    stub = Stub()
    renderer = stubbed(stub)
    assert len(pictures(renderer.render(iter(stub_rows(6))))) == 6
    assert stub.sizes == [4, 4]
    counters = renderer.counters
    assert (counters.row_steps, counters.lane_steps, counters.lane_slots) == (18, 18, 24)


def test_a_guided_row_takes_two_lanes():
    guided, plain = make_row(guidance_scale=2.0), make_row(guidance_scale=1.0)
    assert [places_of(guided, lanes) for lanes in (1, 2, 5)] == [1, 1, 2]
    assert places_of(plain, 5) == 5


def test_one_row_s_fault_is_its_own():
    stub = Stub(ValueError("cannot draw this"), has_seed(3))
    results = {one.row.seed: one for one in stubbed(stub).render(iter(stub_rows(4)))}
    assert isinstance(results[3], RowFailure)
    assert results[3].error_message == "cannot draw this"
    assert all(isinstance(results[seed], RenderedImage) for seed in (1, 2, 4))
    assert stub.sizes == [4] * 5


def test_rows_that_run_out_of_memory_are_drawn_at_half_of_l_once():
    stub = Stub(torch.OutOfMemoryError("out of memory"), lambda rows: len(rows) == 4, times=1)
    renderer = stubbed(stub, 8)
    stub.when = lambda rows: len(rows) == 8
    results = list(renderer.render(iter(stub_rows(12))))
    assert sorted(one.row.seed for one in results) == list(range(1, 13))
    assert stub.sizes == [8, 4, 4, 8]
    assert sorted(one.num_lanes for one in results) == [4] * 8 + [8] * 4


def test_the_second_time_without_memory_ends_the_renderer():
    stub = Stub(torch.OutOfMemoryError("out of memory"), lambda rows: len(rows) > 1)
    stub.times = 0
    renderer = stubbed(stub)
    stub.times = 9
    with pytest.raises(DeviceMemoryError, match="2 rows in a call: use a smaller --batch-size"):
        list(renderer.render(iter(stub_rows(4))))


def test_strict_pixels_fails_rows_rather_than_draw_them_smaller():
    stub = Stub(torch.OutOfMemoryError("out of memory"), has_seed(2), times=1)
    results = list(stubbed(stub, strict=True).render(iter(stub_rows(8))))
    failed = [one.row.seed for one in results if isinstance(one, RowFailure)]
    assert failed == [1, 2, 3, 4]
    assert "strict_pixels" in results[0].error_message


def test_lanes_that_do_not_fit_are_said_before_the_first_row():
    stub = Stub(torch.OutOfMemoryError("out of memory"), lambda rows: len(rows) > 1)
    with pytest.raises(DeviceMemoryError, match="4 rows in a call"):
        stubbed(stub)


def test_a_pipeline_that_refuses_several_rows_draws_them_one_by_one():
    stub = Stub(TypeError("one generator, please"), lambda rows: len(rows) > 1)
    renderer = stubbed(stub)
    assert len(pictures(renderer.render(iter(stub_rows(3))))) == 3
    assert stub.sizes == [1, 1, 1]
    assert renderer.notes[0].endswith("it refuses several (one generator, please)")


def test_a_broken_device_is_no_row_s_fault():
    stub = Stub(torch.AcceleratorError("device lost"), has_seed(2))
    with pytest.raises(RenderError, match="the device failed"):
        list(stubbed(stub).render(iter(stub_rows(3))))


def test_pictures_that_are_none_fail_their_rows():
    stub = Stub()
    renderer = stubbed(stub)
    draw = stub.draw

    def spoilt(rows):
        found = draw(rows)
        found[1, 0, 0, 0] = float("nan")
        found[2] = 0
        return found

    stub.draw = spoilt
    results = list(renderer.render(iter(stub_rows(4))))
    failed = {one.row.seed: one.error_type for one in results if isinstance(one, RowFailure)}
    assert failed == {2: "NonFiniteError", 3: "BlackImageError"}
    assert renderer.counters.row_steps == 6


def test_a_feed_that_pauses_never_stops_the_renderer():
    rows = stub_rows(5)
    feed = iter([rows[0], None, rows[1], rows[2], None, None, rows[3], rows[4]])
    assert len(pictures(stubbed(Stub()).render(feed))) == 5


def test_a_folder_of_weights_in_half_precision_alone_draws(tmp_path):
    made = Loaded("ldm_text", tmp_path)
    for file in tmp_path.glob("*/*.safetensors"):
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    half = load_renderer(RenderSpec("m", str(tmp_path), "", "auto", {"*": LANES}, 1), [])

    drawn, whole = (pictures(one.render([made.row(0)])) for one in (half, made.renderer))
    assert np.array_equal(drawn[0], whole[0])
