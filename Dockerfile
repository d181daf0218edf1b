# docker build -t cnatool . && docker run --rm -v "$PWD:/data" -u "$(id -u):$(id -g)" cnatool dump model.onnx data

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY cnatool cnatool
RUN python -m venv /opt/cnatool \
    && /opt/cnatool/bin/pip install --no-cache-dir '.[cloud,plot]' \
    && /opt/cnatool/bin/pip uninstall --yes pip

FROM python:3.13-slim
COPY --from=build /opt/cnatool /opt/cnatool
ENV PATH=/opt/cnatool/bin:$PATH
RUN useradd --uid 1000 --create-home cnatool
USER 1000
WORKDIR /data
ENTRYPOINT ["cnatool"]
CMD ["--help"]
