"""`sdbatch manifest import`: what other programs wrote, to a manifest."""

from __future__ import annotations

import click

from sdbatch.manifest.importers.pictures import PromptFrom

EPILOG = """\
\b
Kinds, told from the source where they can be:
  pictures           A1111 or ComfyUI metadata of PNG, JPEG and WebP; a file or a folder
  infotext           A1111's text files of settings
  prompts-from-file  A1111's --prompt "a fox" --steps 20
  kohya              a fox --n blurry --w 512 --h 768 --s 28
  diffusiondb        metadata.parquet, .json   comfyui        API prompt, .json
  partiprompts       PartiPrompts.tsv          drawbench      .csv
  geneval            .jsonl                    t2i-compbench  .txt
  image2image, upscale, colorize    a folder: one row a picture, to draw from it

\b
Exit codes: 0 done, 2 input, 3 storage.
"""


@click.command(epilog=EPILOG)
@click.argument("source")
@click.argument("output", metavar="OUT.parquet")
@click.option("--as", "kind", metavar="KIND", help="What SOURCE is; told from it when left out.")
@click.option(
    "--prompt-from",
    type=click.Choice(["metadata", "txt", "filename", "none"]),
    help="Where pictures have their prompts: metadata; none for upscale and colorize.",
)
def command(source: str, output: str, kind: str | None, prompt_from: PromptFrom | None) -> int:
    """Read prompts that other programs wrote; SOURCE is a path or any fsspec URL.

    Settings that sdbatch has no column for are kept in columns of their own, such as
    a1111_model_hash or comfyui_prompt.
    """
    import tempfile

    from sdbatch.manifest.importers.kinds import read_source
    from sdbatch.manifest.written import demand_parquet, write_manifest

    demand_parquet(output)
    with tempfile.TemporaryDirectory(prefix="sdbatch-import-") as folder:
        read = read_source(source, folder, kind, prompt_from)
        rows = write_manifest(output, read.schema, read)
    columns = ", ".join(read.schema.names)
    click.echo(f"{output}: {rows:,} rows from {read.kind}, columns {columns}")
    return 0
