"""Paths in the wheel of Triton, and in the Python that runs this."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from predictor.errors import CannotStart

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBPYTHON = f"libpython{PYTHON}.so.1.0"

# Folders of shared libraries on Debian and its derivatives.
SYSTEM_LIBRARIES = ("/usr/lib", "/lib", "/usr/lib64", "/usr/local/lib")


@dataclass(frozen=True)
class Wheel:
    """The installed wheel of one Python environment."""

    site_packages: Path

    @classmethod
    def of_this_python(cls) -> Wheel:
        """Raises `CannotStart` when this Python has no Triton."""
        wheel = cls(Path(sysconfig.get_path("purelib")))
        for needed in (wheel.server, wheel.stub):
            if not needed.is_file():
                raise CannotStart(
                    f"{needed}: no such file; want a Python that has services/predictor/requirements.txt "
                    f"installed, got {sys.executable}"
                )
        return wheel

    @property
    def server(self) -> Path:
        """The program."""
        return self.site_packages / "pytriton/tritonserver/bin/tritonserver"

    @property
    def python_backend(self) -> Path:
        """The folder of the Python backend, without a stub."""
        return self.site_packages / "pytriton/tritonserver/backends/python"

    @property
    def stub(self) -> Path:
        """The program that runs a model, for the version of this Python."""
        stubs = self.site_packages / "pytriton/tritonserver/python_backend_stubs"
        return stubs / PYTHON / "triton_python_backend_stub"

    @property
    def libraries(self) -> Path:
        """Folder of the libraries that the program links."""
        return self.site_packages / "nvidia_pytriton.libs"

    def version(self) -> str:
        """The version of the wheel."""
        return importlib.metadata.version("nvidia-pytriton")


def libpython_folder() -> Path:
    """The folder of this Python's shared library. Without it no stub can start, and Triton waits for ever."""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    own = sysconfig.get_config_var("LIBDIR") or "/usr/lib"
    for folder in (own, *SYSTEM_LIBRARIES):
        for place in (Path(folder), Path(folder, multiarch)):
            if (place / LIBPYTHON).is_file():
                return place
    raise CannotStart(
        f"{LIBPYTHON} is missing, which Triton's Python backend links; install the Debian package "
        f"libpython{PYTHON}, or use a Python that was built with --enable-shared"
    )


def environment(wheel: Wheel, inherited: dict[str, str]) -> dict[str, str]:
    """The environment that Triton and the processes of its models run in."""
    libraries = [str(libpython_folder()), str(wheel.libraries)]
    if inherited.get("LD_LIBRARY_PATH"):
        libraries.append(inherited["LD_LIBRARY_PATH"])
    return {
        **inherited,
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "PYTHONPATH": str(wheel.site_packages),
        # The interpreter of a model reads no PYTHONPATH. It takes the packages of the first python3 in PATH.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]),
        "OMP_NUM_THREADS": "1",  # these two are numpy's; onnxruntime's are in config.pbtxt
        "OPENBLAS_NUM_THREADS": "1",
    }
