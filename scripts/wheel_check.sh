#!/usr/bin/env bash
# Builds the wheel, installs it in an environment of its own, and uses it from an empty folder. PYTHON: the interpreter.
set -euo pipefail
ROOT=$(cd "$(dirname "$0")/.." && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
"${PYTHON:-python3}" -m venv "$WORK/venv"
PIP=("$WORK/venv/bin/python" -m pip --quiet --disable-pip-version-check)
"${PIP[@]}" wheel --no-deps --wheel-dir "$WORK" "$ROOT"
"${PIP[@]}" install --constraint "$ROOT/constraints.txt" "$WORK"/aft-*.whl
mkdir "$WORK/empty"
cd "$WORK/empty"
PATH="$WORK/venv/bin:$PATH"
export PYTHONWARNINGS=error::FutureWarning
for program in train sample label evaluate report convert init watch verify; do
    "aft-$program" --version
done
aft-train --config quickstart --dry-run > plan.txt
grep -q "^run    evaluate aft-boundary seed 2 " plan.txt
aft-train --config gsm8k/llama2-7b-aft-bcl launch.config=fsdp2 --dry-run > plan.txt
grep -q "^run    vft seed 0 " plan.txt
grep -q "^# here: data: openai/gsm8k not looked at" plan.txt
aft-init jsonl > run.yaml
aft-train --config run.yaml --dry-run > plan.txt
grep -q "^# here: data.train: no file train.jsonl" plan.txt
test "$(ls)" = "$(printf 'plan.txt\nrun.yaml')"
echo "the wheel works"
