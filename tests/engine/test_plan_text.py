"""Settings for people: what decides a picture in lines, what nobody touched in a paragraph."""

from __future__ import annotations

from sdbatch.engine.plan_text import PAGE, settings_line, settings_lines
from sdbatch.plan.settings import Setting

SETTINGS = {
    "manifest": Setting("p.csv", "MANIFEST"),
    "model": Setting("stabilityai/sdxl-turbo", "--model sdxl-turbo"),
    "model.revision": Setting("c" * 64, "model stabilityai/sdxl-turbo"),
    "defaults.num_inference_steps": Setting(4, "model sdxl-turbo"),
    "defaults.guidance_scale": Setting(0.0, "model sdxl-turbo"),
    "defaults.true_cfg_scale": Setting(None, "family sdxl"),
    "defaults.width": Setting(512, "--size"),
    "defaults.height": Setting(512, "--size"),
    "defaults.scheduler": Setting("EulerAncestralDiscreteScheduler", "its config"),
    "defaults.scheduler_config": Setting("", "family sdxl"),
    "seed": Setting(7, "--seed"),
    "render.device": Setting("auto", "default"),
    "render.dtype": Setting(None, "default"),
    "render.batch_size": Setting(None, "default"),
    "render.tf32": Setting(True, "job file n.yaml"),
    **{f"other.{number}": Setting(number, "default") for number in range(40)},
}


def test_what_decides_a_picture_has_an_aligned_line_each():
    lines = list(settings_lines(SETTINGS))
    table = lines[: lines.index("")]

    assert [line.split()[0] for line in table][:3] == ["model", "model.revision", "defaults.num_inf"
                                                       "erence_steps"]  # fmt: skip
    assert table[1].split()[1] == "cccccccccccc..."
    assert len({line.index(source) for line, source in zip(
        table, ("--model", "model stab", "model sdxl-turbo"), strict=False)}) == 1  # fmt: skip
    assert any(line.split() == ["render.device", "auto", "first", "worker"] for line in table)
    assert any(line.split() == ["render.tf32", "True", "job", "file", "n.yaml"] for line in table)
    assert max(map(len, lines)) <= PAGE


def test_what_nobody_set_stands_in_one_paragraph_and_whole():
    lines = list(settings_lines(SETTINGS))
    text = " ".join(line.strip() for line in lines[lines.index("") + 1 :])

    assert text.startswith("by default: other.0 0, other.1 1, ")
    assert text.endswith("other.39 39")
    assert len(lines) < 30


def test_lanes_of_sizes_are_words_and_no_python():
    settled = {**SETTINGS, "render.batch_size": Setting({"64x64": 16, "8x8": 2}, "as planned")}

    assert settings_line(settled).endswith("; lanes 64x64: 16, 8x8: 2 (as planned)")


def test_a_run_begins_with_one_line_sorted_by_who_spoke():
    assert settings_line(SETTINGS) == (
        "settings: 4 steps, guidance 0.0 (model sdxl-turbo); 512x512 (--size); "
        "EulerAncestralDiscreteScheduler (its config); seed 7 (--seed); "
        "device, dtype, lanes (first worker)"
    )
