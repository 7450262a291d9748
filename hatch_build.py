"""Compiles the C++ kernels when manylabel is installed on Linux x86-64 and there is a compiler; called by hatchling.

One library for each level of x86-64 that `manylabel.modeling.native.library` knows lies beside that module afterwards.
Without a compiler, on other systems, and with MANYLABEL_KERNELS=off nothing is compiled: manylabel then runs on
PyTorch's operators alone. CXX names another compiler than c++.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src/manylabel/modeling/native")
REGISTERS = {"x86-64-v3": 256, "x86-64-v4": 512}
"""Level of x86-64 -> bits of the registers to use; left to itself GCC takes 256 for the higher one."""
FLAGS = (
    *(
        "-std=c++17",
        "-O3",
        "-fPIC",
        "-shared",
        "-fopenmp",
        "-fvisibility=hidden",
        "-fno-exceptions",
        "-fno-rtti",
    ),
    # Square roots need not set errno; sums and numbers that are not finite stay as the standard says.
    *("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra"),
)


class KernelBuildHook(BuildHookInterface[Any]):
    """Puts the libraries into the source tree, and from there into a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, or say why not."""
        if self.target_name != "wheel":
            return
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        for library in (Path(self.root) / NATIVE).glob("kernels-*.so"):  # of an earlier installation
            library.unlink()
        why_not = _why_not(compiler)
        built = [] if why_not else [_compiled(Path(self.root), compiler, level) for level in REGISTERS]
        if why_not or None in built:
            why_not = why_not or "the compiler failed (its message is above)"
            self.app.display_warning(f"manylabel: no C++ kernels, PyTorch's operators do all: {why_not}")
            return
        build_data["artifacts"] += [f"/{path}" for path in built]
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"


def _why_not(compiler: list[str]) -> str | None:
    """Why nothing can be compiled; None where it can."""
    if os.environ.get("MANYLABEL_KERNELS") == "off":
        return "MANYLABEL_KERNELS=off"
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return f"they are for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    if not compiler or shutil.which(compiler[0]) is None:
        return "no C++ compiler was found (Debian and Ubuntu: apt install g++)"
    return None


def _compiled(root: Path, compiler: list[str], level: str) -> Path | None:
    """The library of one level, from the root; None where the compiler fails."""
    folder = root / NATIVE
    target = folder / f"kernels-{level}.so"
    sources = sorted(str(path) for path in (folder / "source").glob("*.cpp"))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / target.name
        options = [f"-march={level}", f"-mprefer-vector-width={REGISTERS[level]}"]
        done = subprocess.run([*compiler, *FLAGS, *options, *sources, "-o", str(made)], check=False)
        if done.returncode != 0:
            return None
        made.replace(target)
    return target.relative_to(root)
