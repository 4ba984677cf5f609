"""Extension modules only; everything else is in pyproject.toml.

LUNAROUTE_DEBUG=1 builds them with bounds checks, line tracing and annotated HTML.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("LUNAROUTE_DEBUG") == "1"

modules = sorted(p.stem for p in Path("lunaroute/_fast").glob("*.pyx"))
setup(
    ext_modules=cythonize(
        [
            Extension(
                f"lunaroute._fast.{name}",
                [f"lunaroute/_fast/{name}.pyx"],
                extra_compile_args=["-O1", "-g"] if DEBUG else ["-O3"],
                define_macros=[("CYTHON_TRACE", "1")] if DEBUG else [],
            )
            for name in modules
        ],
        annotate=DEBUG,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": DEBUG,
            "initializedcheck": DEBUG,
            "cdivision": not DEBUG,
            "linetrace": DEBUG,
        },
    )
)
