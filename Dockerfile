# SPDX-License-Identifier: Apache-2.0
# The relay as an image: a wheel is built in one stage and installed with pinned, hashed packages in the next.
# It runs as a user without rights, on a root file system that may be read-only; only /var/lib/fairlead is written.
#   docker build -t fairlead .
#   docker run --read-only -p 127.0.0.1:3247:3247 -v fairlead:/var/lib/fairlead -e FAIRLEAD_AUTH_BOOTSTRAP_KEY=flk_… fairlead

FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements.txt requirements-build.txt ./
RUN python -m venv /opt/build && /opt/build/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements-build.txt
RUN python -m venv /opt/fairlead && /opt/fairlead/bin/pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/fairlead/bin/pip install --no-cache-dir --no-deps /wheels/*.whl \
    && /opt/fairlead/bin/python -m compileall -q /opt/fairlead/lib \
    && /opt/fairlead/bin/pip uninstall -y pip

FROM python:3.13-slim
RUN useradd --system --uid 3247 --home-dir /var/lib/fairlead --create-home fairlead
COPY --from=build /opt/fairlead /opt/fairlead
ENV PATH=/opt/fairlead/bin:$PATH PYTHONDONTWRITEBYTECODE=1 \
    FAIRLEAD_STORE=sqlite:////var/lib/fairlead/fairlead.db FAIRLEAD_LISTEN=0.0.0.0:3247
USER fairlead
WORKDIR /var/lib/fairlead
VOLUME /var/lib/fairlead
EXPOSE 3247
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:3247/healthz', timeout=3)"]
ENTRYPOINT ["fairlead"]
CMD ["serve"]
