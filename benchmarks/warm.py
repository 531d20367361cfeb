"""A second start of an unchanged run, to its first optimizer step: resnet18 at 224 px, a folder of images."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import ROOT

START = """
import json, sys, time
sys.path[:0] = {paths!r}
from helpers_vision import import_torchvision
import_torchvision()
import PIL.Image, lightning_fabric, timm, torch
import frostline as fl

torch.manual_seed(0)
model = timm.create_model("resnet18", pretrained=False, num_classes=5).to({device!r})
rows, clocks = [], (time.perf_counter, time.process_time)
model.conv1.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))


class FirstStep(torch.optim.AdamW):
    at = None

    def step(self, *args, **options):
        FirstStep.at = FirstStep.at or (sum(rows), *(clock() for clock in clocks))
        return super().step(*args, **options)


started = [clock() for clock in clocks]
images = fl.data.ImageFolder({images!r}, fl.data.CenterCrop(224))
fl.fit(model, images, epochs=1, freeze="global_pool", optimizer=FirstStep, cache={cache!r}, progress=False)
body, golden = torch.nn.Sequential(*list(model.children())[:-1]).eval(), torch.randn(16, 3, 224, 224).to({device!r})
times = []
with torch.no_grad():
    for _ in range(5):
        before = [clock() for clock in clocks]
        body(golden)
        times.append([clock() - was for clock, was in zip(clocks, before)])
seconds = [at - was for at, was in zip(FirstStep.at[1:], started)]
print(json.dumps({{"rows": FirstStep.at[0], "seconds": seconds, "golden": [sorted(own)[2] for own in zip(*times)]}}))
"""


def run(device: str, *, is_quick: bool) -> dict[str, Any]:
    """Rows through the frozen part, and seconds beyond imports, the model and 16 golden rows."""
    count = 64 if is_quick else 1_000
    with tempfile.TemporaryDirectory() as folder:
        images, cache = Path(folder, "images"), Path(folder, "cache")
        _write_images(images, count)
        first, *others = [_started(device, images, cache) for _ in range(4)]
    second = sorted(others, key=lambda own: own["seconds"][0])[1]
    (wall_s, cpu_s), (golden_s, golden_cpu_s) = second["seconds"], second["golden"]
    return {
        "images": count,
        "rows through the frozen part, first start": first["rows"],
        "rows through the frozen part, second start": second["rows"],
        "first start to its first step, s": first["seconds"][0],
        "second start to its first step, s": wall_s,
        "16 golden rows, s": golden_s,
        "second start beyond these, s": wall_s - golden_s,
        "second start beyond these, processor time, s": cpu_s - golden_cpu_s,
        "second start beyond these / 16 golden rows, processor time": (cpu_s - golden_cpu_s) / golden_cpu_s,
    }


def _write_images(folder: Path, count: int) -> None:
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for at in range(count):
        coarse = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        path = folder / f"class{at % 5}" / f"{at:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((256, 256)).save(path)


def _started(device: str, images: Path, cache: Path) -> dict[str, Any]:
    paths = [str(ROOT), str(ROOT / "tests")]
    script = START.format(paths=paths, device=device, images=str(images), cache=str(cache))
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"after {time.perf_counter() - started:.0f} s: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
