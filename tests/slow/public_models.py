"""Public models, untouched, through check-init: python -m tests.slow.public_models [NAME ...] prints the table.

Images are scikit-learn's digits, enlarged, in three channels: real pictures that any of these models can learn.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import tuner

SIDE = 64
OF_TORCHVISION = (
    "alexnet convnext_tiny densenet121 densenet169 densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 "
    "efficientnet_b3 efficientnet_v2_s mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large "
    "mobilenet_v3_small regnet_x_400mf regnet_x_800mf regnet_x_1_6gf regnet_x_3_2gf regnet_y_400mf regnet_y_800mf "
    "regnet_y_1_6gf resnet18 resnet34 resnet50 resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 "
    "shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_t swin_v2_t vgg11"
)
OF_TIMM = (
    "resnet26 efficientnet_lite0 convnext_atto ghostnet_100 rexnet_100 dla34 res2net50_26w_4s hrnet_w18_small "
    "edgenext_xx_small poolformer_s12 mobilevit_xs regnetz_b16"
)
TORCHVISION: dict[str, str] = {
    **dict.fromkeys(OF_TORCHVISION.split(), ""),
    "googlenet": "aux_logits = false\ninit_weights = false",
    "inception_v3": "aux_logits = false\ninit_weights = false",  # from 75 pixels on
    "vit_b_32": "image_size = 64",
}
SIDES = {"inception_v3": 80}
TIMM: dict[str, str] = {
    **dict.fromkeys(OF_TIMM.split(), ""),
    **dict.fromkeys(("vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224"), "img_size = 64"),
}
MODELS = [*(f"torchvision.models.{name}" for name in TORCHVISION), *(f"timm.{name}" for name in TIMM)]
LOAD = """import torch
from sklearn.datasets import load_digits


def load(side=64):
    digits = load_digits()
    chosen = torch.randperm(len(digits.target), generator=torch.Generator().manual_seed(0))[:480]
    images = torch.from_numpy(digits.images).float()[chosen, None] * 15
    images = torch.nn.functional.interpolate(images, size=(side, side), mode="bilinear").expand(-1, 3, -1, -1)
    images, labels = images.to(torch.uint8).contiguous(), torch.from_numpy(digits.target)[chosen]
    return (images[:360], labels[:360]), (images[360:], labels[360:])
"""
RECIPE = """name = "public"
[data]
source = "digits.py:load"
side = {side}
normalize = "standardize"
[model]
name = "{name}"
{arguments}
[optimizer]
name = "adamw"
lr = 1e-3
[train]
batch_size = 16
"""


@dataclass(frozen=True)
class Row:
    """What check-init said of a model, and what it took. `findings`: codes with their severities."""

    name: str
    code: int
    seconds: float
    peak_bytes: int
    findings: dict[str, str]
    said: str

    def line(self) -> str:
        found = ", ".join(f"{code} ({severity})" for code, severity in self.findings.items()) or "-"
        return f"| {self.name} | {self.code} | {self.seconds:.0f} | {self.peak_bytes / 1e9:.2f} | {found} |"


def checked(name: str, folder: Path) -> Row:
    """Run check-init on a model of the list in a folder of its own."""
    library, short = name.rsplit(".", 1)
    arguments = TORCHVISION[short] if library == "torchvision.models" else TIMM[short]
    if library == "timm":
        arguments = f'model_name = "{short}"\n{arguments}'
        name = "timm.create_model"
    (folder / "digits.py").write_text(LOAD)
    recipe = RECIPE.format(name=name, arguments=arguments, side=SIDES.get(short, SIDE))
    (folder / "public.toml").write_text(recipe)
    done = tuner("check-init", "public.toml", "--json", "--quiet", "--workers", "1", cwd=folder)
    result = json.loads(done.out)
    trials = folder / "runs/public/check-init/trials.csv"
    (trial,) = csv.DictReader(trials.read_text().splitlines()) if trials.exists() else ({},)
    findings = {item["code"]: item["severity"] for item in result.get("findings", [])}
    seconds, peak = (float(trial.get(key) or 0) for key in ("wall_seconds", "peak_memory_bytes"))
    said = "; ".join(item["title"] for item in result.get("findings", [])) or str(result.get("error", ""))
    return Row(f"{library}.{short}", done.code, seconds, int(peak), findings, said)


def main() -> None:
    print("| model | exit | s | peak, GB | findings |\n|---|---|---|---|---|")
    for name in sys.argv[1:] or MODELS:
        with tempfile.TemporaryDirectory(prefix="tuner-models-") as folder:
            row = checked(name, Path(folder))
        print(row.line(), flush=True)
        if row.code:
            print(row.said, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
