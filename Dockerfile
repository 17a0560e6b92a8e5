# The images of worker and controller, for BuildKit and the legacy builder: `make images` (docs/images.md).
# Nothing is downloaded here: scripts/wheelhouse fills build/wheels, with hashes that requirements.lock names.
# BASE needs Python with venv; build/wheels is for one version of Python.
ARG BASE=python:3.13-slim

FROM ${BASE} AS base
# The end has nothing that installs or compiles, and no program that gives its caller other rights.
RUN rm -rf /usr/local/lib/python3.*/site-packages/pip* /usr/local/bin/pip* \
      /usr/local/lib/python3.*/ensurepip /usr/lib/python3.*/ensurepip /usr/share/python-wheels \
 && find / -xdev -perm /6000 -exec chmod ug-s {} + \
 && echo 'vxlan-operator:x:65532:65532::/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'vxlan-operator:x:65532:' >> /etc/group \
 && install -d -m 0700 -o 65532 -g 65532 /var/lib/vxlan-operator
ENV PATH=/opt/vxlan-operator/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# A fresh volume takes over the owner of this folder.
VOLUME /var/lib/vxlan-operator

# Installs the wheels of an image into /opt/vxlan-operator, with the pip of another virtual environment.
FROM ${BASE} AS tools
COPY build/wheels/sbom /sbom
RUN python3 -m venv /tools \
 && /tools/bin/pip --disable-pip-version-check install --quiet --no-cache-dir --no-index --find-links /sbom \
      --require-hashes --requirement /sbom/requirements.txt \
 && python3 -m venv --without-pip /opt/vxlan-operator \
 && rm -f /opt/vxlan-operator/bin/[Aa]ctivate* /opt/vxlan-operator/.gitignore
# Sets are marshalled in the order of their hashes, and modules are never newer than their bytecode.
ENV PYTHONHASHSEED=0
COPY scripts/image-install /usr/local/bin/

FROM tools AS worker-files
COPY build/wheels/worker /wheels
RUN image-install vxlan-worker
# The capabilities of the process are those of its interpreter's file, so it has its own. They are permitted and
# not effective ("+p"): with "+ep" a container without them could not even say what it lacks.
# VFS_CAP_REVISION_2, then permitted and inheritable sets of 32 bits each (linux/capability.h):
# CAP_NET_BROADCAST is 11, CAP_NET_ADMIN 12.
RUN cd /opt/vxlan-operator/bin \
 && real=$(readlink -f python3) \
 && rm python python3 python3.* \
 && cp "$real" python3 \
 && ln -s python3 python \
 && python3 -c "import os, struct; os.setxattr('python3', 'security.capability', \
      struct.pack('<5I', 0x02000000, 1 << 11 | 1 << 12, 0, 0, 0))" \
 && touch --no-dereference --date=@0 python3 python .

FROM tools AS controller-files
COPY build/wheels/controller /wheels
RUN image-install vxctl

FROM base AS worker
COPY --from=worker-files /opt/vxlan-operator /opt/vxlan-operator
ARG BASE
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="vxlan-operator-worker" \
      org.opencontainers.image.description="Removes orphaned VXLAN devices of Docker Swarm on its node" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
# In memory, which is writable also where nothing else is.
ENV VXLAN_OPERATOR_ALIVE_FILE=/dev/shm/vxlan-worker.alive
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["/opt/vxlan-operator/bin/python3", "-I", "-m", "worker.healthcheck"]
USER 65532:65532
ENTRYPOINT ["vxlan-worker"]
CMD ["run"]

FROM base AS controller
COPY --from=controller-files /opt/vxlan-operator /opt/vxlan-operator
ARG BASE
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="vxlan-operator-controller" \
      org.opencontainers.image.description="Finds orphaned VXLAN devices of a Docker Swarm, and keeps the record" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["/opt/vxlan-operator/bin/python3", "-I", "-m", "controller.process.healthcheck"]
USER 65532:65532
EXPOSE 8479
ENTRYPOINT ["vxctl"]
CMD ["controller"]
