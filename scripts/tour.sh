#!/usr/bin/env bash
# Every command once, on the demo at 64 pixels: scripts/tour.sh BIN WORK
#   BIN   folder of the environment's programs
#   WORK  folder for all that is written
set -euo pipefail
bin=$(realpath "$1")
cd "$2"
export AUTOSEARCH_CACHE="$PWD/cache"

"$bin/autosearch" spaces
"$bin/autosearch" run autopatch --trials 4 --set dataset.image_size=64 --set backbone.weights=bundled
"$bin/autosearch" show results/autopatch --json > front.json
best=$("$bin/python" -c 'import json; print(json.load(open("front.json"))["front"][-1]["number"])')
"$bin/autosearch" evaluate results/autopatch --trial "$best"
"$bin/autosearch" report results/autopatch
"$bin/autosearch" export results/autopatch --trial "$best" --coreset 0.02 --out model
"$bin/autosearch" predict model "$AUTOSEARCH_CACHE"/demo/*/brick/test/scratch --out seen
"$bin/python" -c 'import json; c = json.load(open("front.json"))["counts"]; print(c); assert sum(c.values()) == 4 and c["running"] == 0'

port=$("$bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$bin/autosearch" dashboard results/autopatch --port "$port" > dashboard.txt 2>&1 &
dashboard=$!
trap 'kill "$dashboard" 2> /dev/null || true' EXIT
"$bin/python" - dashboard.txt << 'END'
import re, sys, time, urllib.request
from pathlib import Path

for _ in range(120):
    if found := re.search(r"http://127\.0\.0\.1:\d+\S*", Path(sys.argv[1]).read_text()):
        break
    time.sleep(0.5)
else:
    sys.exit(f"no dashboard: {Path(sys.argv[1]).read_text()}")
with urllib.request.urlopen(found[0], timeout=30) as answer:
    assert answer.status == 200 and b"react-entry-point" in answer.read()
print(f"dashboard answered at {found[0]}")
END
