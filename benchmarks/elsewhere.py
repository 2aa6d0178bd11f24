"""Use and measure a published model where Trefoil is not installed and there is no network.

python -I benchmarks/elsewhere.py FOLDER           a few lines: the last step of `make demo`
python -I benchmarks/elsewhere.py FOLDER DATAFILE  the figure of its task on JSON lines, a text file, or JSON as in SQuAD

The task, its columns and its options are those of the folder's own recipe.yaml.
"""

import json
import logging
import math
import os
import socket
import string
import sys
import tempfile
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

for name in ("torchao", "torch.utils._pytree"):  # where installed, it tells of kernels for other processors
    logging.getLogger(name).setLevel(logging.ERROR)
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": tempfile.mkdtemp(), "TOKENIZERS_PARALLELISM": "false"}


class Absent:
    """An import hook for which Trefoil does not exist, although this environment has it installed; and no network."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "trefoil":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def connect(*args, **kwargs):
        raise OSError("the network is off")


sys.meta_path.insert(0, Absent())
socket.socket.connect = socket.socket.connect_ex = Absent.connect
socket.create_connection = socket.getaddrinfo = Absent.connect

import regex  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import yaml  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

SENTENCES = {
    "ko": [
        "삼월 십오일 오후 두 시 반에 회의가 있어요.",
        "탄산수 여덟 병 주세요.",
        "은행은 오후 네 시 삼십 분에 문을 닫아요.",
        "배송비는 삼만 오천 원이에요.",
        "대전에서 부산까지 3시간 걸려요.",
        "민수라는 이름으로 오후 7시 20분에 예약했어요.",
    ],
    "en": ["The meeting is at half past two on the fifteenth of March.", "A man in Paris bought three red apples."],
}
QUESTIONS = {"ko": "몇 시에?", "en": "When is the meeting?"}


class Published:
    """The folder, and what its recipe says of it."""

    def __init__(self, folder):
        self.folder = folder
        self.recipe = recipe = yaml.safe_load(Path(folder, "recipe.yaml").read_text(encoding="utf-8"))
        self.task = recipe["task"]
        self.tag, self.auto_class, self.measure = TASKS[self.task]
        self.columns = recipe.get("data", {}).get("columns") or {}
        self.options = recipe.get("options") or {}
        # "first" tells words apart by the white space between them
        all_labelled = self.options.get("label_all_subwords") or self.options.get("delimiter") == ""
        is_fine = recipe.get("tokenizer", {}).get("kind") == "characters"
        self.strategy = "simple" if all_labelled or is_fine else "first"
        self.language = "ko" if (recipe.get("language") or [""])[0] == "ko" else "en"
        self.beside = Path()  # what pictures are named from

    def pipeline(self):
        return transformers.pipeline(self.tag, model=self.folder, trust_remote_code=True)

    def load(self):
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.folder, trust_remote_code=True)
        model = getattr(transformers, self.auto_class).from_pretrained(self.folder, trust_remote_code=True)
        return model.eval(), tokenizer

    def captions(self, pictures):
        model, tokenizer = self.load()
        processor = transformers.AutoImageProcessor.from_pretrained(self.folder, trust_remote_code=True)
        texts = []
        for start in range(0, len(pictures), 32):
            batch = [picture.convert("RGB") for picture in pictures[start : start + 32]]
            output = model.generate(processor(batch, return_tensors="pt").pixel_values)
            texts += tokenizer.batch_decode(output, skip_special_tokens=True)
        return texts

    def values(self, rows, role):
        """A role's column; the recipe says only where it has another name."""
        return [row[self.columns.get(role, role)] for row in rows]

    def name(self, label):
        """A label by its name, which the recipe may have given to a number."""
        return {str(number): name for number, name in self.options.get("names", {}).items()}.get(str(label), str(label))


