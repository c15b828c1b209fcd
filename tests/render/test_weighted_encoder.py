"""Weighted prompts: embeddings as A1111 weighs them, rows that keep their pixels."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch

from sdbatch.manifest.prompt_syntax import A1111, MAX_CHUNKS
from sdbatch.model_specs import RenderSpec
from sdbatch.render.loading import load_renderer
from sdbatch.render.prompt_chunks import Frame
from sdbatch.render.text_encoder import CHUNK, TextEncoder
from sdbatch.render.weighted_encoder import WeightedEncoder, weighed, weighed_chunk
from sdbatch.results import RowFailure
from tests.render.drawing import latents_of, make_row, pictures, relative_error
from tests.render.test_prompt_chunks import ROOM, Letters

LONG = "a red circle on white " * 16  # 80 words


class Counting(Letters):
    """Embeds every token as its number, and remembers how it was called."""

    def __init__(self):
        super().__init__()
        self.shapes, self.firsts = [], []

    def embed(self, tokens):
        self.shapes.append(tuple(tokens.shape))
        self.firsts.append([int(ids[1]) for ids in tokens[:, 0]])
        return tokens[:, 0, :, None].float().expand(-1, -1, 4)


def encoder(cache_bytes=2**20):
    model = Counting()
    return WeightedEncoder(model, CHUNK, cache_bytes), model


def test_weights_multiply_and_the_mean_is_restored():
    embeds = torch.arange(12.0).reshape(3, 4) + 1

    found = weighed(embeds, (1.0, 2.0, 1.0))

    assert float(found.mean()) == pytest.approx(float(embeds.mean()))
    assert torch.allclose(found[1] / found[0], 2 * embeds[1] / embeds[0])
    assert weighed(embeds, (1.0, 1.0, 1.0)) is embeds


def test_encoders_side_by_side_are_weighed_apart_and_pooled_rows_not_at_all():
    chunk = torch.rand(4, 5) + 1  # three tokens of two encoders, and a pooled row
    frame = Frame(0, 1, 1, -1, 3, widths=(2, 3), pooled_rows=1)
    weights = (1.0, 2.0, 1.0)

    found = weighed_chunk(chunk, weights, frame)

    assert torch.equal(found[:3, :2], weighed(chunk[:3, :2], weights))
    assert torch.equal(found[:3, 2:], weighed(chunk[:3, 2:], weights))
    assert torch.equal(found[3], chunk[3])
    assert not torch.allclose(found[:3], weighed(chunk[:3], weights))


def test_shorter_prompts_go_on_with_empty_chunks():
    weighted, _ = encoder()

    long, short = weighted.encode(["x" * 3 * ROOM, "y"])

    empty = weighted.encode([""])[0]
    length = ROOM + 2
    assert long.shape == short.shape == (3 * length, 4)
    assert torch.equal(short[:length], weighted.encode(["y"])[0])
    assert torch.equal(short[length : 2 * length], empty)
    assert torch.equal(short[2 * length :], empty)


def test_every_call_has_one_shape_and_equal_chunks_are_encoded_once():
    weighted, model = encoder()

    weighted.encode(["a BREAK b BREAK a", "b"])
    weighted.encode(["b BREAK a"])

    assert model.shapes == [(CHUNK, 2, ROOM + 2)]


def test_prompts_wanted_soon_fill_the_empty_places_and_faulty_ones_are_passed_over():
    weighted, model = encoder()

    weighted.encode(["a"], ahead=["x AND y", "b BREAK c", "a"])
    weighted.encode(["c", "b"])

    assert [first[:3] for first in model.firsts] == [[97, 98, 99]]


def test_the_least_recently_used_chunk_leaves_first():
    weighted, model = encoder(cache_bytes=2 * (ROOM + 2) * 4 * 4)
    for prompt in "abaca":
        weighted.encode([prompt])

    assert [first[0] for first in model.firsts] == [97, 98, 99]


def by_hand(pipe, parts):
    """Embeddings `[1, n, width]` of one chunk a part: [(text, weight)], with plain torch."""
    chunks = []
    for part in parts:
        ids, weights = [pipe.tokenizer.bos_token_id], [1.0]
        for text, weight in part:
            words = pipe.tokenizer(text, add_special_tokens=False).input_ids
            ids, weights = ids + words, weights + [weight] * len(words)
        empty = pipe.tokenizer.model_max_length - len(ids)
        ids, weights = ids + [pipe.tokenizer.eos_token_id] * empty, weights + [1.0] * empty
        with torch.no_grad():
            embeds = pipe.text_encoder(torch.tensor([ids]))[0]
        scaled = embeds * torch.tensor(weights)[None, :, None]
        chunks.append(scaled * embeds.mean() / scaled.mean())
    return torch.cat(chunks, 1)


@pytest.fixture(scope="module")
def pipe(shapes):
    found = diffusers.StableDiffusionPipeline.from_pretrained(shapes.path, dtype=torch.float32)
    found.set_progress_bar_config(disable=True)
    # As rows have it: a configuration that says nothing of clipping means none.
    found.scheduler = diffusers.DDIMScheduler.from_config(found.scheduler.config, clip_sample=False)
    return found


@pytest.mark.render
@pytest.mark.parametrize(
    ("prompt", "parts", "negative", "negative_parts"),
    [
        ("(red:1.4) circle", [[("red", 1.4), (" circle", 1.0)]], "", [[]]),
        ("a [red] ((circle)) BREAK on white", [
            [("a ", 1.0), ("red", 1 / 1.1), (" ", 1.0), ("circle", 1.21)], [("on white", 1.0)],
        ], "(blue:1.2)", [[("blue", 1.2)], []]),
        ("circle", [[("circle", 1.0)], []], "blue BREAK [green]", [
            [("blue", 1.0)], [("green", 1 / 1.1)],
        ]),
    ],
)  # fmt: skip
def test_a_weighted_row_is_what_the_pipeline_draws_of_embeddings_made_by_hand(
    renderer, pipe, prompt, parts, negative, negative_parts
):
    row = make_row(0, prompt=prompt, negative_prompt=negative, prompt_syntax=A1111)

    found = latents_of(renderer, [row], 4)[0]

    wanted = pipe(
        prompt_embeds=by_hand(pipe, parts),
        negative_prompt_embeds=by_hand(pipe, negative_parts),
        width=row.width_px, height=row.height_px, guidance_scale=row.guidance_scale,
        num_inference_steps=row.num_inference_steps, output_type="latent",
        generator=torch.Generator().manual_seed(row.seed),
    ).images[0]  # fmt: skip
    assert relative_error(found, wanted) < 1e-4


@pytest.mark.render
def test_weights_change_the_picture_and_a_prompt_without_any_keeps_its_own(renderer):
    plain = make_row(0, prompt="red circle", seed=5)
    read = replace(plain, row_index=1, prompt_syntax=A1111)
    heavy = replace(read, row_index=2, prompt="(red:1.4) circle")
    literal = replace(plain, row_index=3, prompt="(red:1.4) circle")

    drawn = pictures(renderer.render([plain, read, heavy, literal]))

    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert not np.array_equal(drawn[2], drawn[3])


ROWS = [
    make_row(0),
    make_row(1, prompt="(red:1.4) circle", prompt_syntax=A1111),
    make_row(2, prompt="a BREAK b BREAK c", prompt_syntax=A1111),
    make_row(3, prompt=LONG, prompt_syntax=A1111, negative_prompt="[blue]"),
    make_row(4, prompt="circle", prompt_syntax=A1111, negative_prompt=LONG),
    make_row(5, prompt="circle", prompt_syntax=A1111, negative_prompt=LONG, guidance_scale=1.0),
    make_row(6, num_inference_steps=7),
    make_row(7, prompt="a BREAK (b)", prompt_syntax=A1111, num_inference_steps=5),
    make_row(8, prompt="x BREAK y BREAK z", prompt_syntax=A1111, num_inference_steps=4),
    make_row(9, prompt="x BREAK y", prompt_syntax=A1111, scheduler_config='{"clip_sample": true}'),
    make_row(10, prompt="a BREAK y", prompt_syntax=A1111, scheduler_config='{"clip_sample": true}'),
    make_row(11, prompt="a", prompt_syntax=A1111, scheduler_config='{"clip_sample": true}'),
]


@pytest.mark.render
def test_rows_keep_their_pixels_whatever_the_chunks_of_their_neighbours(renderer):
    alone = {row.row_index: pictures(renderer.render([row]))[row.row_index] for row in ROWS}

    for order in (ROWS, ROWS[::-1], [*ROWS[1::2], *ROWS[::2]]):
        renderer.text_encoder = TextEncoder(renderer.rooms[0])  # nothing is known of before
        together = pictures(renderer.render(order))

        assert [i for i in alone if not np.array_equal(alone[i], together[i])] == []


@pytest.mark.render
def test_rows_of_equally_many_chunks_share_passes_and_others_do_not(renderer):
    kinds = {row.row_index: renderer.kind_of(row)[2] for row in ROWS}

    assert [kinds[i] for i in range(9)] == [1, 1, 3, 3, 3, 1, 1, 2, 3]


@pytest.mark.render
def test_nothing_of_a_long_prompt_is_cut(renderer):
    long = make_row(0, prompt=LONG, prompt_syntax=A1111)
    longer = replace(long, row_index=1, prompt=LONG + " below a blue square")

    drawn = list(renderer.render([long, longer, replace(long, row_index=2, prompt_syntax="plain")]))

    cut = {image.row.row_index: image.prompt_truncated for image in drawn}
    assert cut == {0: False, 1: False, 2: True}
    found = {image.row.row_index: image.pixels for image in drawn}
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.render
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": "<lora:a:1> b"}, "draws without adapters"),
        ({"negative_prompt": "a AND b"}, "AND composes"),
        ({"prompt": "é" * 2000}, "chunks"),
    ],
)
def test_a_prompt_that_cannot_be_drawn_fails_its_row_alone(renderer, changes, words):
    bad = make_row(0, prompt_syntax=A1111, **changes)

    results = {each.row.row_index: each for each in renderer.render([bad, make_row(1)])}

    assert isinstance(results[0], RowFailure)
    assert words in results[0].error_message
    assert not isinstance(results[1], RowFailure)


@pytest.mark.render
def test_what_memory_is_tried_for_is_the_longest_prompt_of_the_run(shapes):
    spec = RenderSpec("shapes", shapes.path, shapes.revision, "auto", {"32x32": 2}, 1)
    long = load_renderer(replace(spec, prompt_chunks=MAX_CHUNKS), [])
    seen = []
    model = long._noise_model

    class Watching:
        channels, device = model.channels, model.device
        num_numbers, row_numbers = model.num_numbers, model.row_numbers

        def predict(self, inputs):
            seen.append(inputs.embeds.shape[1])
            return model.predict(inputs)

    long._noise_model = Watching()
    long.try_pass((32, 32))

    length = long.rooms[0].embeds_shape[0]
    assert seen == [length, MAX_CHUNKS * length]
