"""Text files, tables and graphs of other programs as rows."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdbatch.errors import InputError, ManifestError
from sdbatch.manifest.importers.kinds import READERS, detect, read_source
from sdbatch.manifest.importers.row import MAX_COLUMNS, MORE
from sdbatch.manifest.scheduler_names import choose_scheduler


def rows(path, kind=None):
    read = read_source(str(path), str(path.parent), kind)
    table = pa.concat_tables(read)
    assert table.num_rows == read.num_rows
    return [
        {name: value for name, value in row.items() if value is not None}
        for row in table.to_pylist()
    ]


def test_infotexts_of_a_text_file(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text(
        "a fox\n\nin snow\nNegative prompt: dull\nSteps: 9, Sampler: Euler a, CFG scale: 7.5, "
        "Seed: 5, Size: 64x32, Clip skip: 2, Model: m, Denoising strength: 0.5\n\n"
        "an owl\nSteps: 3, Seed: -1, Clip skip: 1, CFG scale: many\nTemplate: an {owl|ox}\n"
    )

    assert rows(path) == [
        {
            "prompt": "a fox\n\nin snow",
            "negative_prompt": "dull",
            "num_inference_steps": 9,
            "scheduler": "Euler a",
            "guidance_scale": 7.5,
            "seed": 5,
            "width": 64,
            "height": 32,
            "clip_skip": 1,
            "prompt_syntax": "a1111",
            "a1111_model": "m",
            "a1111_denoising_strength": "0.5",
        },
        {
            "prompt": "an owl",
            "num_inference_steps": 3,
            "prompt_syntax": "a1111",
            "a1111_cfg_scale": "many",
            "a1111_template": "an {owl|ox}",
        },
    ]


def test_a1111_prompts_from_file(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text(
        '--prompt "a (red:1.2) fox" --negative_prompt "x y" --steps 9 --cfg_scale 7 --seed -1 '
        '--width 64 --height 32 --sampler_name "DPM++ 2M Karras" --n_iter 3 --batch_size 2 '
        "--restore_faces true\n\njust a prompt\n"
    )

    assert rows(path) == [
        {
            "prompt": "a (red:1.2) fox",
            "negative_prompt": "x y",
            "num_inference_steps": 9,
            "guidance_scale": 7.0,
            "width": 64,
            "height": 32,
            "scheduler": "DPM++ 2M Karras",
            "num_images_per_prompt": 6,
            "prompt_syntax": "a1111",
            "a1111_restore_faces": "true",
        },
        {"prompt": "just a prompt", "prompt_syntax": "a1111"},
    ]


@pytest.mark.parametrize("line", ['--prompt "open', "--prompt a b", "--prompt", "--prompt a --x"])
def test_a_line_of_options_that_cannot_be_read_is_refused_by_its_number(tmp_path, line):
    path = tmp_path / "p.txt"
    path.write_text(f"fine\n{line}\n")

    with pytest.raises(ManifestError, match=r"p\.txt, line 2"):
        rows(path, "prompts-from-file")


def test_kohya_lines(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text(
        "# comment\na fox -- really --n dull, dark --w 64 --h 32 --d 7 --l 7.5 --s 28 --ss euler_a"
        " --g 3.5\n"
    )

    assert rows(path) == [
        {
            "prompt": "a fox -- really",
            "negative_prompt": "dull, dark",
            "width": 64,
            "height": 32,
            "seed": 7,
            "guidance_scale": 7.5,
            "num_inference_steps": 28,
            "scheduler": "euler_a",
            "prompt_syntax": "a1111",
            "kohya_g": "3.5",
        }
    ]


def test_diffusiondb(tmp_path):
    path = tmp_path / "metadata.parquet"
    table = pa.table(
        {
            "image_name": ["a.png", "b.png"],
            "prompt": ["a fox", "an owl"],
            "part_id": pa.array([1, 2], pa.uint16()),
            "seed": pa.array([5, 2**32 - 1], pa.uint32()),
            "step": pa.array([50, 20], pa.uint16()),
            "cfg": pa.array([7.5, 9.0], pa.float32()),
            "sampler": pa.array([8, 9], pa.uint8()),
            "width": pa.array([512, 64], pa.uint16()),
        }
    )
    pq.write_table(table, path)
    first, second = rows(path)

    assert first == {
        "id": "a.png",
        "prompt": "a fox",
        "seed": 5,
        "width": 512,
        "num_inference_steps": 50,
        "guidance_scale": 7.5,
        "scheduler": "k_lms",
        "diffusiondb_part_id": "1",
    }
    assert choose_scheduler(first["scheduler"]).scheduler == "LMSDiscreteScheduler"
    assert second["scheduler"] == "others"


GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": ["9", 0],
            "steps": 20,
            "cfg": 8,
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "denoise": 1,
            "model": ["10", 0],
            "positive": ["6", 0],
            "negative": ["8", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 32, "batch_size": 2}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["11", 0], "clip": ["4", 1]}},
    "8": {"class_type": "CLIPTextEncode", "inputs": {"text": "dull", "clip": ["4", 1]}},
    "9": {"class_type": "PrimitiveInt", "inputs": {"value": 77}},
    "10": {
        "class_type": "LoraLoader",
        "inputs": {"lora_name": "ink", "strength_model": 0.5, "model": ["4", 0]},
    },
    "11": {"class_type": "PrimitiveString", "inputs": {"value": "a fox"}},
}


def test_a_comfyui_graph_is_followed_back_from_its_sampler(tmp_path):
    path = tmp_path / "api.json"
    path.write_text(json.dumps({"prompt": GRAPH}))
    (row,) = rows(path)

    assert json.loads(row.pop("comfyui_prompt")) == GRAPH
    assert json.loads(row.pop("loras")) == [{"name": "ink", "weight": 0.5}]
    assert row == {
        "prompt": "a fox",
        "negative_prompt": "dull",
        "seed": 77,
        "num_inference_steps": 20,
        "guidance_scale": 8.0,
        "scheduler": "dpmpp_2m",
        "schedule_type": "karras",
        "width": 64,
        "height": 32,
        "num_images_per_prompt": 2,
        "prompt_syntax": "a1111",
        "comfyui_model": "sd15.safetensors",
    }


def test_a_graph_that_runs_in_a_circle_ends(tmp_path):
    graph = {**GRAPH, "11": {"class_type": "X", "inputs": {"a": ["6", 0], "b": ["11", 0]}}}
    path = tmp_path / "api.json"
    path.write_text(json.dumps(graph))

    assert rows(path)[0]["prompt"] == ""


def test_partiprompts_keep_their_quotes(tmp_path):
    path = tmp_path / "PartiPrompts.tsv"
    path.write_text(
        "Prompt\tCategory\tChallenge\tNote\n"
        '"hello" in neon\tText\tBasic\t\n'
        '"a ""quoted"" fox"\tAnimals\tBasic\tnote\n'
    )

    assert rows(path) == [
        {"prompt": '"hello" in neon', "category": "Text", "challenge": "Basic"},
        {
            "prompt": 'a "quoted" fox',
            "category": "Animals",
            "challenge": "Basic",
            "note": "note",
        },
    ]


def test_drawbench_geneval_and_compbench(tmp_path):
    draw, gen, comp = tmp_path / "d.csv", tmp_path / "g.jsonl", tmp_path / "color_val.txt"
    draw.write_text('Prompts,Category\n"a fox, red",Colors\n')
    gen.write_text('{"tag": "count", "include": [{"class": "fox"}], "prompt": "a fox"}\n')
    comp.write_text("a green bench \n\n")

    assert rows(draw) == [{"prompt": "a fox, red", "category": "Colors"}]
    assert rows(gen) == [{"prompt": "a fox", "tag": "count", "include": '[{"class": "fox"}]'}]
    assert rows(comp, "t2i-compbench") == [
        {"prompt": "a green bench", "category": "color", "split": "val"}
    ]


@pytest.mark.parametrize(
    ("name", "category", "split"),
    [
        ("color_val_unseen", "color", "val_unseen"),
        ("3d_spatial_train", "3d_spatial", "train"),
        ("complex_val_spatialaction", "complex", "val_spatialaction"),
        ("non_spatial", "non_spatial", None),
    ],
)
def test_files_of_compbench_name_category_and_split(tmp_path, name, category, split):
    path = tmp_path / f"{name}.txt"
    path.write_text("a bee near a desk\n")
    (row,) = rows(path, "t2i-compbench")

    assert (row["category"], row.get("split")) == (category, split)


def test_copies_of_drawbench_with_small_letters_are_read_too(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("prompts,category\na fox,Colors\n")

    assert rows(path) == [{"prompt": "a fox", "category": "Colors"}]


def test_the_json_of_a_part_of_diffusiondb(tmp_path):
    path = tmp_path / "part-000001.json"
    said = {"p": "a fox", "se": 3312523387, "c": 7.0, "st": 50, "sa": "k_lms"}
    path.write_text(json.dumps({"a.png": said}))

    assert rows(path) == [
        {
            "id": "a.png",
            "prompt": "a fox",
            "seed": 3312523387,
            "num_inference_steps": 50,
            "guidance_scale": 7.0,
            "scheduler": "k_lms",
        }
    ]
    path.write_text(json.dumps({"a.png": {**said, "sa": "ddik_heunm"}}))
    assert choose_scheduler(rows(path)[0]["scheduler"]).scheduler == "HeunDiscreteScheduler"
    path.write_text('{"a.png": {"q": "a fox"}}')
    with pytest.raises(ManifestError, match="is no JSON of a part"):
        rows(path, "diffusiondb")


def test_names_that_would_be_read_as_ours_are_put_aside(tmp_path):
    path = tmp_path / "g.jsonl"
    path.write_text('{"prompt": "a fox", "text": "t", "Seed": 3, "size": "1x1", "image": "i"}\n')

    assert set(rows(path)[0]) == {
        *("prompt", "source_text", "source_seed", "source_size", "source_image"),
    }


def test_a_flood_of_names_is_kept_in_one_column(tmp_path):
    path = tmp_path / "g.jsonl"
    path.write_text(json.dumps({"prompt": "a", **{f"k{n}": n for n in range(1000)}}))
    (row,) = rows(path)

    assert len(row) == MAX_COLUMNS
    assert len(json.loads(row[MORE])) == 1000 - MAX_COLUMNS + 2


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.txt", b"Steps: 5, Seed: 1\n", "infotext"),
        ("a.txt", b"--prompt x --steps 5\n", "prompts-from-file"),
        ("a.txt", b"a fox --w 512\n", "kohya"),
        ("a.tsv", b"", "partiprompts"),
        ("a.json", b"", "comfyui"),
        ("a.webp", b"", "pictures"),
    ],
)
def test_the_form_is_told_from_the_source(tmp_path, name, data, kind):
    (tmp_path / name).write_bytes(data)

    assert detect(str(tmp_path / name)) == kind


def test_what_cannot_be_told_is_asked_for(tmp_path):
    (tmp_path / "a.txt").write_text("a fox\n")
    with pytest.raises(InputError, match="--as"):
        rows(tmp_path / "a.txt")
    with pytest.raises(InputError, match="none of"):
        rows(tmp_path / "a.txt", "novelai")
    with pytest.raises(ManifestError, match="no such file"):
        rows(tmp_path / "b.txt")
    (tmp_path / "c.tsv").write_text("Prompt\n")
    with pytest.raises(ManifestError, match="holds no rows"):
        rows(tmp_path / "c.tsv")


PIECES = st.sampled_from(
    ["Prompt", "Prompts", "\t", ",", '"', "\n", "--prompt", " --w ", "Steps: 5", ": ", "{", "}",
     '{"prompt":', '"class_type"', "[", "]", "1e999", "NaN", "-1", "\0", "\ufeff", "\r", "é", "x"]
)  # fmt: skip


@pytest.mark.parametrize("kind", sorted(READERS))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=25).map(lambda p: "".join(p).encode())))  # noqa: E501  # fmt: skip
def test_any_bytes_give_rows_or_a_clear_error(tmp_path, kind, data):
    path = tmp_path / "fuzz"
    path.write_bytes(data)
    try:
        found = rows(path, kind)
    except InputError:
        return
    assert all(isinstance(row["prompt"], str) for row in found)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
        | st.lists(st.sampled_from(["3", "4", "6", 0]), min_size=2, max_size=2),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    ),
    st.sampled_from(["seed", "steps", "cfg", "model", "positive", "latent_image", "denoise"]),
    st.sampled_from(["3", "4", "6"]),
)  # fmt: skip
def test_any_graph_gives_rows_or_a_clear_error(tmp_path, value, name, node):
    graph = json.loads(json.dumps(GRAPH))
    graph[node]["inputs"][name] = value
    path = tmp_path / "api.json"
    path.write_text(json.dumps(graph))
    try:
        found = rows(path)
    except InputError:
        return
    assert isinstance(found[0]["prompt"], str)
