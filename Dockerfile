# The base needs Python 3.11 or later with venv and pip. A tag can change, so a release names the base
# with its digest: BASE=docker.io/library/python:3.13-slim-bookworm@sha256:... (docs/release.md).
# Without access to an image registry, `make image` builds a base from Debian packages.
ARG BASE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.txt requirements-dev.txt ./
# Two environments: one for the build tools, and one for the operator, without pip.
# The versions of the build tools are those in requirements-dev.txt. The pip of the base may be too old
# to check hashes in a constraints file, so the pinned pip is installed first.
RUN python3 -m venv /opt/build \
    && awk '/^[a-z]/ {pip = /^pip==/} pip' requirements-dev.txt >pip.txt \
    && /opt/build/bin/pip install --quiet --require-hashes -r pip.txt \
    && /opt/build/bin/pip install --quiet --require-hashes -c requirements-dev.txt hatchling
# Only wheels: nothing is compiled, and no code of a package runs during installation.
# Bytecode contains the hash of its source instead of a time, so that two builds give equal files.
RUN python3 -m venv --without-pip /opt/initpipeline \
    && /opt/build/bin/pip --python /opt/initpipeline/bin/python install --quiet --no-compile \
        --only-binary :all: --require-hashes -r requirements.txt \
    && /opt/initpipeline/bin/python -m compileall -q --invalidation-mode unchecked-hash \
        /opt/initpipeline/lib

# The operator is installed into a separate tree, which becomes a separate layer. A new version with
# the same packages is then one small layer to pull.
FROM packages AS build
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/initpipeline/bin/python install --quiet \
        --root /made --no-compile --no-deps --no-index dist/*.whl \
    && cd /made && /opt/initpipeline/bin/python -m compileall -q \
        --invalidation-mode unchecked-hash -s /made -p / opt

FROM ${BASE}
COPY --from=packages /opt/initpipeline /opt/initpipeline
COPY --from=build /made /
ENV PATH=/opt/initpipeline/bin:${PATH} \
    PYTHONUNBUFFERED=1
# A number, since the kubelet can check runAsNonRoot only for a number.
USER 65532:65532
ENTRYPOINT ["initpipeline"]
CMD ["run"]
# At the end, since a new revision then invalidates no cached layer.
ARG BASE
ARG BASE_DIGEST
ARG VERSION
ARG REVISION
ARG CREATED
LABEL org.opencontainers.image.title="InitPipeline operator" \
      org.opencontainers.image.description="Runs a Pod's init containers as a pipeline: truthful status, re-runs, history" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