def read(file):
    """Rows of a file: JSON lines, lines of text, or SQuAD's JSON as question, context and answers."""
    text = Path(file).read_text(encoding="utf-8")
    if file.endswith(".json"):
        return [
            {**question, "context": paragraph["context"], "answers": {"text": [a["text"] for a in question["answers"]]}}
            for article in json.loads(text)["data"]
            for paragraph in article["paragraphs"]
            for question in paragraph["qas"]
        ]
    lines = text.split("\n")[: -1 if text.endswith("\n") else None]
    return [{"text": line} for line in lines] if file.endswith(".txt") else [json.loads(line) for line in lines if line]


def translation(published, rows):
    import sacrebleu

    outputs = published.pipeline()(published.values(rows, "source"), batch_size=32, truncation=True)
    texts, bleu = [output["translation_text"] for output in outputs], sacrebleu.metrics.BLEU()
    return f"BLEU {bleu.corpus_score(texts, [published.values(rows, 'target')]).score:.2f}  {bleu.get_signature()}"


def summarization(published, rows):
    from rouge_score.rouge_scorer import RougeScorer

    class Words:  # of any script, in lower case
        def tokenize(self, text):
            return regex.findall(r"[\p{L}\p{N}][\p{L}\p{N}\p{M}]*", unicodedata.normalize("NFC", text).lower())

    outputs = published.pipeline()(published.values(rows, "source"), batch_size=32, truncation=True)
    scorer = RougeScorer(["rougeL"], tokenizer=Words())
    pairs = zip(published.values(rows, "target"), outputs, strict=True)
    scores = [scorer.score(target, output["summary_text"])["rougeL"].fmeasure for target, output in pairs]
    return f"ROUGE-L {100 * sum(scores) / len(scores):.2f}"


def text_classification(published, rows):
    texts = published.values(rows, "text")
    if "text_pair" in published.columns:
        pairs = zip(texts, published.values(rows, "text_pair"), strict=True)
        texts = [{"text": text, "text_pair": other} for text, other in pairs]
    pipe = published.pipeline()
    if pipe.model.config.problem_type not in (None, "single_label_classification"):
        sys.exit(f"   {pipe.model.config.problem_type} has no accuracy")
    outputs = pipe(texts, batch_size=32, truncation=True)
    known = {str(number): name for number, name in pipe.model.config.id2label.items()}
    labels = [published.name(label) for label in published.values(rows, "label")]
    labels = [label if label in known.values() else known.get(label) for label in labels]
    right = sum(output["label"] == label for output, label in zip(outputs, labels, strict=True))
    return f"accuracy {100 * right / len(rows):.2f}"


