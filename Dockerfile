# docker build --tag newsclippings .
# mkdir -p demo && docker run --rm --volume "$PWD/demo:/data/demo" newsclippings sample demo/data
FROM python:3.12-slim
COPY . /source
RUN pip install --no-cache-dir '/source[train,plot]' && rm -r /source && useradd --create-home --uid 1000 user
USER user
WORKDIR /data
ENTRYPOINT ["newsclippings"]
