# Any base with Python 3.11 or later, its venv and its pip does. `make image` gives one that is made
# of Debian packages, for machines that reach no image registry.
ARG BASE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.txt requirements-dev.txt ./
# Two environments: one with the tools, and one with what runs, which has no pip in it.
# The tools' own pins are those of requirements-dev.txt. The pip that the base happens to have may
# be too old to heed hashes in a constraints file, so the pinned one goes first.
RUN python3 -m venv /opt/build \
    && awk '/^[a-z]/ {pip = /^pip==/} pip' requirements-dev.txt >pip.txt \
    && /opt/build/bin/pip install --quiet --require-hashes -r pip.txt \
    && /opt/build/bin/pip install --quiet --require-hashes -c requirements-dev.txt hatchling
# Only wheels: nothing is compiled, and no package's setup is run.
RUN python3 -m venv --without-pip /opt/initpipeline \
    && /opt/build/bin/pip --python /opt/initpipeline/bin/python install --quiet \
        --only-binary :all: --require-hashes -r requirements.txt

# The operator itself, in a tree of its own: it becomes a layer of its own, so that another version
# with the same packages is one small layer to pull.
FROM packages AS build
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/initpipeline/bin/python install --quiet \
        --root /made --no-deps --no-index dist/*.whl

FROM ${BASE}
ARG BASE
ARG VERSION
LABEL org.opencontainers.image.title="InitPipeline operator" \
      org.opencontainers.image.description="Runs a Pod's init containers as a pipeline: truthful status, re-runs, history" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.base.name="${BASE}"
COPY --from=packages /opt/initpipeline /opt/initpipeline
COPY --from=build /made /
ENV PATH=/opt/initpipeline/bin:${PATH} \
    PYTHONUNBUFFERED=1
# A number, which the kubelet can tell from root's without the image's own list of users.
USER 65532:65532
ENTRYPOINT ["initpipeline"]
CMD ["run"]
