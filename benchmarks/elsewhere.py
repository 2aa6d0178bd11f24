"""Use a published translation model where Trefoil is not installed and there is no network.

python -I benchmarks/elsewhere.py FOLDER                             a few lines: the last step of `make demo`
python -I benchmarks/elsewhere.py FOLDER PAIRS.jsonl SOURCE TARGET   BLEU on sentence pairs
"""

import json
import os
import socket
import sys
import tempfile

folder, *data = sys.argv[1:]
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

import sacrebleu  # noqa: E402
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, pipeline  # noqa: E402
from transformers.utils import logging  # noqa: E402

logging.disable_progress_bar()
SENTENCES = [
    "삼월 십오일 오후 두 시 반에 회의가 있어요.",
    "탄산수 여덟 병 주세요.",
    "은행은 오후 네 시 삼십 분에 문을 닫아요.",
    "배송비는 삼만 오천 원이에요.",
    "대전에서 부산까지 3시간 걸려요.",
    "민수라는 이름으로 오후 7시 20분에 예약했어요.",
]

translator = pipeline("translation", model=folder, trust_remote_code=True)


def translate(sentences, **options):
    return [output["translation_text"] for output in translator(sentences, batch_size=32, **options)]


if data:
    file, source, target = data
    with open(file, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    bleu = sacrebleu.metrics.BLEU()
    score = bleu.corpus_score(translate([row[source] for row in rows]), [[row[target] for row in rows]])
    print(f"   pipeline() on {len(rows)} sentences of {file}: BLEU {score.score:.2f}  {bleu.get_signature()}")
else:
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    print(f"   {type(model).__name__} from {folder}: {model.num_parameters():,} parameters")
    output = model.generate(**tokenizer(SENTENCES[0], return_tensors="pt"))
    print(f"   generate()  {SENTENCES[0]}  ->  {tokenizer.decode(output[0], skip_special_tokens=True)}")
    for sentence, translation in zip(SENTENCES, translate(SENTENCES), strict=True):
        print(f"   pipeline()  {sentence}  ->  {translation}")
