# The gateway's image. `docker build -t antiphon .` builds it; docs/deployment.md tells how to run it.
# The base can be any Debian or Ubuntu with python3 >= 3.11: --build-arg BASE_IMAGE=...
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
# A Debian python3 may lack venv. The lock is installed from wheels only, so nothing here needs a compiler.
RUN python3 -c "import ensurepip" \
    || (apt-get update && apt-get install --yes --no-install-recommends python3-venv)
WORKDIR /opt/antiphon
COPY requirements/runtime.txt ./
# An image cannot be added to, so it has what only some settings need.
COPY requirements/redis.txt ./
# The bytecode is made here, once: the files of an image never change, so it need not be checked against them.
# -P in the launcher keeps the working folder, which is the data folder, off the import path.
RUN python3 -m venv venv \
    && venv/bin/pip install --no-cache-dir --no-compile --only-binary :all: --require-hashes -r runtime.txt -r redis.txt \
    && venv/bin/pip uninstall --yes pip setuptools \
    && venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash venv/lib \
    && echo /opt/antiphon > "$(venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/antiphon.pth" \
    && printf '%s\n' '#!/opt/antiphon/venv/bin/python -P' \
        'from app.__main__ import main' 'if __name__ == "__main__":' '    main()' > venv/bin/antiphon \
    && chmod 755 venv/bin/antiphon
COPY app ./app
COPY migrations ./migrations
RUN chmod -R a+rX app migrations \
    && venv/bin/python -m compileall -q --invalidation-mode unchecked-hash app migrations

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="Antiphon" \
      org.opencontainers.image.description="A self-hosted gateway for the OpenAI Responses API that owns the state." \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The official Python images leave out the standard library's bytecode, which a read-only container cannot add.
RUN python3 -m compileall -q -x "/(tests?|idlelib|lib2to3|ensurepip|site-packages|dist-packages)/" \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && groupadd --gid 10001 antiphon \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin antiphon \
    && install --directory --owner 10001 --group 10001 --mode 0700 /data
COPY --from=build /opt/antiphon/venv /opt/antiphon/venv
COPY --from=build /opt/antiphon/migrations /opt/antiphon/migrations
COPY --from=build /opt/antiphon/app /opt/antiphon/app
COPY LICENSE /opt/antiphon/LICENSE
ENV PATH=/opt/antiphon/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ANTIPHON_HOST=0.0.0.0 \
    ANTIPHON_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["antiphon", "healthcheck"]
ENTRYPOINT ["antiphon"]
CMD ["serve"]
