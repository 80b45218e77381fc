"""Twenty steps of VFT, RFT, DCL, BCL and DPO from the committed base model, recorded and compared.

`python tests/regression/record.py` records the trajectories anew into `trajectories.json`. Do so only in a change that
means to alter training, and say in that change which figures move, by how much and why. A change that should not move
a number never records. `groups.jsonl` holds the groups that all methods train on; `--groups` samples them again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RECORDED = HERE / "trajectories.json"
GROUPS = HERE / "groups.jsonl"
METHODS = ("rft", "dcl", "bcl", "dpo")
# What each step's log must say again. Speeds and times are left out.
KEYS = (
    *("loss", "grad_norm", "learning_rate", "loss/vft", "loss/align", "scores/positive", "scores/negative"),
    *("scores/margin", "scores/positive_drift", "scores/negative_drift", "constraint/active_fraction"),
    *("groups/without_pair", "groups/both_fell"),
)
SCORED_GROUPS = 8


def trajectories(folder: Path) -> dict[str, Any]:
    """Method -> `steps`, the log of every step, and `scores` of the first groups' candidates after the last step."""
    run = folder / "run"
    (run / "seed-0" / "label").mkdir(parents=True)
    shutil.copyfile(GROUPS, run / "seed-0" / "label" / "groups.jsonl")
    _aft_train(run, "stages=[vft, align]")
    folders = {"vft": run / "seed-0" / "vft", **{name: run / "seed-0" / "align" / name for name in METHODS}}
    return {name: {"steps": _steps(path), "scores": _scores(path)} for name, path in folders.items()}


def _aft_train(run: Path, *arguments: str) -> None:
    keys = [f"output_dir={run}", f"model.name_or_path={ROOT / 'models' / 'arithmetic-base'}"]
    command = [sys.executable, "-m", "aft.cli.train", "--config", str(HERE / "run.yaml"), *keys, *arguments]
    # one thread: sums in the same order on every machine
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


def _steps(folder: Path) -> list[dict[str, float]]:
    logs = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [{key: entry[key] for key in KEYS if key in entry} for entry in logs if "loss" in entry]


@torch.no_grad()
def _scores(folder: Path) -> list[list[float]]:
    """Mean log-prob per token of each candidate, by transformers alone: each sequence by itself."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for line in GROUPS.read_text(encoding="utf-8").splitlines()[:SCORED_GROUPS]:
        group = json.loads(line)
        prompt = tokenizer(group["question"])["input_ids"]
        found.append([])
        for candidate in group["candidates"]:
            response = tokenizer(candidate["completion"], add_special_tokens=False)["input_ids"]
            response += [] if candidate["truncated"] else [tokenizer.eos_token_id]
            logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            logps = logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None])
            found[-1].append(logps.mean().item())
    return found


def _sample_groups() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        for stage in ("sample", "label"):
            _aft_train(run, "sample.model=base", "--stage", stage)
        shutil.copyfile(run / "seed-0" / "label" / "groups.jsonl", GROUPS)


def main() -> None:
    """Record."""
    if "--groups" in sys.argv[1:]:
        _sample_groups()
    from aft.run.environment import environment

    with tempfile.TemporaryDirectory() as folder:
        found = trajectories(Path(folder))
    made = {"made_with": environment(), "trajectories": found}
    RECORDED.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {RECORDED}")


if __name__ == "__main__":
    main()
