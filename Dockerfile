# Two images from one file: `docker build --target worker .` and `docker build --target controller .`
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY contract contract
COPY controller controller
COPY worker worker
COPY migrations migrations
RUN python -m venv /build \
 && /build/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && /build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.13-slim AS base
COPY --from=build /wheels /wheels
COPY --from=build /src/requirements.lock /requirements.lock
VOLUME /var/lib/vxlan-operator

# A node's image has neither the database nor the web stack.
FROM base AS worker
RUN sed 's/ *--hash=[^ ]*//; s/ *\\$//; /^ *$/d' /requirements.lock > /constraints.txt \
 && pip install --no-cache-dir --constraint /constraints.txt "$(ls /wheels/*.whl)[worker]"
ENTRYPOINT ["vxlan-worker"]
CMD ["run"]

FROM base AS controller
RUN sed 's/ *--hash=[^ ]*//; s/ *\\$//; /^ *$/d' /requirements.lock > /constraints.txt \
 && pip install --no-cache-dir --constraint /constraints.txt "$(ls /wheels/*.whl)[controller]"
EXPOSE 8479
ENTRYPOINT ["vxctl"]
CMD ["controller"]
