# The agent. Build from the project's root: docker build -f deploy/docker/agent.Dockerfile -t certctl-agent:0.1.0 .
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/certctl
COPY requirements/base.txt requirements/otel.txt requirements/build.txt requirements/
RUN /opt/certctl/bin/pip install --require-hashes -r requirements/base.txt -r requirements/otel.txt \
 && python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY src src
RUN /opt/build/bin/python -m hatchling build -t wheel -d /dist \
 && /opt/certctl/bin/pip install --no-deps /dist/*.whl \
 && rm -rf /opt/certctl/bin/pip* /opt/certctl/lib/python3.11/site-packages/pip /opt/certctl/lib/python3.11/site-packages/setuptools

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="certctl-agent" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 1000 certctl && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /var/lib/certctl --shell /usr/sbin/nologin certctl \
 && install -d -o 1000 -g 1000 -m 0700 /var/lib/certctl
COPY --from=build /opt/certctl /opt/certctl
# nothing is written outside /var/lib/certctl and /tmp: run it with a read-only root
ENV PATH=/opt/certctl/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
VOLUME ["/var/lib/certctl"]
USER 1000:1000
# enrolled, and a run of it holds the state folder
HEALTHCHECK --interval=60s --timeout=15s --start-period=90s --retries=3 \
  CMD ["sh", "-c", "said=$(certctl-agent status --json) && echo \"$said\" | grep -q '\"running\": true'"]
ENTRYPOINT ["certctl-agent"]
CMD ["run"]
