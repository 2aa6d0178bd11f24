"""How fast inference engines write what a Trefoil model writes, after `trefoil export MODEL OUT --to …`.

    python -m benchmarks.engine_speed MODEL [--prompt TEXT] [--new-tokens N] [--rounds N]

Greedily, one text, one thread, on a CPU, in turns; the medians are told, in seconds of the processor. With its weights as they
are an engine must write the same tokens, or this fails. A translation ends where it ends.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

import trefoil  # noqa: F401
from trefoil.hub.engines import export_for_engine
from trefoil.hub.gguf_format import FILE

Write = Callable[[list[int], int], list[int]]  # token ids of a prompt, and how many new ones, to these
EXPORTS = {
    "CTranslate2": ("ctranslate2", None), "CTranslate2, int8": ("ctranslate2", "int8"),
    "llama.cpp": ("gguf", None), "llama.cpp, q8_0": ("gguf", "q8_0"),
}  # fmt: skip


def ours(folder: Path) -> Write:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()

    def write(ids: list[int], count: int) -> list[int]:
        options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
        return model.generate(torch.tensor([ids]), **options)[0, len(ids) :].tolist()

    return write


def ours_of_source(folder: Path) -> Write:
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()

    def write(ids: list[int], count: int) -> list[int]:
        written = model.generate(torch.tensor([ids]), max_new_tokens=count, num_beams=1, do_sample=False)[
            0, 1:
        ].tolist()
        end = model.config.eos_token_id
        return written[: written.index(end)] if end in written else written

    return write


def ctranslate2_of_source(folder: Path) -> Write:
    import ctranslate2

    translator = ctranslate2.Translator(str(folder), device="cpu", intra_threads=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def write(ids: list[int], count: int) -> list[int]:
        tokens = [tokenizer.convert_ids_to_tokens(ids)]
        (found,) = translator.translate_batch(tokens, beam_size=1, max_decoding_length=count)
        return tokenizer.convert_tokens_to_ids(found.hypotheses[0])

    return write


def ctranslate2(folder: Path) -> Write:
    import ctranslate2

    generator = ctranslate2.Generator(str(folder), device="cpu", intra_threads=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def write(ids: list[int], count: int) -> list[int]:
        options = {"max_length": count, "min_length": count, "sampling_topk": 1, "include_prompt_in_result": False}
        (found,) = generator.generate_batch([tokenizer.convert_ids_to_tokens(ids)], **options)
        return found.sequences_ids[0]

    return write


def llama_cpp(folder: Path) -> Write:
    import xllamacpp

    asked = xllamacpp.CommonParams()
    asked.model.path = str(folder / FILE)
    asked.n_ctx, asked.n_parallel, asked.verbosity = 512, 1, -1
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(asked)

    def write(ids: list[int], count: int) -> list[int]:
        options = {"max_tokens": count, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        answer = server.handle_completions({"prompt": ids, "return_tokens": True, "verbose": True} | options)
        return answer["__verbose"]["tokens"]

    return write


def measure(source: Path, prompt: str, count: int, rounds: int) -> dict[str, float]:
    """New tokens a second of the processor, of Trefoil and of each engine."""
    ids = AutoTokenizer.from_pretrained(source)(prompt).input_ids
    translates = AutoConfig.from_pretrained(source).is_encoder_decoder
    engines = {"ctranslate2": ctranslate2_of_source} if translates else {"ctranslate2": ctranslate2, "gguf": llama_cpp}
    with tempfile.TemporaryDirectory() as temporary:
        writers = {"Trefoil": (ours_of_source if translates else ours)(source)}
        for name, (to, quantization) in EXPORTS.items():
            if to in engines:
                folder = Path(temporary, name)
                export_for_engine(source, folder, to, quantization=quantization)
                writers[name] = engines[to](folder)
        written = {name: write(ids, count) for name, write in writers.items()}
        for name, tokens in written.items():
            if tokens != written["Trefoil"] and EXPORTS.get(name, (None, None))[1] is None:
                raise ValueError(f"{name} does not write what Trefoil writes")
        seconds: dict[str, list[float]] = {name: [] for name in writers}
        for _ in range(rounds):
            for name, write in writers.items():
                begun = time.process_time()  # who runs after a long turn of another would wait for other processes
                write(ids, count)
                seconds[name].append(time.process_time() - begun)
    return {name: len(written[name]) / median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompt", default="First Citizen:\n")
    parser.add_argument("--new-tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    found = measure(arguments.model, arguments.prompt, arguments.new_tokens, arguments.rounds)
    print("| | new tokens a second | of Trefoil's |", "|---|---:|---:|", sep="\n")
    for name, speed in found.items():
        print(f"| {name} | {speed:,.0f} | {speed / found['Trefoil']:.1f} |")


if __name__ == "__main__":
    main()
