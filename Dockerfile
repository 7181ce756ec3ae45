# Two images from one file: `slim` (the last stage, what the Action builds) and `full` (with torch, for activations).
# No USER and no WORKDIR: the runner mounts its directories as root and chooses the directory itself.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS common
# PYTHONSAFEPATH: neither the workspace, which is the pull request's, nor / is on the import path.
ENV PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md /src/
COPY modelguard /src/modelguard
COPY entrypoint.py /entrypoint.py
ENTRYPOINT ["python", "/entrypoint.py"]

FROM common AS full
# A CPU build of torch: an index of CPU wheels, or a version that has one, keeps its GPU libraries (several GB) out of the image.
ARG CPU_WHEEL_INDEX=""
ARG TORCH="torch>=2.6"
RUN pip install ${CPU_WHEEL_INDEX:+--index-url "${CPU_WHEEL_INDEX}"} "${TORCH}" \
    && pip install "/src[github,hub,activations]"

FROM common AS slim
RUN pip install "/src[github,hub]"
