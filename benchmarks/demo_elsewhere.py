"""The last step of `make demo`: use a published folder where Trefoil is not installed and there is no network.

    python -I benchmarks/demo_elsewhere.py FOLDER
"""

import os
import socket
import sys
import tempfile

folder = sys.argv[1]
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": tempfile.mkdtemp(), "TOKENIZERS_PARALLELISM": "false"}


class Absent:
    """An import hook for which Trefoil does not exist, although this environment has it installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "trefoil":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def refuse(*args, **kwargs):
    raise OSError("the network is off")


sys.meta_path.insert(0, Absent())
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse

try:
    import trefoil  # noqa: F401
except ModuleNotFoundError as error:
    print(f"   import trefoil: {error}")
try:
    socket.create_connection(("huggingface.co", 443))
except OSError as error:
    print(f"   network: {error}")

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline  # noqa: E402
from transformers.utils import logging  # noqa: E402

logging.disable_progress_bar()
SENTENCES = [
    "삼월 십오일 오후 두 시 반에 회의가 있어요.",
    "사과 세 개와 우유 두 병을 샀어요.",
    "은행은 오후 네 시 삼십 분에 문을 닫아요.",
    "배송비는 삼만 오천 원이에요.",
    "대전에서 부산까지 3시간 걸려요.",
    "민수라는 이름으로 오후 7시 20분에 예약했어요.",
]

model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
print(f"   {type(model).__name__} from {folder}: {model.num_parameters():,} parameters")
output = model.generate(**tokenizer(SENTENCES[0], return_tensors="pt"))
print(f"   generate()  {SENTENCES[0]}  ->  {tokenizer.decode(output[0], skip_special_tokens=True)}")

translator = pipeline("translation", model=folder, trust_remote_code=True)
for sentence, output in zip(SENTENCES, translator(SENTENCES, batch_size=4), strict=True):
    output = output[0] if isinstance(output, list) else output
    print(f"   pipeline()  {sentence}  ->  {output['translation_text']}")
