# The dependencies are built by a stage of their own, so that a change of our source builds only us.
FROM docker.io/library/rust:1-bookworm AS chef
# For the allocator. The image has it; a slim one under its name has not.
RUN command -v make || { apt-get update -qq && apt-get install -y -qq --no-install-recommends make; }
RUN cargo install cargo-chef --locked
WORKDIR /build

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS build
COPY --from=plan /build/recipe.json recipe.json
RUN cargo chef cook --profile dist --locked --bin vestnik --recipe-path recipe.json
COPY . .
RUN cargo build --profile dist --locked --bin vestnik

# Nothing but the program: certificates of well-known authorities are in it. It needs DATABASE_URL, and writes nothing:
# `docker run --read-only -e DATABASE_URL=... vestnik`.
FROM docker.io/library/debian:bookworm-slim
COPY --from=build /build/target/dist/vestnik /usr/local/bin/vestnik
USER 10001:10001
ENV VESTNIK_LISTEN=0.0.0.0:8000 VESTNIK_LOG_FORMAT=json
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s CMD ["vestnik", "healthcheck"]
ENTRYPOINT ["vestnik"]
CMD ["serve"]
