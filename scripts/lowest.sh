#!/usr/bin/env bash
# Every command once, with the lowest versions that pyproject.toml allows.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet uv
uv="$work/tools/bin/uv"
"$uv" venv --quiet --python 3.11 "$work/venv"
# Pinned, for uv alone would take torchvision first, and with it the newest torch.
"$work/venv/bin/python" - > "$work/lowest.txt" << 'END'
import re, tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
for needed in (*project["dependencies"], *extras["cpu"], *extras["export"]):
    name, lowest = re.match(r"([^>]+)>=([\d.]+)", needed).groups()
    print(f"{name}=={lowest}")
END
cat "$work/lowest.txt"
"$uv" pip install --quiet --python "$work/venv/bin/python" --constraint "$work/lowest.txt" ".[cpu,export]"
mkdir "$work/tour"
scripts/tour.sh "$work/venv/bin" "$work/tour"
