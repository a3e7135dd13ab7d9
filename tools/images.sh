#!/usr/bin/env bash
# Build all images, or those that IMAGES names. BUILD is the command, as in BUILD="docker build"; without it, the first
# builder that works. TAG is the chart's version unless given; BASE is another base image than
# python:3.11-slim-bookworm. PLATFORM is another platform than this machine's, as in linux/arm64. The development cluster
# builds for its own alone.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${TAG:-$(sed -n 's/^version: //p' helm/triptych/Chart.yaml)}

builder() {
    if [[ -z ${PLATFORM:-} ]] && tools/cluster.sh exists && tools/cluster.sh status >/dev/null 2>&1; then echo "tools/cluster.sh build"
    elif command -v docker >/dev/null && docker info >/dev/null 2>&1; then echo "docker build"
    elif command -v podman >/dev/null; then echo "podman build"
    elif command -v buildah >/dev/null; then echo "buildah build"
    else
        echo "no docker, podman, buildah or development cluster here: install one of them" >&2
        exit 1
    fi
}

BUILD=${BUILD:-$(builder)}
options=()
[[ -z ${BASE:-} ]] || options+=(--build-arg "BASE=$BASE")
[[ -z ${PLATFORM:-} ]] || options+=(--platform "$PLATFORM")

while read -r name file; do
    [[ -z ${IMAGES:-} || " $IMAGES " == *" $name "* ]] || continue
    echo "$BUILD: triptych/$name:$tag"
    arguments=(-t "triptych/$name:$tag" -f "$file")
    case $BUILD in
    # The development cluster passes on the options after `--`; buildah takes none behind the context.
    *cluster*\ build) arguments+=(. ${options[@]:+--} "${options[@]}") ;;
    *) arguments+=("${options[@]}" .) ;;
    esac
    $BUILD "${arguments[@]}" </dev/null
done <<'LIST'
preprocess services/preprocess/Dockerfile
postprocess services/postprocess/Dockerfile
controller services/controller/Dockerfile
jobs services/jobs/Dockerfile
triton-cpu services/predictor/Dockerfile
models examples/models/Dockerfile
backend examples/backend/Dockerfile
LIST
