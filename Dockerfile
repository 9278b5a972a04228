# One image for every role: `serve` (all in one), `api`, `worker`.
#
#   docker build -t synesthesia .                                              CUDA: what the lock brings on Linux
#   docker build -t synesthesia --build-arg TORCH_INDEX_URL=<index of CPU wheels> .   CPU only, gigabytes smaller

ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS builder
ARG TORCH_INDEX_URL=""
ENV UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1 \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/venv
RUN pip install --no-cache-dir uv && uv venv "$VIRTUAL_ENV"
WORKDIR /build
# Dependencies first: this layer is built again only when the lock changes.
COPY pyproject.toml requirements.lock ./
# torch of another index is installed first and alone; it satisfies the lock's version, so it stays when the rest comes.
RUN if [ -n "$TORCH_INDEX_URL" ]; then \
      uv pip install --no-cache --no-deps --index-url "$TORCH_INDEX_URL" --constraint requirements.lock torch torchaudio torchvision; \
    fi
# The lock holds every extra, those of tests too. As a constraint it gives its versions to what the service needs, and nothing else.
RUN uv pip install --no-cache --constraint requirements.lock --requirements pyproject.toml --extra postgres --extra s3
COPY README.md ./
COPY app app
COPY worker worker
COPY models models
RUN uv pip install --no-cache --no-deps .

FROM ${PYTHON_IMAGE}
# A fixed id, so that volumes and bind mounts keep their owner from one image to the next.
RUN groupadd --gid 10001 synesthesia \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin synesthesia \
 && install --directory --mode 0700 --owner 10001 --group 10001 /data
COPY --from=builder /opt/venv /opt/venv
COPY deploy/health.py /opt/synesthesia/health.py
# The address is the container's own; what is published of it is the host's choice. Beyond loopback a key is needed, or nothing starts.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    SYNESTHESIA_HOST=0.0.0.0 \
    SYNESTHESIA_PORT=8000 \
    SYNESTHESIA_DATA_DIR=/data \
    HF_HOME=/data/huggingface
WORKDIR /data
USER 10001:10001
EXPOSE 8000
# Trainers write a checkpoint and jobs are given back before the process ends; stop with at least 60 s of patience.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 CMD ["python", "/opt/synesthesia/health.py", "api"]
ENTRYPOINT ["synesthesia"]
CMD ["serve"]
