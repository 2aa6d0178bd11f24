# All that trains, measures, publishes and serves.
#
#     docker build -t trefoil .                              for CPUs
#     docker build -t trefoil --build-arg TORCH=cu130 .      for NVIDIA's GPUs: a folder of download.pytorch.org/whl
#     docker run --rm trefoil doctor
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD":/data trefoil predict runs/my-model "A text."
#     docker run --rm --gpus all --shm-size=1g --user "$(id -u):$(id -g)" -v "$PWD":/data trefoil train my-recipe.yaml
FROM python:3.11-slim
ARG TORCH=cpu
# a user without a name, as of `--user`, has none to be found
ENV USER=trefoil HF_HOME=/data/.cache/huggingface PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/trefoil
COPY constraints.txt .
RUN pip install --index-url "https://download.pytorch.org/whl/${TORCH}" "$(grep '^torch==' constraints.txt)"
COPY . .
RUN pip install -c constraints.txt ".[train,serve]"
WORKDIR /data
ENTRYPOINT ["trefoil"]
CMD ["--help"]
