# The gateway alone, as an unprivileged user: no compiler, no demo, no tests.
FROM python:3.11-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY config config
RUN python -m venv /opt/scoring-gateway \
    && /opt/scoring-gateway/bin/pip install --no-cache-dir .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home gateway
COPY --from=build /opt/scoring-gateway /opt/scoring-gateway
ENV PATH=/opt/scoring-gateway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
USER 10001
EXPOSE 8080 9090
# The supervisor can be process 1: it waits for its workers and stops them.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=2s --start-period=5s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/healthz', timeout=2)"]
ENTRYPOINT ["scoring-gateway"]
CMD ["serve", "--config", "/etc/scoring-gateway/gateway.yaml"]
