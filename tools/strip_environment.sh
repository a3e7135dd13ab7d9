#!/bin/sh
# Remove the files that a server never reads from a Python environment, and compile the rest. A read-only root keeps no
# compiled file: importing preprocess takes 0.6 s of CPU compiled and 1.8 s if not (2 cores, 2026-11-21).
set -eu
environment=$1
find "$environment" -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -rf {} +
find "$environment" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.[cha]' \) -delete
rm -f "$environment"/lib/python3*/site-packages/cv2/data/*.xml
"$environment/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$environment/lib"
