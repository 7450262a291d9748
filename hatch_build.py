"""Compiles the C++ kernels when manylabel is installed on Linux x86-64 and there is g++; called by hatchling.

One library for each level of x86-64 that `manylabel.modeling.native.library` knows goes into the wheel, or, where the
installation is editable, beside that module. Without g++, on other systems, and with MANYLABEL_KERNELS=off nothing is
compiled: manylabel then runs on PyTorch's operators alone. CXX names another version of g++.
"""

from __future__ import annotations

import hashlib
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
PACKAGED = "manylabel/modeling/native"
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
    """Puts the libraries into a wheel, or into the source tree where the installation is editable."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile all libraries, or none and say why."""
        self._scratch = Path(tempfile.mkdtemp(prefix="manylabel-kernels-"))
        if self.target_name != "wheel":
            return
        native = Path(self.root) / NATIVE
        if version == "editable":
            for former in native.glob("kernels-*.so"):
                former.unlink()
        try:
            compiler = shlex.split(os.environ.get("CXX", "g++"))
        except ValueError:  # A quotation mark that is not closed.
            compiler = [os.environ["CXX"]]
        why_not = why_nothing_is_compiled(compiler) or compile_all(native / "source", compiler, self._scratch)
        if why_not:
            self.app.display_warning(f"manylabel: no C++ kernels, PyTorch's operators do all: {why_not}")
            return
        for made in self._scratch.iterdir():
            if version == "editable":
                shutil.move(made, native / made.name)
            else:
                build_data["force_include"][str(made)] = f"{PACKAGED}/{made.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel holds all that was made."""
        shutil.rmtree(self._scratch, ignore_errors=True)


def why_nothing_is_compiled(compiler: list[str]) -> str | None:
    """Why nothing can be compiled here; None where it can."""
    if (switch := os.environ.get("MANYLABEL_KERNELS", "").lower()) in ("off", "0", "no", "false"):
        return f"MANYLABEL_KERNELS={switch}"
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return f"they are for Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    if not compiler or shutil.which(compiler[0]) is None:
        return f"{' '.join(compiler) or 'g++'} was not found (Debian and Ubuntu: apt install g++)"
    return None


def compile_all(source: Path, compiler: list[str], target: Path) -> str | None:
    """Write one library a level into `target`; what went wrong, None where nothing did."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(source.iterdir()))).hexdigest()
    files = sorted(str(path) for path in source.glob("*.cpp"))
    for level, bits in REGISTERS.items():
        made = str(target / f"kernels-{level}.so")
        options = [f"-march={level}", f"-mprefer-vector-width={bits}", f'-DSOURCE_DIGEST="{digest}"']
        try:
            done = subprocess.run([*compiler, *FLAGS, *options, *files, "-o", made], check=False)
        except OSError as error:
            return f"{compiler[0]} cannot be run ({error.strerror})"
        if done.returncode != 0:
            return f"{compiler[0]} failed for {level} (its message is above; GCC 11 or later is needed)"
    return None