def token_classification(published, rows):
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    tokens = published.values(rows, "tokens")
    joined = [published.options.get("delimiter", " ").join(row) for row in tokens]
    texts = published.values(rows, "text") if "text" in published.columns else joined
    true = [begun([published.name(tag) for tag in row]) for row in published.values(rows, "tags")]
    pipe = published.pipeline()
    stride = min(published.options.get("stride", 32), (pipe.tokenizer.model_max_length - 2) // 2)
    given = [subwords(pipe, text, stride) for text in texts]
    spans = pipe(texts, batch_size=32, aggregation_strategy=published.strategy, stride=stride)
    figures = []
    for found in (given, spans):
        tags = [tags_of(*row) for row in zip(texts, tokens, found, strict=True)]
        figures.append(100 * f1_score(true, tags, mode="strict", scheme=IOB2))
    return f"entity F1 {figures[0]:.2f}; of the spans that {published.strategy} gives, {figures[1]:.2f}"


def subwords(pipe, text, stride):
    """Tagged sub-words, as the pipeline gives them where it does not aggregate; but there it reads only the beginning of a
    long text. What two windows share is taken from each to the middle."""
    windows = {"truncation": True, "padding": True, "stride": stride, "return_overflowing_tokens": True}
    marks = {"return_offsets_mapping": True, "return_special_tokens_mask": True}
    inputs = pipe.tokenizer(text, return_tensors="pt", **windows, **marks)
    offsets, special = inputs.pop("offset_mapping").tolist(), inputs.pop("special_tokens_mask").tolist()
    inputs.pop("overflow_to_sample_mapping")
    with torch.inference_mode():
        labels = pipe.model(**inputs).logits.argmax(-1).tolist()
    found = []
    for number, window in enumerate(zip(offsets, special, labels, strict=True)):
        entities = [
            {"start": start, "end": end, "entity": pipe.model.config.id2label[label]}
            for (start, end), is_special, label in zip(*window, strict=True)
            if not is_special
        ]
        middle = stride // 2
        found = found[: len(found) - (stride - middle)] + entities[middle:] if number else entities
    return found


def tags_of(text, tokens, entities):
    """Tagged sub-words, of which the first in a token counts, or entities, as BIO2 tags of a text's tokens."""
    tags, end, before = ["O"] * len(tokens), 0, None
    owners = {place: entity for entity in reversed(entities) for place in range(entity["start"], entity["end"])}
    for number, token in enumerate(tokens):
        start = text.index(token, end)
        end = start + len(token)
        owner = next((owners[place] for place in range(start, end) if place in owners), None)
        tag = owner.get("entity") or f"B-{owner['entity_group']}" if owner else "O"
        tags[number] = f"I{tag[1:]}" if owner is before and tag != "O" else tag
        before = owner
    return begun(tags)


def begun(tags):
    """Tags of which an I- that continues no entity of its type begins one."""
    pairs = zip(["O", *tags], tags, strict=False)
    return [f"B{tag[1:]}" if tag[0] == "I" and before[1:] != tag[1:] else tag for before, tag in pairs]


def question_answering(published, rows):
    def words(text):
        """As SQuAD compares them: lower case, without ASCII punctuation and English articles."""
        text = text.lower().translate(str.maketrans("", "", string.punctuation))
        return regex.sub(r"\b(a|an|the)\b", " ", text).split()

    def f1(answer, right):
        common = (Counter(answer) & Counter(right)).total()
        return 2 * common / (len(answer) + len(right)) if answer and right else float(answer == right)

    questions, contexts = published.values(rows, "question"), published.values(rows, "context")
    answers = [words(output["answer"]) for output in published.pipeline()(questions, contexts, batch_size=32)]
    golds = [[words(text) for text in entry["text"]] for entry in published.values(rows, "answers")]
    golds = [[gold for gold in texts if gold] or [[]] for texts in golds]
    exact = sum(answer in texts for answer, texts in zip(answers, golds, strict=True))
    best = sum(max(f1(answer, gold) for gold in texts) for answer, texts in zip(answers, golds, strict=True))
    return f"exact match {100 * exact / len(rows):.2f}, F1 {100 * best / len(rows):.2f}"


def image_captioning(published, rows):
    captions = published.captions([Image.open(published.beside / name) for name in published.values(rows, "image")])
    right = sum(caption == text for caption, text in zip(captions, published.values(rows, "text"), strict=True))
    return f"exact match {100 * right / len(rows):.2f}"


def perplexity(published, rows):
    """Of every token: given those before it, or with it and every seventh or so masked, in rows of the model's length."""
    model, tokenizer = published.load()
    texts, masked = published.values(rows, "text"), published.task == "masked-lm"
    first = tokenizer.cls_token_id if masked else tokenizer.bos_token_id
    last = tokenizer.sep_token_id if masked else tokenizer.eos_token_id
    is_stream = published.options.get("documents") == "stream"
    if is_stream:
        lines = tokenizer([f"{text}\n" for text in texts], add_special_tokens=False)["input_ids"]
        documents = [[token for line in lines for token in line]]
    else:
        documents = [[first, *ids, last] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    if masked:
        rounds = max(2, round(1 / published.options.get("probability", 0.15)))
        columns = [(token, token, number) for number, ids in enumerate(documents) for token in ids]
    else:  # each is to give the next
        columns = [(*pair, number) for number, ids in enumerate(documents) for pair in pairwise(ids)]
    length = published.recipe.get("batches", {}).get("max_source_length") or model.config.max_position_embeddings
    stride = published.options.get("stride") or length
    loss, tokens, seen = 0.0, 0, 0
    for row, start in enumerate(range(0, len(columns), stride)):
        if seen == len(columns):
            break
        ids, labels, numbers = torch.tensor(columns[start : start + length]).T
        index = torch.arange(len(ids))
        begins = torch.where(numbers.diff(prepend=torch.tensor([-1])) != 0, index, 0).cummax(0).values
        if masked:
            counted = ((index + row) % rounds == torch.arange(rounds)[:, None]) & (
                is_stream | (ids != first) & (ids != last)
            )
            inputs = torch.where(counted, tokenizer.mask_token_id, ids)
        else:
            counted, inputs = (index >= seen - start)[None], ids[None]
        places = {"position_ids": (index - begins).expand_as(inputs), "sequence_ids": numbers.expand_as(inputs)}
        with torch.inference_mode():
            logits = model(inputs, **places).logits[counted]
        loss += float(torch.nn.functional.cross_entropy(logits, labels.expand_as(inputs)[counted], reduction="sum"))
        tokens, seen = tokens + int(counted.sum()), start + len(ids)
    words = sum(len(text.split()) + 1 for text in texts)
    return f"perplexity {math.exp(loss / tokens):.3f}, of words {math.exp(loss / words):.2f}"


# task of a recipe -> task of the Hub, Auto class, figure
TASKS = {
    "translation": ("translation", "AutoModelForSeq2SeqLM", translation),
    "summarization": ("summarization", "AutoModelForSeq2SeqLM", summarization),
    "text-classification": ("text-classification", "AutoModelForSequenceClassification", text_classification),
    "token-classification": ("token-classification", "AutoModelForTokenClassification", token_classification),
    "question-answering": ("question-answering", "AutoModelForQuestionAnswering", question_answering),
    "causal-lm": ("text-generation", "AutoModelForCausalLM", perplexity),
    "masked-lm": ("fill-mask", "AutoModelForMaskedLM", perplexity),
    "image-captioning": ("image-to-text", "AutoModelForImageTextToText", image_captioning),  # no pipeline
}


def disc(colour):
    picture = Image.new("RGB", (48, 48), "white")
    ImageDraw.Draw(picture).ellipse((12, 12, 36, 36), fill=colour)
    return picture


def show(published):
    """A few lines of what the model says."""
    model, tokenizer = published.load()
    print(f"   {type(model).__name__} from {published.folder}: {model.num_parameters():,} parameters")
    if published.task == "image-captioning":
        for colour in ("red", "blue"):
            (caption,) = published.captions([disc(colour)])
            print(f"   generate()  a {colour} disc  ->  {caption}")
        return
    pipe, sentences = published.pipeline(), SENTENCES[published.language]
    if published.task in ("translation", "summarization"):
        output = model.generate(**tokenizer(sentences[0], return_tensors="pt"))
        print(f"   generate()  {sentences[0]}  ->  {tokenizer.decode(output[0], skip_special_tokens=True)}")
    for sentence in sentences:
        if published.task in ("masked-lm", "causal-lm"):  # the last word is to be guessed
            sentence = f"{sentence.rpartition(' ')[0]} {tokenizer.mask_token or ''}".strip()
        if published.task == "question-answering":
            answer = pipe(QUESTIONS[published.language], sentence)["answer"]
        elif published.task == "token-classification":
            found = pipe(sentence, aggregation_strategy=published.strategy)
            answer = ", ".join(f"{sentence[one['start'] : one['end']]} ({one['entity_group']})" for one in found)
        else:
            answer = next(value for value in pipe(sentence)[0].values() if isinstance(value, str))
        print(f"   pipeline()  {sentence}  ->  {answer}")


def main(folder, file=None):
    for what, attempt in (("import trefoil", __import__), ("network", lambda _: socket.create_connection())):
        try:
            attempt("trefoil")
        except (ModuleNotFoundError, OSError) as error:
            print(f"   {what}: {error}")
    transformers.utils.logging.disable_progress_bar()
    published = Published(folder)
    if file is None:
        return show(published)
    rows = read(file)
    published.beside = Path(file).parent
    print(f"   {published.task} on {len(rows)} rows of {file}: {published.measure(published, rows)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
