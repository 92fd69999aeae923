# The control plane. Build from the project's root: docker build -f deploy/docker/server.Dockerfile -t certctl-server:0.1.0 .
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/certctl
COPY requirements/server.txt requirements/otel.txt requirements/build.txt requirements/
RUN /opt/certctl/bin/pip install --require-hashes -r requirements/server.txt -r requirements/otel.txt \
 && python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY src src
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
 && /opt/certctl/bin/pip install --no-deps /dist/*.whl \
 && rm -rf /opt/certctl/bin/pip* /opt/certctl/lib/python3.11/site-packages/pip /opt/certctl/lib/python3.11/site-packages/setuptools

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="certctl-server" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 1000 certctl && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /var/lib/certctl --shell /usr/sbin/nologin certctl \
 && install -d -o 1000 -g 1000 -m 0700 /var/lib/certctl
COPY --from=build /opt/certctl /opt/certctl
COPY deploy/docker/server-health /usr/local/bin/server-health
# nothing is written outside /var/lib/certctl and /tmp: run it with a read-only root
ENV PATH=/opt/certctl/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp \
    CERTCTL_DATA_DIR=/var/lib/certctl CERTCTL_SERVER_HOST=0.0.0.0 CERTCTL_PKI_HTTP_HOST=0.0.0.0
VOLUME ["/var/lib/certctl"]
EXPOSE 8443 8080
USER 1000:1000
# /ready: the database answers and its schema is this release's
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s --retries=3 CMD ["python", "/usr/local/bin/server-health"]
ENTRYPOINT ["certctl-server"]
