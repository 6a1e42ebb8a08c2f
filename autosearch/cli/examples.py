"""What stands at the end of each command's help: how it is called."""

from __future__ import annotations

from collections.abc import Mapping

import typer
from rich.markup import escape

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "init": ("/data/mvtec/screw --budget 30m", "/data/mvtec --category screw --yes"),
    "doctor": ("", "--json"),
    "run": ("screw.yaml", "autopatch_plus --set dataset.root=/data/mvtec/screw --trials 50"),
    "resume": ("results/screw --trials 200",),
    "show": (
        "results/screw",
        "results/screw --trial 17",
        "results/screw --latex --columns trial,total_gflops,rwap,test.ap",
    ),
    "report": ("results/screw --open", "results/screw results/nut --out both.html"),
    "figure": (
        "pareto results/screw results/nut --out front.pdf",
        "curves results/screw --trial 17 --width double",
    ),
    "gallery": ("results/screw --trial 17", "results/screw --split test --open"),
    "dashboard": ("", "results --port 8060 --open"),
    "repeat": ("results/screw --repeats 5", "results/screw --trial 17 --trial 23"),
    "recommend": ("results/screw --budget 'total_gflops <= 1'",),
    "evaluate": ("results/screw --front", "results/screw --trial 17"),
    "export": (
        "results/screw --trial 17",
        "results/screw --trial 17 --format onnx-static --batch 4",
        "results/screw --trial 17 --coreset 0.1 --format openvino-int8",
    ),
    "predict": ("results/screw/exports/trial-17 photos/ --out seen",),
    "correlate": ("results/screw rwap_synthetic rwap_real",),
    "note": ("results/screw 'misses thin scratches' --trial 17", "results/screw"),
    "track": ("results/screw --mlflow sqlite:///mlflow.db",),
    "spaces": ("",),
    "runners": ("", "patchcore"),
    "objectives": ("",),
    "schema": ("--out autosearch.schema.json",),
    "data check": ("/data/mvtec screw", "photos/ --set dataset.validation.real_per_type=2"),
    "data look": ("/data/mvtec screw --out look.jpg",),
    "data convert": ("labels.json --to csv --out clean",),
    "factory estimate": ("results/screw --trial 17",),
    "factory report": ("results/screw",),
    "factory invariance": ("results/screw --trial 17",),
    "factory background": ("results/screw --trial 17",),
    "supernet distill": ("--images photos/ --out supernet --minutes 60",),
    "supernet verify": ("supernet/supernet.safetensors --images photos/",),
}
"""Arguments of calls, by command."""


def epilog(command: str) -> str | None:
    """What is shown at the end of a command's help; None where there is no example."""
    calls = EXAMPLES.get(command)
    if calls is None:
        return None
    lines = [f"autosearch {command} {call}".rstrip() for call in calls]
    return "\n\n".join(["Example:" if len(lines) == 1 else "Examples:", *map(escape, lines)])


def give_examples(apps: Mapping[str, typer.Typer]) -> None:
    """End the help of every command with its examples.

    Args:
        apps: Groups of commands by name; that of the command itself is empty.
    """
    for group, one in apps.items():
        for info in one.registered_commands:
            name = info.name or getattr(info.callback, "__name__", "").replace("_", "-")
            info.epilog = epilog(f"{group} {name}".strip())
