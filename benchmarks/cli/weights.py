"""``convert-weights``: convert weights of Grounding DINO and GLIP between the layouts of several projects."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from ovd_bench.benchmarks.cli.common import Json, Verbose, console, print_json
from ovd_bench.benchmarks.data.text import printable


def convert_weights(
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="File or folder to read; its layout is recognised.", show_default=False),
    ],
    target: Annotated[
        Path,
        typer.Argument(metavar="DST", help="Target: NAME.safetensors, NAME.pth or a folder.", show_default=False),
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", help="Layout: jittor, official or hf; default: by the suffix of DST.", show_default=False),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="Entry of a .pth that holds the state dict: ema_model.", show_default="model or state_dict"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DST.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Convert weights of Grounding DINO, MM-Grounding-DINO or GLIP to another layout; all parameters, or none."""
    from ovd_bench.detectors.weight_conversion import convert_weights as convert

    done = convert(source, target, layout=to, key=key, overwrite=overwrite)
    if as_json:
        print_json(dataclasses.asdict(done))
        return
    kinds = {"jittor": "this suite's", "official": "official", "hf": "Hugging Face", "mmdet": "mmdetection"}
    lines = [
        f"read {done.source} ({kinds[done.source_kind]}), sha256 {done.source_sha256}",
        f"model: {_model(done.config)}; {done.parameters:,} parameters in {done.tensors} tensors",
        f"left out: {', '.join(done.dropped[:8]) or 'nothing'}{_more(len(done.dropped) - 8)}",
        f"wrote {done.target} ({kinds[done.layout]}), sha256 {done.sha256}",
    ]
    if done.passed_over:
        lines.insert(3, f"passed over: {', '.join(done.passed_over[:12])}{_more(len(done.passed_over) - 12)}")
    terminal = console(as_json)
    for line in lines:
        terminal.print(printable(line), highlight=False, markup=False, soft_wrap=True)


def _model(config: dict[str, Any]) -> str:
    if "swin" in config:
        swin, how = config["swin"], "fused with the text" if config["fused"] else "without fusion"
        stages = "-".join(map(str, swin["depths"]))
        return f"GLIP, Swin {swin['embed_dim']} wide with {stages} blocks, head of {config['blocks']} blocks {how}"
    swin, text = config["backbone"], config["text"]
    stages = "-".join(map(str, swin["depths"]))
    return (
        f"Swin {swin['embed_dim']} wide with {stages} blocks, {text['kind']} {text['hidden_size']} wide with "
        f"{text['num_layers']} layers, encoder {config['enc_layers']}, decoder {config['dec_layers']}, "
        f"{config['num_queries']} queries, {'MM-Grounding-DINO' if config['class_bias'] else 'Grounding DINO'} head"
    )


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(
        "convert-weights",
        epilog="Examples:\n\n"
        "  bench convert-weights groundingdino_swint_ogc.pth tiny.safetensors\n\n"
        "  bench convert-weights folder-from-the-hub tiny.safetensors\n\n"
        "  bench convert-weights tiny.safetensors tiny-hf --to hf\n\n"
        "Reads this suite's .safetensors, official and mmdetection .pth (only tensors, nothing is executed) and "
        "Hugging Face folders. docs/weights.md has the names and what is refused.",
    )(convert_weights)
