# The service in a container: a page, and POST /v1/score (docs/detect.md).
#
#   docker build -t jaxspoof .
#   docker build -t jaxspoof-cuda --build-arg CUDA=cuda13 .
#   docker run -p 8000:8000 -e JAXSPOOF_TOKEN=$(openssl rand -hex 16) jaxspoof
#
# tools/container_steps.py runs its steps without Docker.
FROM python:3.12-slim
ARG CUDA=""
WORKDIR /app
RUN python -m venv /opt/jaxspoof
ENV PATH=/opt/jaxspoof/bin:$PATH
COPY requirements.txt requirements-detect.txt pyproject.toml README.md LICENSE ./
COPY .ci/constraints.txt .ci/
COPY jaxspoof jaxspoof
COPY tfds_builders tfds_builders
RUN pip install --no-cache-dir -r requirements-detect.txt -c .ci/constraints.txt
RUN pip install --no-cache-dir fastapi prometheus_client python-multipart uvicorn av -c .ci/constraints.txt
RUN pip install --no-cache-dir --no-deps .
RUN test -z "$CUDA" || pip install --no-cache-dir "jax[$CUDA]" -c .ci/constraints.txt
RUN useradd --uid 10001 --create-home jaxspoof
USER jaxspoof
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["jaxspoof", "serve"]
CMD ["0.0.0.0:8000"]
